package seeds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds one look-up of a name.
	lookupTimeout = 10 * time.Second
	// findTimeout bounds all look-ups of one seed.
	findTimeout = 30 * time.Second
	// lookupsAtOnce is how many names are looked up at once: targets of one seed's records, or seeds of one answer.
	lookupsAtOnce = 8
	// MaxAddrs is how many addresses of one seed are tried; of more, some at random.
	MaxAddrs = 1024
)

// Resolver asks DNS. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// A Finder finds the addresses of seeds. Its methods may be called concurrently.
type Finder struct {
	Resolver Resolver
	// Local is an address that this member is bound to: others of its family alone can be reached, or, from "::", all. Invalid: all too.
	Local netip.Addr
}

// Find gives found the addresses of a seed as they are found, never concurrently: what should be tried first first. It returns when all are, or
// what went wrong; even then there may be addresses. It takes 30 s at most.
func (f Finder) Find(ctx context.Context, s Seed, found func([]netip.AddrPort)) error {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	switch {
	case s.ip.IsValid():
		if !f.reaches(s.ip) {
			return fmt.Errorf("%s, and this member, bound to %v, reaches %s alone", family(s.ip), f.Local, family(f.Local))
		}
		found([]netip.AddrPort{netip.AddrPortFrom(s.ip, s.port)})
		return nil
	case s.port != 0:
		addrs, err := f.lookUp(ctx, s.host, s.port)
		if err == nil {
			found(addrs)
		}
		return err
	}
	return f.findRecords(ctx, s, found)
}

// reaches reports whether this member could reach an address by the family it is bound to.
func (f Finder) reaches(ip netip.Addr) bool {
	return !f.Local.IsValid() || f.Local.Is6() && f.Local.IsUnspecified() || ip.Is4() == f.Local.Unmap().Is4()
}

func family(ip netip.Addr) string {
	if ip.Unmap().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// lookUp returns the addresses of a name that this member could reach, at random.
func (f Finder) lookUp(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := f.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		if ip = ip.Unmap(); f.reaches(ip) {
			addrs = append(addrs, netip.AddrPortFrom(ip, port))
		}
	}
	switch {
	case len(ips) == 0:
		return nil, errors.New("the name has no address")
	case len(addrs) == 0:
		return nil, fmt.Errorf("none of its %d addresses is %s, and this member, bound to %v, reaches no other", len(ips), family(f.Local), f.Local)
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(len(addrs), MaxAddrs)], nil
}

// findRecords finds the addresses of the targets of a name's SRV records, those of one priority after those of another.
func (f Finder) findRecords(ctx context.Context, s Seed, found func([]netip.AddrPort)) error {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_, records, err := f.Resolver.LookupSRV(asking, "", "", s.host)
	records = slices.DeleteFunc(records, func(r *net.SRV) bool { return r.Port == 0 || strings.Trim(r.Target, ".") == "" })
	if len(records) == 0 {
		return cmp.Or(err, errors.New("the name has no SRV record with a target"))
	}
	// The resolver has put them in order, those of one priority at random by their weights.
	records = records[:min(len(records), MaxAddrs)]
	faults := []error{err}
	for len(records) > 0 {
		end := slices.IndexFunc(records, func(r *net.SRV) bool { return r.Priority != records[0].Priority })
		if end < 0 {
			end = len(records)
		}
		faults = append(faults, f.lookUpTargets(ctx, records[:end], found))
		records = records[end:]
	}
	return Few(faults)
}

// lookUpTargets looks the targets of records up.
func (f Finder) lookUpTargets(ctx context.Context, records []*net.SRV, found func([]netip.AddrPort)) error {
	var mu sync.Mutex // guards the calls of found
	return each(records, func(r *net.SRV) error {
		addrs, err := f.lookUp(ctx, r.Target, r.Port)
		if err != nil {
			return fmt.Errorf("target %s: %w", r.Target, err)
		}
		mu.Lock()
		defer mu.Unlock()
		found(addrs)
		return nil
	})
}

// FindAll is Find for many seeds: first, in one call, those that are addresses. An error of one loses no other.
func (f Finder) FindAll(ctx context.Context, all []Seed, found func([]netip.AddrPort)) error {
	var addrs []netip.AddrPort
	var faults []error
	names := slices.DeleteFunc(slices.Clone(all), func(s Seed) bool {
		if !s.ip.IsValid() {
			return false
		}
		faults = append(faults, named(s, f.Find(ctx, s, func(a []netip.AddrPort) { addrs = append(addrs, a...) })))
		return true
	})
	if len(addrs) > 0 {
		found(addrs)
	}
	var mu sync.Mutex // guards the calls of found
	faults = append(faults, each(names, func(s Seed) error {
		return named(s, f.Find(ctx, s, func(a []netip.AddrPort) {
			mu.Lock()
			defer mu.Unlock()
			found(a)
		}))
	}))
	return Few(faults)
}

func named(s Seed, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", s.Text, err)
	}
	return err
}

// each calls look for each of the things, a few at once, and returns what went wrong.
func each[T any](all []T, look func(T) error) error {
	var mu sync.Mutex // guards faults
	var faults []error
	var done sync.WaitGroup
	slots := make(chan struct{}, lookupsAtOnce)
	for _, one := range all {
		slots <- struct{}{}
		done.Go(func() {
			defer func() { <-slots }()
			if err := look(one); err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, err)
			}
		})
	}
	done.Wait()
	return Few(faults)
}

// few is how many errors are told in full.
const few = 4

// Few joins errors, of which some may be nil, in one line that tells the first ones and counts the others: of 1,000 addresses that refuse,
// some tell enough.
func Few(errs []error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fewErrors(errs)
}

type fewErrors []error

func (e fewErrors) Error() string {
	var texts []string
	for _, err := range e[:min(len(e), few)] {
		texts = append(texts, err.Error())
	}
	if len(e) > few {
		texts = append(texts, fmt.Sprintf("and %d more", len(e)-few))
	}
	return strings.Join(texts, "; ")
}

func (e fewErrors) Unwrap() []error { return e }
