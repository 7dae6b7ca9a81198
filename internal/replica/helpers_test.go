package replica

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// start is when the tests begin.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// tickEvery is how often a busy replica is ticked.
const tickEvery = 25 * time.Millisecond

// testInbox is the bound of an inbox that no test fills by chance.
var testInbox = InboxLimits{Messages: 1024, Bytes: 16 << 20}

func testLimits() Limits {
	return Limits{
		Gossip: 700, Packet: 1390, Message: 16 << 20,
		Bytes: 64 << 20, Age: time.Minute,
		QueueMessages: 100, QueueBytes: 1 << 20,
	}
}

// testReplica returns the replica of origin 1 with so many members, named p1, p2 and so on.
func testReplica(lim Limits, members int) *Replica {
	r := New(wire.Peer{ID: 1, Name: "self", Addr: netip.MustParseAddrPort("127.0.0.1:9999")}, lim)
	for i := range members {
		r.Change(wire.Peer{}, testPeer(i+1), start)
	}
	return r
}

// testPeer is the member p1, p2 and so on, with the id 101, 102 and so on.
func testPeer(i int) wire.Peer {
	return wire.Peer{
		Name: fmt.Sprint("p", i), ID: uint64(100 + i),
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i)), Features: wire.OwnFeatures,
	}
}

// testChannel opens a channel of that key.
func testChannel(r *Replica, key string) *Channel { return openChannel(r, Channel{Key: key}) }

// openChannel opens a channel; its inbox is testInbox unless it says otherwise.
func openChannel(r *Replica, ch Channel) *Channel {
	if ch.Inbox == (InboxLimits{}) {
		ch.Inbox = testInbox
	}
	packets := len(r.out.Packets)
	if !r.Open(&ch, start) {
		panic("a channel of that key is open: " + ch.Key)
	}
	if r.types.own.of[ch.Key] == "" {
		r.out.Packets = r.out.Packets[:packets] // what tells the others of it
	}
	return &ch
}

// say broadcasts data on ch at start, under a name that may be "", and reports whether there was room.
func say(r *Replica, ch *Channel, name string, data []byte) bool {
	_, _, ok := sayAt(r, ch, name, data, start)
	return ok
}

// sayAt is say at another time. It also returns the message, and the one that it supersedes.
func sayAt(r *Replica, ch *Channel, name string, data []byte, now time.Time) (m, superseded *Message, ok bool) {
	m = new(Message)
	m.Init(ch, name, data, nil, len(r.roster.names))
	superseded, ok = r.Sender.Accept(m, now)
	return m, superseded, ok
}

// sayWhole is say of a message that is not cut into pieces, whatever its size.
func sayWhole(r *Replica, ch *Channel, data []byte) bool {
	m := new(Message)
	m.Init(ch, "", nil, nil, 0)
	m.one[0].init(ch.Key, data, nil, wire.Chunk{})
	m.room = len(m.one[0].item.Frame)
	_, ok := r.Sender.Accept(m, start)
	return ok
}

// partOf returns an encoded part with its identity.
func partOf(key string, data []byte, id wire.PartID, prev uint64, age time.Duration) []byte {
	return wire.AppendIdentity(wire.AppendBody(nil, key, data), id, prev, age)
}

// receivePart lets an encoded part arrive by a route.
func receivePart(t *testing.T, r *Replica, frame []byte, via wire.Route, now time.Time) {
	t.Helper()
	p, err := wire.ParsePart(frame)
	if err != nil {
		t.Fatal(err)
	}
	r.Receive(p, frame, via, now)
}

// receiveControl lets a control frame of a member arrive.
func receiveControl(t *testing.T, r *Replica, from wire.Peer, body protowire.Number, m proto.Message, now time.Time) {
	t.Helper()
	content, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Control(wire.Control{From: from, Body: body, Content: content}, now); err != nil {
		t.Error(err)
	}
}

// proofOf returns what a member's questions must repeat to be answered at length.
func proofOf(r *Replica, id uint64) uint64 {
	p := r.roster.get(id)
	r.roster.proven(p, 0)
	return p.proof
}

