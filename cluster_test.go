package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// TestCluster takes clusters of several sizes through everything that a member may do.
func TestCluster(t *testing.T) {
	for _, n := range []int{3, 5, 20} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			f := newLife(t, n)
			f.small(t)
			f.oversized(t)
			f.send(t)
			f.supersede(t)
			f.depart(t)
			f.comeBack(t)
		})
	}
}

// life is a cluster with a channel of texts, one of bytes and one that supersedes, and with eyes on the membership.
type life struct {
	members []*starling.Cluster
	texts   []*starling.Channel[text]
	heard   []*recorder[text]
	blobs   []*starling.Channel[[]byte]
	held    []*recorder[[]byte]
	flags   []*starling.Channel[text]
	flagged []*recorder[text]
	events  *watcher // of the first member
}

func newLife(t *testing.T, n int) *life {
	f := &life{members: flock(t, n, nil)}
	f.texts, f.heard = channels(t, f.members, "texts", nil)
	f.flags, f.flagged = channels(t, f.members, "flags", &starling.ChannelOptions[text]{
		Supersede: func(v text) string { return v.GetValue()[:1] },
	})
	for _, c := range f.members {
		r := new(recorder[[]byte])
		ch, err := starling.NewChannelOf(c, "blobs", r.handle, starling.Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		f.blobs, f.held = append(f.blobs, ch), append(f.held, r)
	}
	f.events = watch(t, f.members[0])
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the first member's events: %v, stats: %+v", f.events.all(), f.members[0].Stats())
		}
	})
	join(t, f.members...)
	return f
}

