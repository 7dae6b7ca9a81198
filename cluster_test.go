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
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// TestCluster takes clusters of several sizes through everything that a member may do.
func TestCluster(t *testing.T) {
	for _, n := range []int{3, 5, 20} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			ct := newClusterTest(t, n)
			ct.small(t)
			ct.oversized(t)
			ct.send(t)
			ct.supersede(t)
			ct.depart(t)
			ct.comeBack(t)
		})
	}
}

// clusterTest is a cluster with a channel of texts, one of bytes and one that supersedes. It records what handlers are given, and
// the events of the first member.
type clusterTest struct {
	members []*starling.Cluster
	texts   []*starling.Channel[text]
	heard   []*recorder[text]
	blobs   []*starling.Channel[[]byte]
	held    []*recorder[[]byte]
	flags   []*starling.Channel[text]
	flagged []*recorder[text]
	events  *watcher // of the first member
}

func newClusterTest(t *testing.T, n int) *clusterTest {
	ct := &clusterTest{members: startMembers(t, n, nil)}
	ct.texts, ct.heard = channels(t, ct.members, "texts", nil)
	ct.flags, ct.flagged = channels(t, ct.members, "flags", &starling.ChannelOptions[text]{
		Supersede: func(v text) string { return v.GetValue()[:1] },
	})
	for _, c := range ct.members {
		r := new(recorder[[]byte])
		ch, err := starling.NewChannelOf(c, "blobs", r.handle, starling.Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ct.blobs, ct.held = append(ct.blobs, ch), append(ct.held, r)
	}
	ct.events = watch(t, ct.members[0])
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the first member's events: %v, stats: %+v", ct.events.all(), ct.members[0].Stats())
		}
	})
	join(t, ct.members...)
	return ct
}