// handleAll lets the handler of ch handle all that waits, and returns it.
func handleAll(r *Replica, ch *Channel, now time.Time) (ds []Delivery) {
	for d, ok := r.Take(ch, now); ok; d, ok = r.Take(ch, now) {
		r.Handled(ch, d, false, now)
		ds = append(ds, d)
	}
	return ds
}

// seqsOf returns the sequence numbers of deliveries.
func seqsOf(ds []Delivery) (seqs []uint64) {
	for _, d := range ds {
		seqs = append(seqs, d.Seq)
	}
	return seqs
}

// tell is a control frame among the effects.
type tell struct {
	to      string
	control wire.Control
	stream  bool
}

// decode decodes its body into m.
func (c tell) decode(t *testing.T, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(c.control.Content, m); err != nil {
		t.Fatal(err)
	}
}

// takeTold takes the control frames with that body out of the effects, and drops all other packets and streams.
func takeTold(t *testing.T, r *Replica, body protowire.Number, now time.Time) (told []tell) {
	t.Helper()
	add := func(to wire.Peer, frame []byte, stream bool) {
		p, err := wire.ParsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Key) > 0 {
			return
		}
		c, err := wire.ParseControl(p.Control)
		if err != nil {
			t.Fatal(err)
		}
		if c.Body == body {
			told = append(told, tell{to.Name, c, stream})
		}
	}
	for _, p := range r.out.Packets {
		add(p.To, p.Frame(), false)
	}
	for _, s := range r.out.Streams {
		add(s.To, s.Encode(now), true)
	}
	r.out.Packets, r.out.Streams = nil, nil
	return told
}

