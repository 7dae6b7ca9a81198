package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What the tests of the contract under a changing membership share (contract_*_test.go). Each of them states in its comment
// what is done, what came out at commit 13b025a, and what is right.

// contract is a cluster of m0, m1, … on the in-memory network, in a bubble of virtual time. Every member has one channel open.
type contract struct {
	*starlingtest.Lab
	t *testing.T

	mu   sync.Mutex
	runs map[string]*contractRun // the latest run of each member, by its name on the network
	ids  int                     // messages made so far
}

// contractOptions change how members are made. The zero value: the default configuration, on links of 1 ms with half jitter.
type contractOptions struct {
	link    starlingtest.Link
	config  func(name string, c *starling.Config)
	channel func(name string) *starling.ChannelOptions[[]byte]
}

// contractRun is one run of one member, and what it was given and told.
type contractRun struct {
	*starling.Cluster
	c    *contract
	name string
	ch   *starling.Channel[[]byte]

	mu     sync.Mutex
	given  map[string]int    // how often the handler was given a message, by its id
	seqs   map[string]uint64 // of broadcast messages that the handler was given, by id
	failed []contractFailure
	gaps   map[uint64]map[uint64]int // how often a seq was reported missing, by origin
}

// contractFailure is a member that was seen to fail.
type contractFailure struct {
	member string
	at     time.Time
}

// inContract runs body with n members who all see each other.
func inContract(t *testing.T, n int, o contractOptions, body func(t *testing.T, c *contract)) {
	t.Helper()
	c := &contract{runs: map[string]*contractRun{}}
	options := starlingtest.Options{
		Link: o.link,
		Config: func(name string) (cfg starling.Config) {
			if o.config != nil {
				o.config(name, &cfg)
			}
			return cfg
		},
		Open: func(m *starlingtest.Member) error {
			var channel *starling.ChannelOptions[[]byte]
			if o.channel != nil {
				channel = o.channel(m.Name)
			}
			_, err := c.open(m.Name, m.Name, m.Cluster, channel)
			return err
		},
	}
	starlingtest.Run(t, n, options, func(t *testing.T, l *starlingtest.Lab) {
		c.t, c.Lab = t, l
		defer c.closeAll()
		body(t, c)
	})
}

// closeAll closes those too that the Lab did not make.
func (c *contract) closeAll() {
	for _, r := range c.runs {
		r.Close()
	}
}

// open opens the channel of a new run of a member; host is its name on the network.
func (c *contract) open(host, name string, cl *starling.Cluster, o *starling.ChannelOptions[[]byte]) (*contractRun, error) {
	r := &contractRun{
		Cluster: cl, c: c, name: name,
		given: map[string]int{}, seqs: map[string]uint64{}, gaps: map[uint64]map[uint64]int{},
	}
	go r.watch()
	var err error
	r.ch, err = starling.NewChannelOf(cl, "contract", r.handle, starling.Bytes(), o)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs[host] = r
	return r, err
}

// outside makes a member that the Lab does not know and that has not joined. host is its name on the network, name the one it
// has in the cluster, and addr its address, "" for a new one or the one that host had before.
func (c *contract) outside(host, name, addr string, alter func(*starling.Config)) *contractRun {
	c.t.Helper()
	tr, err := c.Net.Transport(host)
	if addr != "" {
		tr, err = c.Net.TransportAt(host, netip.MustParseAddrPort(addr))
	}
	c.Must(err)
	cfg := starling.Config{Name: name, Transport: tr, Logger: slog.New(slog.DiscardHandler)}
	if alter != nil {
		alter(&cfg)
	}
	cl, err := starling.New(cfg)
	c.Must(err)
	r, err := c.open(host, name, cl, nil)
	c.Must(err)
	return r
}

// run returns the latest run of a member, by its name on the network.
func (c *contract) run(host string) *contractRun {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runs[host]
	if r == nil {
		c.t.Fatalf("no member %q", host)
	}
	return r
}

// all returns the latest runs of the given members; without names, of those that run in the Lab.
func (c *contract) all(names ...string) (runs []*contractRun) {
	c.t.Helper()
	if len(names) == 0 {
		names = c.Names()
	}
	for _, name := range names {
		runs = append(runs, c.run(name))
	}
	return runs
}

// address is where a member is joined.
func (c *contract) address(name string) string {
	c.t.Helper()
	addr, err := c.Net.Addr(name)
	c.Must(err)
	return addr.String()
}

// message makes a message that no other is like, and its id.
func (c *contract) message(size int) (id string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids++
	id = fmt.Sprintf("message%d", c.ids)
	return id, append([]byte(id+" "), bytes.Repeat([]byte("."), max(0, size-len(id)-1))...)
}

// timeout returns a context that ends after d.
func (c *contract) timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	c.t.Cleanup(cancel)
	return ctx
}

// becomes waits until ok reports true, for limit at most, and returns how long that took and whether it came true.
func (c *contract) becomes(limit time.Duration, ok func() bool) (took time.Duration, came bool) {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if took := time.Since(began); ok() || took >= limit {
			return took, took < limit
		}
	}
}