// small: every member says something, every other hears it once, from whom it came.
func (f *life) small(t *testing.T) {
	var said []string
	for i, ch := range f.texts {
		said = append(said, fmt.Sprint("hello from ", i))
		if err := ch.Broadcast(soon(t), say(said[i])); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range f.heard {
		hears(t, f.members[i].Self().Name, r, slices.Concat(said[:i], said[i+1:])...)
		for _, m := range r.messages() {
			if want := fmt.Sprintf("hello from %d", slices.IndexFunc(f.members, func(c *starling.Cluster) bool {
				return c.Self().Name == m.From.Name
			})); m.Value.GetValue() != want {
				t.Errorf("%q came from %q", m.Value.GetValue(), m.From.Name)
			}
			if m.Via > starling.Repair || m.Seq != 1 || m.Age < 0 || m.Age > patience {
				t.Errorf("%q: via %v, seq %d, age %v", m.Value.GetValue(), m.Via, m.Seq, m.Age)
			}
		}
	}
}

// oversized: what does not fit half a packet arrives byte for byte, by streams.
func (f *life) oversized(t *testing.T) {
	blob := make([]byte, 300_000)
	for i := range blob {
		blob[i] = byte(rand.Uint32())
	}
	sent := bytes.Clone(blob)
	if err := f.blobs[0].Broadcast(soon(t), blob); err != nil {
		t.Fatal(err)
	}
	clear(blob) // it is the caller's again
	for i, r := range f.held[1:] {
		eventually(t, fmt.Sprintf("member %d has the blob", i+1), func() bool { return r.count() > 0 })
		if m := r.messages()[0]; !bytes.Equal(m.Value, sent) || m.Via != starling.Stream && m.Via != starling.Repair || m.From.Name != "m00" {
			t.Errorf("member %d: %d bytes (equal: %v) by %v from %q", i+1, len(m.Value), bytes.Equal(m.Value, sent), m.Via, m.From.Name)
		}
	}
}

// send: one member gets it, small and large, and nobody else does.
func (f *life) send(t *testing.T) {
	last := len(f.members) - 1
	before := f.heard[last].count()
	large := string(bytes.Repeat([]byte("large "), 50_000))
	for _, s := range []string{"for you alone", large} {
		if err := f.texts[1].Send(soon(t), f.members[last].Self().Name, say(s)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both arrive", func() bool { return f.heard[last].count() == before+2 })
	got := f.heard[last].messages()[before:]
	slices.SortFunc(got, func(a, b starling.Message[text]) int { return len(a.Value.GetValue()) - len(b.Value.GetValue()) })
	for i, want := range []string{"for you alone", large} {
		if m := got[i]; m.Value.GetValue() != want || m.Via != starling.Direct || m.From.Name != "m01" || m.Seq != 0 {
			t.Errorf("%.20q by %v from %q, seq %d", m.Value.GetValue(), m.Via, m.From.Name, m.Seq)
		}
	}
	for i, r := range f.heard[:last] {
		if n := r.count(); n != len(f.members)-1 {
			t.Errorf("member %d heard %d messages, want %d", i, n, len(f.members)-1)
		}
	}
}

// supersede: the newest of each name reaches everyone, and all that was accepted is accounted for.
func (f *life) supersede(t *testing.T) {
	const versions = 200
	for v := range versions {
		for _, name := range []string{"a", "b"} {
			if err := f.flags[0].Broadcast(soon(t), say(fmt.Sprint(name, v))); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := []string{fmt.Sprint("a", versions-1), fmt.Sprint("b", versions-1)}
	for i, r := range f.flagged[1:] {
		for _, want := range newest {
			eventually(t, fmt.Sprintf("member %d hears %s", i+1, want), func() bool { return slices.Contains(heard(r), want) })
		}
	}
	s := f.members[0].Stats().Channels["flags"]
	if s.Accepted != 2*versions || s.Sent+s.Superseded != s.Accepted || s.Superseded == 0 {
		t.Errorf("accepted %d, sent %d, superseded %d", s.Accepted, s.Sent, s.Superseded)
	}
}

// depart: the last member leaves and the one before it crashes, and the first can tell.
func (f *life) depart(t *testing.T) {
	n := len(f.members)
	if err := f.members[n-1].Leave(soon(t)); err != nil {
		t.Errorf("Leave: %v", err)
	}
	if err := f.members[n-2].Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for i := n - 2; i < n; i++ {
		f.events.sees(t, f.members[i].Self().Name, starling.Joined, f.departure(i))
	}
	allSee(t, f.members[:n-2]...)
}

// departure is how member i went.
func (f *life) departure(i int) starling.EventKind {
	if i == len(f.members)-1 {
		return starling.Left
	}
	return starling.Failed
}

// comeBack: both return under their names, at new addresses, and take part again.
func (f *life) comeBack(t *testing.T) {
	n := len(f.members)
	for i := n - 2; i < n; i++ {
		was := f.members[i].Self()
		f.members[i] = start(t, config(t, was.Name))
		f.texts[i], f.heard[i] = channel(t, f.members[i], "texts", nil)
		if err := f.members[i].Join(soon(t), addr(f.members[0])); err != nil {
			t.Fatal(err)
		}
	}
	allSee(t, f.members...)
	for i := n - 2; i < n; i++ {
		self := f.members[i].Self()
		// Until memberlist lets a crashed name go, its new run is refused: conflicts. And what is still told of the old run
		// may be held against the new one, until that denies it.
		came := func() []starling.EventKind {
			return slices.DeleteFunc(f.events.of(self.Name), func(k starling.EventKind) bool { return k == starling.Conflict })
		}
		eventually(t, self.Name+" is told to have come back", func() bool { n := len(came()); return n > 2 && came()[n-1] == starling.Joined })
		if kinds := came(); kinds[0] != starling.Joined || kinds[1] != f.departure(i) || kinds[2] != starling.Joined {
			t.Errorf("%s came back: events %v", self.Name, kinds)
		}
		for _, m := range f.members[0].Members() {
			if m.Name == self.Name && (m.Addr != self.Addr || m.ID != self.ID) {
				t.Errorf("the first member sees %+v, it is %+v", m, self)
			}
		}
	}
	if err := f.texts[0].Broadcast(soon(t), say("welcome back")); err != nil {
		t.Fatal(err)
	}
	hears(t, "the crashed", f.heard[n-2], "welcome back")
	hears(t, "the departed", f.heard[n-1], "welcome back")
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	key, old := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	members := flock(t, 3, func(i int, c *starling.Config) {
		c.Keys = [][]byte{key, old}
		if i == 2 {
			c.Keys = [][]byte{old, key} // sends by another key, which all know
		}
	})
	chs, rs := channels(t, members, "secret", nil)
	join(t, members...)
	large := string(bytes.Repeat([]byte("x"), 5000))
	if err := errors.Join(chs[2].Broadcast(soon(t), say("small")), chs[2].Broadcast(soon(t), say(large))); err != nil {
		t.Fatal(err)
	}
	hears(t, "m00", rs[0], "small", large)
	hears(t, "m01", rs[1], "small", large)
	if err := chs[0].Send(soon(t), "m02", say("direct")); err != nil {
		t.Fatal(err)
	}
	hears(t, "m02", rs[2], "direct")
}

func TestSetMeta(t *testing.T) {
	t.Parallel()
	members := flock(t, 2, func(i int, c *starling.Config) { c.Meta = []byte("first") })
	join(t, members...)
	events := watch(t, members[0])
	events.sees(t, "m01", starling.Joined)
	meta := []byte("second")
	if err := members[1].SetMeta(soon(t), meta); err != nil {
		t.Fatal(err)
	}
	meta[0] = 'X' // it is the caller's again
	events.sees(t, "m01", starling.Joined, starling.Updated)
	if got := members[0].Members()[1].Meta; string(got) != "second" {
		t.Errorf("metadata is %q", got)
	}
	if got := members[1].Self().Meta; string(got) != "second" {
		t.Errorf("own metadata is %q", got)
	}
	var fault *starling.ConfigError
	err := members[1].SetMeta(soon(t), make([]byte, starling.MaxMetaSize+1))
	if !errors.As(err, &fault) || fault.Field != "meta" {
		t.Errorf("too much metadata: %v", err)
	}
	if err := members[1].SetMeta(soon(t), make([]byte, starling.MaxMetaSize)); err != nil {
		t.Errorf("as much metadata as allowed: %v", err)
	}
}

// TestMembersAreValues: writing to what Members and Self return changes nothing.
func TestMembersAreValues(t *testing.T) {
	c := start(t, func() starling.Config { cfg := config(t, "a"); cfg.Meta = []byte("meta"); return cfg }())
	c.Self().Meta[0], c.Members()[0].Meta[0] = 'X', 'X'
	for e := range c.Events(t.Context()) {
		e.Member.Meta[0] = 'X'
		break
	}
	if got := c.Self().Meta; string(got) != "meta" {
		t.Errorf("metadata is %q", got)
	}
}

func TestRoundTripTime(t *testing.T) {
	t.Parallel()
	members := flock(t, 2, nil)
	join(t, members...)
	eventually(t, "a round trip is measured", func() bool { return members[0].Members()[1].RTT > 0 })
}

func TestPosition(t *testing.T) {
	t.Parallel()
	members := flock(t, 3, nil)
	if i, of := members[2].Position(); i != 0 || of != 1 {
		t.Errorf("alone: %d of %d", i, of)
	}
	join(t, members...)
	for want, c := range members {
		if i, of := c.Position(); i != want || of != 3 {
			t.Errorf("m%02d: %d of %d", want, i, of)
		}
	}
}

// TestRestartInPlace: a new run of a member at its address is a failure and a join, though memberlist reports an update.
func TestRestartInPlace(t *testing.T) {
	t.Parallel()
	members := flock(t, 2, func(_ int, c *starling.Config) {
		c.Tune = func(m *memberlist.Config) {
			quick(m)
			m.ProbeInterval = patience // the crash itself is not noticed
		}
	})
	join(t, members...)
	events := watch(t, members[0])
	events.sees(t, "m01", starling.Joined)
	was := members[1].Self()
	if err := members[1].Close(); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, "m01")
	cfg.BindAddr = was.Addr.String()
	again := start(t, cfg)
	if err := again.Join(soon(t), addr(members[0])); err != nil {
		t.Fatal(err)
	}
	events.sees(t, "m01", starling.Joined, starling.Failed, starling.Joined)
	if id := members[0].Members()[1].ID; id == was.ID || id != again.Self().ID {
		t.Errorf("id %x, was %x, is %x", id, was.ID, again.Self().ID)
	}
}

// TestCallbacksMayCall: handlers and loops over Events call whatever they like, except what waits for them.
func TestCallbacksMayCall(t *testing.T) {
	t.Parallel()
	members := flock(t, 2, nil)
	a, b := members[0], members[1]
	answers, heardA := channel(t, a, "answers", nil)
	var back *starling.Channel[text]
	returned := make(chan struct{}, 1)
	_, err := starling.NewChannel(b, "questions", func(ctx context.Context, m starling.Message[text]) {
		if len(b.Members()) != 2 || b.Self().Name != "m01" || b.Stats().Members != 2 {
			t.Errorf("in a handler: %v", b.Members())
		}
		b.Position()
		if err := errors.Join(
			back.Broadcast(ctx, say("broadcast")), back.TryBroadcast(say("tried")),
			back.Send(ctx, m.From.Name, say("sent")), back.Flush(ctx), b.SetMeta(ctx, []byte("meta")),
		); err != nil {
			t.Errorf("in a handler: %v", err)
		}
		returned <- struct{}{}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	back, _ = channel(t, b, "answers", nil)
	questions, _ := channel(t, a, "questions", nil)

	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range a.Events(ctx) {
			if e.Member.Name != "m01" {
				continue
			}
			if e.Kind == starling.Updated {
				cancel() // the handler has come to its end
				continue
			}
			for len(a.Members()) != 2 || a.Stats().Members != 2 {
				t.Errorf("in a loop over events: %v", a.Members())
			}
			if err := errors.Join(questions.Broadcast(ctx, say("?")), answers.TryBroadcast(say("!"))); err != nil {
				t.Errorf("in a loop over events: %v", err)
			}
		}
	})
	join(t, members...)
	wg.Wait()
	hears(t, "m00", heardA, "broadcast", "tried", "sent")
	arrives(t, "the handler returns", returned)
	if ctx.Err() != context.Canceled {
		t.Error(ctx.Err())
	}
}
