package seeds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDNS answers from maps.
type fakeDNS struct {
	addrs   map[string][]string
	records map[string][]*net.SRV
	hangs   string // a name whose look-up waits for its context
	now     atomic.Int64
	most    atomic.Int64 // look-ups at once
}

func (f *fakeDNS) LookupNetIP(ctx context.Context, _, host string) (ips []netip.Addr, err error) {
	f.most.Store(max(f.most.Load(), f.now.Add(1)))
	defer f.now.Add(-1)
	time.Sleep(time.Millisecond)
	if host == f.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.addrs[host] == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, a := range f.addrs[host] {
		ips = append(ips, netip.MustParseAddr(a))
	}
	return ips, nil
}

func (f *fakeDNS) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if f.records[name] == nil || service+proto != "" {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return name, f.records[name], nil
}

// find returns what a seed gives, sorted within each call of found.
func find(t *testing.T, f Finder, text string) (calls [][]string, err error) {
	t.Helper()
	s, err := Parse(text, 7946)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Find(t.Context(), s, func(addrs []netip.AddrPort) {
		var call []string
		for _, a := range addrs {
			call = append(call, a.String())
		}
		slices.Sort(call)
		calls = append(calls, call)
	})
	return calls, err
}

// TestFindFamilies: a member tries the families that it reaches, and says why it tries no other.
func TestFindFamilies(t *testing.T) {
	dns := &fakeDNS{addrs: map[string][]string{
		"both": {"10.0.0.1", "2001:db8::1", "::ffff:10.0.0.2"}, "six": {"2001:db8::1"}, "none": {},
	}}
	for _, tt := range []struct{ local, seed, finds, says string }{
		{"10.0.0.9", "both", "10.0.0.1:7946 10.0.0.2:7946", ""},
		{"0.0.0.0", "both", "10.0.0.1:7946 10.0.0.2:7946", ""},
		{"2001:db8::9", "both", "[2001:db8::1]:7946", ""},
		{"::", "both", "10.0.0.1:7946 10.0.0.2:7946 [2001:db8::1]:7946", ""},
		{"", "both", "10.0.0.1:7946 10.0.0.2:7946 [2001:db8::1]:7946", ""},
		{"0.0.0.0", "six", "", "none of its 1 addresses is IPv4, and this member, bound to 0.0.0.0, reaches no other"},
		{"::1", "10.0.0.1", "", "IPv4, and this member, bound to ::1, reaches IPv6 alone"},
		{"10.0.0.9", "[::1]:80", "", "IPv6, and this member, bound to 10.0.0.9, reaches IPv4 alone"},
		{"::", "10.0.0.1", "10.0.0.1:7946", ""},
		{"10.0.0.9", "nowhere", "", "no such host"},
		{"10.0.0.9", "none", "", "no address"},
	} {
		f := Finder{Resolver: dns}
		if tt.local != "" {
			f.Local = netip.MustParseAddr(tt.local)
		}
		calls, err := find(t, f, tt.seed)
		if got := strings.Join(slices.Concat(calls...), " "); got != tt.finds {
			t.Errorf("%s from %s: %s, want %s", tt.seed, tt.local, got, tt.finds)
		}
		if (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s from %s: %v, want %q", tt.seed, tt.local, err, tt.says)
		}
	}
}

// TestFindBounds: of very many addresses some are tried, at random.
func TestFindBounds(t *testing.T) {
	dns := &fakeDNS{addrs: map[string][]string{}}
	for i := range 2 * MaxAddrs {
		dns.addrs["many"] = append(dns.addrs["many"], netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
	}
	first, err := find(t, Finder{Resolver: dns}, "many")
	again, _ := find(t, Finder{Resolver: dns}, "many")
	if err != nil || len(first[0]) != MaxAddrs || slices.Equal(first[0], again[0]) {
		t.Errorf("%d addresses, %v, want %d, and others at the next time", len(first[0]), err, MaxAddrs)
	}
}

// TestFindRecords: SRV records tell the ports; targets of a lower priority come first, and what is wrong with one is said and loses no other.
func TestFindRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{
			addrs: map[string][]string{"a.": {"10.0.0.1"}, "b.": {"10.0.0.2", "10.0.0.3"}, "c.": {"10.0.0.4"}},
			records: map[string][]*net.SRV{
				"_starling._tcp.peers": {
					{Target: "hangs.", Port: 1, Priority: 1}, {Target: "a.", Port: 81, Priority: 1}, {Target: ".", Port: 1, Priority: 1},
					{Target: "gone.", Port: 1, Priority: 2}, {Target: "b.", Port: 82, Priority: 2}, {Target: "c.", Port: 83, Priority: 3},
				},
				"off": {{Target: ".", Port: 0}},
			},
			hangs: "hangs.",
		}
		began := time.Now()
		calls, err := find(t, Finder{Resolver: dns, Local: netip.MustParseAddr("0.0.0.0")}, "dnssrv+_starling._tcp.peers")
		if want := "[[10.0.0.1:81] [10.0.0.2:82 10.0.0.3:82] [10.0.0.4:83]]"; fmt.Sprint(calls) != want {
			t.Errorf("found %v, want %s", calls, want)
		}
		for _, says := range []string{"target hangs.: context deadline exceeded", "target gone.: "} {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, which should say %q", err, says)
			}
		}
		if took := time.Since(began); took > lookupTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		for _, seed := range []string{"dnssrv+off", "dnssrv+nowhere"} {
			if calls, err := find(t, Finder{Resolver: dns}, seed); err == nil || calls != nil {
				t.Errorf("%s: %v, %v", seed, calls, err)
			}
		}
	})
}

// TestFindRecordsOfMany: a record for each of 1,000 members, a few looked up at once; and those of a name server that hangs end in time.
func TestFindRecordsOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{addrs: map[string][]string{}, records: map[string][]*net.SRV{}}
		for i := range 1000 {
			name := fmt.Sprintf("m%d.", i)
			dns.addrs[name] = []string{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()}
			dns.records["peers"] = append(dns.records["peers"], &net.SRV{Target: name, Port: 7946})
			dns.records["hanging"] = append(dns.records["hanging"], &net.SRV{Target: "hangs.", Port: 7946})
		}
		dns.hangs = "hangs."
		calls, err := find(t, Finder{Resolver: dns}, "dnssrv+peers")
		if most := dns.most.Load(); err != nil || len(calls) != 1000 || most > lookupsAtOnce {
			t.Errorf("%d of 1,000 targets, %v, %d looked up at once", len(calls), err, most)
		}
		began := time.Now()
		_, err = find(t, Finder{Resolver: dns}, "dnssrv+hanging")
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > findTimeout+time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if len(err.Error()) > 500 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