// broadcast broadcasts a message of a size, and returns its id.
func (r *contractRun) broadcast(size int) (id string) {
	r.c.t.Helper()
	id, payload := r.c.message(size)
	r.c.Must(r.ch.Broadcast(context.Background(), payload))
	return id
}

// send sends a message of a size to one member.
func (r *contractRun) send(limit time.Duration, to string, size int) (id string, err error) {
	id, payload := r.c.message(size)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return id, r.ch.Send(ctx, to, payload)
}

func (r *contractRun) handle(_ context.Context, m starling.Message[[]byte]) {
	id, _, _ := strings.Cut(string(m.Value), " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given[id]++
	r.seqs[id] = m.Seq
}

func (r *contractRun) watch() {
	for e := range r.Events(context.Background()) {
		r.mu.Lock()
		switch e.Kind {
		case starling.EventFailed:
			r.failed = append(r.failed, contractFailure{e.Member.Name, time.Now()})
		case starling.EventGap:
			seqs := r.gaps[e.Gap.Origin.ID]
			if seqs == nil {
				seqs = map[uint64]int{}
				r.gaps[e.Gap.Origin.ID] = seqs
			}
			for seq := e.Gap.First; seq <= e.Gap.Last && seq-e.Gap.First < 100_000; seq++ {
				seqs[seq]++
			}
		}
		r.mu.Unlock()
	}
}

// times returns how often the handler was given a message.
func (r *contractRun) times(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given[id]
}

// lacks returns how many of the messages the handler was not given.
func (r *contractRun) lacks(ids []string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if r.given[id] == 0 {
			n++
		}
	}
	return n
}

// seq returns the number of a broadcast message that the handler was given; 0 if it was not.
func (r *contractRun) seq(id string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seqs[id]
}

// told returns how many messages of an origin were reported missing.
func (r *contractRun) told(origin uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.gaps[origin])
}

// toldOf reports whether a seq of an origin was reported missing.
func (r *contractRun) toldOf(origin, seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gaps[origin][seq] > 0
}

// failures returns how often a member was seen to fail, and when the last time.
func (r *contractRun) failures(member string) (n int, last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.failed {
		if f.member == member {
			n, last = n+1, f.at
		}
	}
	return n, last
}

// sees reports whether a member of that name is alive to this one.
func (r *contractRun) sees(name string) bool {
	return slices.ContainsFunc(r.Members(), func(m starling.Member) bool { return m.Name == name })
}

// seesRun reports whether this run of a member is alive to this one.
func (r *contractRun) seesRun(o *contractRun) bool {
	id := o.Self().ID
	return slices.ContainsFunc(r.Members(), func(m starling.Member) bool { return m.ID == id })
}

// once fails the test for each of the members whose handler was not given each of the messages exactly once, or not within
// limit, and for gaps.
func (c *contract) once(limit time.Duration, ids []string, members ...*contractRun) {
	c.t.Helper()
	c.becomes(limit, func() bool {
		return !slices.ContainsFunc(members, func(r *contractRun) bool { return r.lacks(ids) > 0 })
	})
	for _, r := range members {
		if n := r.lacks(ids); n > 0 {
			c.t.Errorf("%s lacks %d of %d messages %v later, and %d are reported missing", r.name, n, len(ids), limit, r.Stats().Lost)
		} else if n := r.Stats().Lost; n > 0 {
			c.t.Errorf("%s lacks nothing, and %d messages are reported missing", r.name, n)
		}
		twice := 0
		for _, id := range ids {
			if r.times(id) > 1 {
				twice++
			}
		}
		if twice > 0 {
			c.t.Errorf("%s was given %d of %d messages more than once", r.name, twice, len(ids))
		}
	}
}

// lossy makes every link lose packets.
func lossy(c *contract, loss float64) {
	c.t.Helper()
	link, err := c.Net.Link("m0", "m1")
	c.Must(err)
	link.Loss = loss
	c.Must(c.Net.SetDefault(link))
}

// isGone reports whether an error of Send says that the member, or that run of it, is gone.
func isGone(err error) bool {
	var refused *starling.SendError
	return errors.As(err, &refused) && (refused.Reason == starling.SendMemberGone || refused.Reason == starling.SendUnknown)
}

// namesOneOf reports whether an error names one of the members, by name or address.
func (c *contract) namesOneOf(err error, members ...string) bool {
	c.t.Helper()
	return err != nil && slices.ContainsFunc(members, func(name string) bool {
		return strings.Contains(err.Error(), name) || strings.Contains(err.Error(), c.address(name))
	})
}

// confirmMissing returns the members that the error of Confirm says lack a message, with the reason, by name.
func confirmMissing(t *testing.T, err error) map[string]string {
	t.Helper()
	missing := map[string]string{}
	var u *starling.UnconfirmedError
	if errors.As(err, &u) {
		for _, m := range u.Missing {
			missing[m.Member.Name] = m.Reason.String()
		}
	} else if err != nil {
		t.Errorf("Confirm: %v", err)
	}
	return missing
}

// handled makes Confirm wait for the handlers, or for what is held.
func handled(yes bool) *starling.ConfirmOptions { return &starling.ConfirmOptions{Handled: yes} }

// blind makes a member never notice that another one fails. It is told of failures by others all the same.
func blind(m *memberlist.Config) { m.ProbeInterval = time.Hour }
