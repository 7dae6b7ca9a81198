package starlingstatus

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

// fake is a source that is what the test says. What pages have that listen is changed by set.
type fake struct {
	mu       sync.Mutex
	members  []starling.Member
	stats    starling.Stats
	health   starling.Health
	keys     starling.KeyringStatus
	contacts starling.Contacts
	confirm  func(context.Context) error
	send     func(context.Context, starling.Member) error
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func get[T any](f *fake, field func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return field()
}

func (f *fake) Self() starling.Member {
	return get(f, func() starling.Member { return f.members[0] })
}

func (f *fake) Members() []starling.Member {
	return get(f, func() []starling.Member { return slices.Clone(f.members) })
}

func (f *fake) Stats() starling.Stats { return get(f, func() starling.Stats { return f.stats }) }

func (f *fake) Health() starling.Health { return get(f, func() starling.Health { return f.health }) }

func (f *fake) Keys() starling.KeyringStatus {
	return get(f, func() starling.KeyringStatus { return f.keys })
}

func (f *fake) Contacts() starling.Contacts {
	return get(f, func() starling.Contacts { return f.contacts })
}

func (f *fake) Confirm(ctx context.Context) error { return f.confirm(ctx) }

func (f *fake) Send(ctx context.Context, m starling.Member) error { return f.send(ctx, m) }

// manyMembers is a source of n members, as they are in a cluster that works, with some of everything else.
func manyMembers(n int) *fake {
	f := &fake{stats: starling.Stats{
		Members: n, Channels: map[string]starling.ChannelStats{}, Dropped: map[starling.Drop]uint64{},
		Queue: starling.QueueStats{Messages: 3, Bytes: 4711, Oldest: 20 * time.Millisecond}, Lost: 2, Relayed: 12345678, Repaired: 41,
	}}
	for i := range n {
		f.members = append(f.members, starling.Member{
			Name: fmt.Sprintf("price-server-%04d", i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 7946),
			ID: uint64(i)<<32 + 77, Version: 1, RTT: time.Duration(i+1) * time.Microsecond, Meta: []byte(fmt.Sprintf("zone-%d", i%3)),
		})
	}
	for i := range 30 {
		f.stats.Channels[fmt.Sprintf("channel-%02d", i)] = starling.ChannelStats{
			Accepted: 1000, Sent: 990, Superseded: 4, Received: 1234567, Duplicates: 5, Delivered: 1234560, Inbox: 7, HandlerTime: time.Minute,
			Running: 11 * time.Second, Differing: 1, Dropped: map[starling.Drop]uint64{starling.DropLate: 3, starling.DropUndecodable: 1},
		}
	}
	for d := starling.DropMalformed; d <= starling.DropPacketFailed; d++ {
		f.stats.Dropped[d] = uint64(d) + 1
	}
	f.health = starling.Health{Members: n, Silent: f.members[n/2 : n/2+n/50+1]}
	return f
}

// pageOf returns the handler of a source, in which enough has happened.
func pageOf(f *fake) *page {
	p := newPage(f, withDefaults(nil), ProbeOptions{Channel: DefaultProbeChannel})
	for i := range 2 * maxRecent {
		of := f.members[i%len(f.members)]
		p.recent.note(time.Unix(int64(i), 0), starling.Event{Kind: starling.EventFailed, Member: of})
		p.recent.note(time.Unix(int64(i), 0), starling.Event{Kind: starling.EventGap, Gap: starling.Gap{Origin: of, First: 1, Last: uint64(i)}})
	}
	return p
}

// ask returns the answer to a request, whose headers come in pairs.
func ask(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// want returns an error that says which of the texts are not in s.
func want(s string, texts ...string) error {
	var missing []string
	for _, t := range texts {
		if !strings.Contains(s, t) {
			missing = append(missing, t)
		}
	}
	if missing != nil {
		return fmt.Errorf("without %q:\n%.3000s", missing, s)
	}
	return nil
}