// small: every member says something, every other hears it once, from whom it came.
func (ct *clusterTest) small(t *testing.T) {
	var said []string
	for i, ch := range ct.texts {
		said = append(said, fmt.Sprint("hello from ", i))
		if err := ch.Broadcast(soon(t), say(said[i])); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range ct.heard {
		hears(t, ct.members[i].Self().Name, r, slices.Concat(said[:i], said[i+1:])...)
		for _, m := range r.messages() {
			if want := fmt.Sprintf("hello from %d", slices.IndexFunc(ct.members, func(c *starling.Cluster) bool {
				return c.Self().Name == m.From.Name
			})); m.Value.GetValue() != want {
				t.Errorf("%q came from %q", m.Value.GetValue(), m.From.Name)
			}
			if m.Via > starling.ViaRepair || m.Seq != 1 || m.Age < 0 || m.Age > patience {
				t.Errorf("%q: via %v, seq %d, age %v", m.Value.GetValue(), m.Via, m.Seq, m.Age)
			}
		}
	}
}

// oversized: what does not fit half a packet arrives byte for byte, by streams.
func (ct *clusterTest) oversized(t *testing.T) {
	blob := make([]byte, 300_000)
	for i := range blob {
		blob[i] = byte(rand.Uint32())
	}
	sent := bytes.Clone(blob)
	if err := ct.blobs[0].Broadcast(soon(t), blob); err != nil {
		t.Fatal(err)
	}
	clear(blob) // it is the caller's again
	for i, r := range ct.held[1:] {
		eventually(t, fmt.Sprintf("member %d has the blob", i+1), func() bool { return r.count() > 0 })
		m := r.messages()[0]
		if !bytes.Equal(m.Value, sent) || m.Via != starling.ViaStream && m.Via != starling.ViaRepair || m.From.Name != "m00" {
			t.Errorf("member %d: %d bytes (equal: %v) by %v from %q", i+1, len(m.Value), bytes.Equal(m.Value, sent), m.Via, m.From.Name)
		}
	}
}

// send: one member gets it, small and large, and nobody else does.
func (ct *clusterTest) send(t *testing.T) {
	last := len(ct.members) - 1
	before := ct.heard[last].count()
	large := string(bytes.Repeat([]byte("large "), 50_000))
	for _, s := range []string{"for you alone", large} {
		if err := ct.texts[1].Send(soon(t), ct.members[last].Self().Name, say(s)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both arrive", func() bool { return ct.heard[last].count() == before+2 })
	got := ct.heard[last].messages()[before:]
	slices.SortFunc(got, func(a, b starling.Message[text]) int { return len(a.Value.GetValue()) - len(b.Value.GetValue()) })
	for i, want := range []string{"for you alone", large} {
		if m := got[i]; m.Value.GetValue() != want || m.Via != starling.ViaDirect || m.From.Name != "m01" || m.Seq != 0 {
			t.Errorf("%.20q by %v from %q, seq %d", m.Value.GetValue(), m.Via, m.From.Name, m.Seq)
		}
	}
	for i, r := range ct.heard[:last] {
		if n := r.count(); n != len(ct.members)-1 {
			t.Errorf("member %d heard %d messages, want %d", i, n, len(ct.members)-1)
		}
	}
}

// supersede: the newest of each name reaches everyone, and all that was accepted is accounted for.
func (ct *clusterTest) supersede(t *testing.T) {
	const versions = 200
	for v := range versions {
		for _, name := range []string{"a", "b"} {
			if err := ct.flags[0].Broadcast(soon(t), say(fmt.Sprint(name, v))); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := []string{fmt.Sprint("a", versions-1), fmt.Sprint("b", versions-1)}
	for i, r := range ct.flagged[1:] {
		for _, want := range newest {
			eventually(t, fmt.Sprintf("member %d hears %s", i+1, want), func() bool { return slices.Contains(heard(r), want) })
		}
	}
	s := ct.members[0].Stats().Channels["flags"]
	if s.Accepted != 2*versions || s.Sent+s.Superseded != s.Accepted || s.Superseded == 0 {
		t.Errorf("accepted %d, sent %d, superseded %d", s.Accepted, s.Sent, s.Superseded)
	}
}

// depart: the last member leaves and the one before it crashes, and the first can tell.
func (ct *clusterTest) depart(t *testing.T) {
	n := len(ct.members)
	if err := ct.members[n-1].Leave(soon(t)); err != nil {
		t.Errorf("Leave: %v", err)
	}
	if err := ct.members[n-2].Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for i := n - 2; i < n; i++ {
		ct.events.sees(t, ct.members[i].Self().Name, starling.EventJoined, ct.departure(i))
	}
	allSee(t, ct.members[:n-2]...)
}

// departure is how member i went.
func (ct *clusterTest) departure(i int) starling.EventKind {
	if i == len(ct.members)-1 {
		return starling.EventLeft
	}
	return starling.EventFailed
}

// comeBack: both return under their names, at new addresses, and take part again.
func (ct *clusterTest) comeBack(t *testing.T) {
	n := len(ct.members)
	for i := n - 2; i < n; i++ {
		was := ct.members[i].Self()
		ct.members[i] = start(t, config(t, was.Name))
		ct.texts[i], ct.heard[i] = channel(t, ct.members[i], "texts", nil)
		if err := ct.members[i].Join(soon(t), addr(ct.members[0])); err != nil {
			t.Fatal(err)
		}
	}
	allSee(t, ct.members...)
	for i := n - 2; i < n; i++ {
		self := ct.members[i].Self()
		// Until memberlist lets a crashed name go, its new run is refused: conflicts. And what is still told of the old run
		// may be held against the new one, until that denies it.
		came := func() []starling.EventKind {
			return slices.DeleteFunc(ct.events.of(self.Name), func(k starling.EventKind) bool { return k == starling.EventConflict })
		}
		eventually(t, self.Name+" is told to have come back", func() bool {
			n := len(came())
			return n > 2 && came()[n-1] == starling.EventJoined
		})
		if kinds := came(); kinds[0] != starling.EventJoined || kinds[1] != ct.departure(i) || kinds[2] != starling.EventJoined {
			t.Errorf("%s came back: events %v", self.Name, kinds)
		}
		for _, m := range ct.members[0].Members() {
			if m.Name == self.Name && (m.Addr != self.Addr || m.ID != self.ID) {
				t.Errorf("the first member sees %+v, it is %+v", m, self)
			}
		}
	}
	if err := ct.texts[0].Broadcast(soon(t), say("welcome back")); err != nil {
		t.Fatal(err)
	}
	hears(t, "the crashed", ct.heard[n-2], "welcome back")
	hears(t, "the departed", ct.heard[n-1], "welcome back")
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	key, old := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	members := startMembers(t, 3, func(i int, c *starling.Config) {
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
	members := startMembers(t, 2, func(i int, c *starling.Config) { c.Meta = []byte("first") })
	join(t, members...)
	events := watch(t, members[0])
	events.sees(t, "m01", starling.EventJoined)
	meta := []byte("second")
	if err := members[1].SetMeta(soon(t), meta); err != nil {
		t.Fatal(err)
	}
	meta[0] = 'X' // it is the caller's again
	events.sees(t, "m01", starling.EventJoined, starling.EventUpdated)
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

// TestHandlersMembersAreValues: what a handler writes to the metadata of a sender, and who confirms to that of who is
// missing, nobody else sees.
func TestHandlersMembersAreValues(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) { c.Meta = []byte("meta") }
		nodes := l.members(3)
		metas := make(chan string, 10)
		var chs []*starling.Channel[[]byte]
		for _, key := range []string{"one", "two"} {
			for i, n := range nodes {
				ch, err := starling.NewChannelOf(n.Cluster, key, func(_ context.Context, m starling.Message[[]byte]) {
					metas <- string(m.From.Meta)
					clear(m.From.Meta)
				}, starling.Bytes(), nil)
				must(t, err)
				if i == 0 {
					chs = append(chs, ch)
				}
			}
		}
		const rounds = 2
		for range rounds {
			for _, ch := range chs { // to two others, on two channels
				must(t, ch.Broadcast(t.Context(), []byte("by broadcast")))
			}
			must(t, chs[0].Send(t.Context(), "m1", []byte("by itself")))
		}
		for range rounds * (2*2 + 1) {
			if meta := arrives(t, "a message", metas); meta != "meta" {
				t.Errorf("a handler sees the metadata %q", meta)
			}
		}
		l.cut(nodes[0], nodes[2])
		l.cut(nodes[1], nodes[2])
		for range rounds {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			receipt := receiptOf(t, chs[0].Confirm(ctx, []byte("to who is cut off"), nil))
			cancel()
			if len(receipt.Missing) != 1 || string(receipt.Missing[0].Member.Meta) != "meta" {
				t.Fatalf("missing: %+v", receipt.Missing)
			}
			clear(receipt.Missing[0].Member.Meta)
		}
		for _, n := range nodes {
			for _, m := range n.Members() {
				if string(m.Meta) != "meta" {
					t.Errorf("%s sees %s with the metadata %q", n.name, m.Name, m.Meta)
				}
			}
		}
	})
}

func TestRoundTripTime(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	join(t, members...)
	eventually(t, "a round trip is measured", func() bool { return members[0].Members()[1].RTT > 0 })
}

func TestPosition(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, nil)
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
	members := startMembers(t, 2, func(_ int, c *starling.Config) {
		c.Tune = func(m *memberlist.Config) {
			quick(m)
			m.ProbeInterval = patience // the crash itself is not noticed
		}
	})
	join(t, members...)
	events := watch(t, members[0])
	events.sees(t, "m01", starling.EventJoined)
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
	events.sees(t, "m01", starling.EventJoined, starling.EventFailed, starling.EventJoined)
	if id := members[0].Members()[1].ID; id == was.ID || id != again.Self().ID {
		t.Errorf("id %x, was %x, is %x", id, was.ID, again.Self().ID)
	}
}

// TestCallbacksMayCall: handlers and loops over Events call whatever they like, except what waits for them.
func TestCallbacksMayCall(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
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
			if e.Kind == starling.EventUpdated {
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