// sentParts returns the parts of the spread in the packets that wait, once each, as "seq:data", in order.
func sentParts(t *testing.T, r *Replica) (texts []string) {
	t.Helper()
	for _, p := range r.out.Packets {
		outer, err := wire.ParsePart(p.Frame())
		if err != nil {
			t.Fatal(err)
		}
		c, err := wire.ParseControl(outer.Control)
		if err != nil || c.Body != wire.BodySpread {
			continue
		}
		f, err := wire.ParseSpread(c.Content)
		if err != nil {
			t.Fatal(err)
		}
		for frame, ok := f.Next(); ok; frame, ok = f.Next() {
			part, err := wire.ParsePart(frame)
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprintf("%d:%s", part.ID.Seq, part.Data); !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// confirmAll pumps, and lets every member report at once and in full all that it was given, until nothing is on its way.
func confirmAll(r *Replica, now time.Time) {
	for r.Sender.Pump(now); len(r.spreader.spread.Batches) > 0; r.Sender.Pump(now) {
		confirmOnce(r, now)
	}
	r.out.Packets, r.out.Streams = nil, nil
}

func confirmOnce(r *Replica, now time.Time) {
	for _, b := range r.spreader.spread.Batches {
		for _, hop := range slices.Clone(b.Hops) {
			r.spreader.spread.Report(hop.To.ID, honest(hop), now)
		}
	}
}

// honest is the report of a member that has served its whole slice.
func honest(hop *spread.Hop) wire.Report {
	return wire.Report{ID: hop.Batch.ID, Done: true, Count: uint64(hop.View.Len()), Sum: hop.View.Sum()}
}

// spreadContent is a Spread with parts that are already encoded as its fields.
func spreadContent(id wire.BatchID, end, flags uint64, parts []byte) []byte {
	return append(wire.AppendSpread(nil, id, end, flags), parts...)
}

// queued returns how many messages memberlist's gossip carries: those that were queued and are not done.
func queued(r *Replica) int {
	if r.out.Unqueue {
		return 0
	}
	left := map[*Message]bool{}
	for _, m := range r.out.Queue {
		left[m] = true
	}
	for _, f := range r.out.Finished {
		delete(left, f.Message)
	}
	return len(left)
}

// givenUp returns how many messages of a channel are done without every member having them.
func givenUp(r *Replica, ch *Channel) (n int) {
	for _, f := range r.out.Finished {
		if f.Channel() == ch && len(f.Missing) > 0 {
			n++
		}
	}
	return n
}

// seedFrames returns frames of every kind, for fuzzers to start from. They are from p1, which is id 101, or from a stranger.
func seedFrames() [][]byte {
	from := testPeer(1)
	part := partOf("ch", []byte("data"), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
	spreadOf := func(from wire.Peer, n, flags uint64, parts ...[]byte) []byte {
		var items []*store.Item
		for _, p := range parts {
			items = append(items, &store.Item{Frame: p})
		}
		return wire.FrameControl(from, wire.BodySpread, spreadContent(wire.BatchID{Root: 101, N: n}, 7, flags, spread.AppendParts(nil, items, start)))
	}
	brief := wire.Peer{ID: 101}
	reports := wire.AppendReport(wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}}), wire.Report{
		ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 2, Sum: 3, Gone: []uint64{4}, More: true, List: []uint64{5, 6},
	})
	return [][]byte{
		nil,
		part,
		wire.AppendBody(nil, "ch", []byte("foreign")),
		wire.EncodeControl(from, wire.BodyGoodbye, &starlingpb.Goodbye{}),
		wire.EncodeControl(wire.Peer{ID: 999, Name: "s", Addr: from.Addr}, wire.BodyGoodbye, &starlingpb.Goodbye{}), // of a stranger
		wire.EncodeControl(from, wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{}),
		wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Data: []byte("data"), Id: 3, Floor: 2}),
		wire.EncodeControl(from, wire.BodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_BUSY}),
		wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Id: 5, Total: 100_000, Size: wire.MinDirectChunk, Index: 1}),
		wire.EncodeControl(from, wire.BodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_KEPT, Index: 1, Gathering: 2}),
		wire.EncodeBatch(from, starlingpb.Batch_STREAM, part, part[:5], wire.AppendBody(nil, "who", nil)),
		spreadOf(from, 1, wire.FlagList, part),
		wire.FrameControl(from, wire.BodyReports, reports),
		spreadOf(brief, 2, 1<<wire.TryShift, part, part),
		wire.FrameControl(brief, wire.BodyReports, wire.AppendReport(nil, wire.Report{
			ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 1, Sum: 3, Try: 1, List: make([]uint64, 40),
		})),
		wire.EncodeControl(brief, wire.BodyGoodbye, &starlingpb.Goodbye{}),
		wire.EncodeControl(brief, wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Data: []byte("data"), Id: 4}),
		wire.EncodeBundle(from, [][]byte{wire.FrameControl(brief, wire.BodyReports, wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}}))}),
		wire.EncodeControl(from, wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch"}),
		wire.EncodeBundle(from, [][]byte{wire.EncodeControl(from, wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{}), part}),
		[]byte("\n\x0200\x12\x040000\x100"), // the data's field again, in another type
		wire.AppendFullState(wire.AppendFullState(nil, "a", []byte("1")), "b", nil),
		wire.EncodeControl(from, wire.BodyDigest, &starlingpb.Digest{Origins: []*starlingpb.OriginDigest{{Origin: 101, Floor: 1, Top: 9}}}),
		wire.EncodeControl(from, wire.BodyPull, &starlingpb.Pull{Id: 1, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1}}}}),
		wire.EncodeControl(from, wire.BodyAsk, &starlingpb.BaselineAsk{Stream: true}),
		wire.EncodeControl(from, wire.BodyBaseline, &starlingpb.Baseline{Next: 1, Top: 9}),
		wire.EncodeControl(from, wire.BodySyncAsk, &starlingpb.SyncAsk{Id: 1, Key: "ch"}),
		wire.EncodeControl(from, wire.BodySync, &starlingpb.Sync{Id: 1, Key: "ch", Last: true}),
		wire.EncodeControl(from, wire.BodyHeldAnswer, &starlingpb.HeldAnswer{Seq: 1, Fate: starlingpb.HeldAnswer_HELD}),
	}
}

// wasWritten tells whoever wants to know that a stream was written, or could not be.
func wasWritten(s wire.Stream, ok bool, now time.Time) {
	if s.Written != nil {
		s.Written(ok, now)
	}
}
