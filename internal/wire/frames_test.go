package wire

import (
	"bytes"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// The frames that the tests of this package start from.

func mustMarshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// control returns the content of a control frame.
func control(tb testing.TB, frame []byte) Control {
	tb.Helper()
	p, err := ParsePart(frame)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := ParseControl(p.Control)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// testSender is a sender with all its fields, testBrief one that is an id alone.
func testSender() Peer {
	return Peer{ID: 1 << 63, Name: "me", Addr: netip.MustParseAddrPort("[::1]:7946")}
}

func testBrief() Peer { return Peer{ID: 1 << 63} }

// testPart is a part with an identity.
func testPart() []byte {
	return AppendIdentity(AppendBody(nil, "ch", []byte("data")), PartID{Origin: 101, Seq: 2}, 1, time.Second)
}

// testParts are parts of every shape.
func testParts() []*starlingpb.Part {
	return []*starlingpb.Part{
		{Key: "k", Data: []byte("data"), Origin: 1, Seq: 1},
		{
			Key: strings.Repeat("k", 255), Data: make([]byte, 70_000),
			Origin: math.MaxUint64, Seq: math.MaxUint64, Prev: math.MaxUint64 - 1, AgeMs: math.MaxUint32,
		},
		{Key: "k", Origin: 3, Seq: 300, Prev: 299, AgeMs: 5},
		{Key: "k", Data: []byte("data"), Origin: 4, Seq: 2, Prev: 1, AgeMs: 5, TraceContext: bytes.Repeat([]byte("t"), MaxTraceSize)},
		{Key: "foreign", Data: []byte("without identity")},
	}
}

// testReports are reports of every shape.
func testReports() []Report {
	id := BatchID{Root: 1, N: 1}
	return []Report{
		{ID: id},
		{ID: id, Done: true, Count: 2, Sum: 3, Gone: []uint64{4}, More: true, List: []uint64{5, 6}},
		{ID: id, Done: true, Count: 1, Sum: 3, Try: 1, List: make([]uint64, 40)},
		{
			ID: BatchID{Root: math.MaxUint64, N: math.MaxUint64}, Done: true, Count: math.MaxUint64, Sum: math.MaxUint64,
			Gone: make([]uint64, 64), More: true, List: make([]uint64, MaxListed), Try: MaxTry,
		},
	}
}

// spreadContent is a Spread with these parts.
func spreadContent(id BatchID, end, flags uint64, parts ...[]byte) []byte {
	b := AppendSpread(nil, id, end, flags)
	for _, part := range parts {
		b = appendBytes(b, spreadPart, part)
	}
	return b
}

func reportsContent(reports ...Report) (b []byte) {
	for _, r := range reports {
		b = AppendReport(b, r)
	}
	return b
}

// seedFrames gives a fuzzer frames of every kind to start from.
func seedFrames(f *testing.F) {
	from, brief, part, reports := testSender(), testBrief(), testPart(), testReports()
	direct := &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 3, Floor: 2}
	f.Add([]byte(nil))
	f.Add(part)
	f.Add(AppendBody(nil, "ch", []byte("foreign")))
	f.Add(EncodeControl(from, BodyGoodbye, &starlingpb.Goodbye{}))
	f.Add(EncodeControl(from, BodyGoodbyeAck, &starlingpb.GoodbyeAck{}))
	f.Add(EncodeControl(from, BodyDirect, direct))
	f.Add(EncodeControl(from, BodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_BUSY}))
	f.Add(EncodeControl(from, BodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch"}))
	f.Add(EncodeBatch(from, starlingpb.Batch_STREAM, part, part[:5], AppendBody(nil, "who", nil)))
	f.Add(FrameControl(from, BodySpread, spreadContent(BatchID{Root: 101, N: 1}, 7, FlagList, part)))
	f.Add(FrameControl(from, BodyReports, reportsContent(reports[0], reports[1])))
	f.Add(FrameControl(brief, BodySpread, spreadContent(BatchID{Root: 101, N: 2}, 7, 1<<TryShift, part, part)))
	f.Add(FrameControl(brief, BodyReports, reportsContent(reports[2])))
	f.Add(EncodeControl(brief, BodyGoodbye, &starlingpb.Goodbye{})) // malformed: without a name
	f.Add(EncodeControl(brief, BodyDirect, direct))
	f.Add(EncodeBundle(from, [][]byte{FrameControl(brief, BodyReports, reportsContent(reports[0]))}))
	f.Add(EncodeBundle(from, [][]byte{EncodeControl(from, BodyGoodbyeAck, &starlingpb.GoodbyeAck{}), part}))
	f.Add([]byte("\n\x0200\x12\x040000\x100")) // the data's field again, in another type
	f.Add(AppendFullState(AppendFullState(nil, "a", []byte("1")), "b", nil))
}
