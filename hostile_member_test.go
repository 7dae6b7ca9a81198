package starling_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
)

// hostile is a member that speaks Starling's wire protocol, and lies.
type hostile struct {
	ml   *memberlist.Memberlist
	rng  *rand.Rand
	id   uint64
	self *starlingpb.Sender
	seq  uint64 // of its own parts
}

// hostileDelegate sends nothing but its metadata.
type hostileDelegate struct{ meta []byte }

func (d hostileDelegate) NodeMeta(int) []byte             { return d.meta }
func (d hostileDelegate) NotifyMsg([]byte)                {}
func (d hostileDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d hostileDelegate) LocalState(bool) []byte          { return nil }
func (d hostileDelegate) MergeRemoteState([]byte, bool)   {}

func (l *lab) hostile() *hostile {
	l.t.Helper()
	tr, err := l.Net.Transport("hostile")
	must(l.t, err)
	h := &hostile{id: 666, rng: rand.New(rand.NewPCG(l.Net.Seed(), 0))}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.Logger = "hostile", tr, log.New(io.Discard, "", 0)
	c.Delegate = hostileDelegate{binary.BigEndian.AppendUint64([]byte("\xf5SG\x01"), h.id)}
	h.ml, err = memberlist.Create(c)
	must(l.t, err)
	addr := tr.Addr()
	h.self = &starlingpb.Sender{
		Origin: h.id, Name: c.Name, Addr: binary.BigEndian.AppendUint16(addr.Addr().AsSlice(), addr.Port()),
	}
	_, err = h.ml.Join([]string{l.nodes[0].Self().Addr.String()})
	must(l.t, err)
	return h
}

// send gives a member a frame, by stream if it does not fit a packet.
func (h *hostile) send(to starling.Member, p *starlingpb.Part) {
	frame, _ := proto.Marshal(p)
	h.sendRaw(to, frame)
}

// sendRaw gives a member a message as it is.
func (h *hostile) sendRaw(to starling.Member, frame []byte) {
	node := &memberlist.Node{Name: to.Name, Addr: net.IP(to.Addr.Addr().AsSlice()), Port: to.Addr.Port()}
	if len(frame) > 1300 {
		_ = h.ml.SendReliable(node, frame)
		return
	}
	_ = h.ml.SendBestEffort(node, frame)
}

// control gives a member a control frame.
func (h *hostile) control(to starling.Member, c *starlingpb.Control) {
	c.Sender = h.self
	h.send(to, &starlingpb.Part{Control: c})
}

// number returns a number that is random in its magnitude too.
func (h *hostile) number() uint64 {
	switch h.rng.IntN(4) {
	case 0:
		return math.MaxUint64
	case 1:
		return h.rng.Uint64N(100)
	}
	return h.rng.Uint64() >> h.rng.IntN(64)
}

// origin is one of the honest members, or nobody.
func (h *hostile) origin(honest []uint64) uint64 {
	if h.rng.IntN(2) == 0 {
		return honest[h.rng.IntN(len(honest))]
	}
	return h.rng.Uint64()
}

func (h *hostile) digest(origin uint64) *starlingpb.OriginDigest {
	d := &starlingpb.OriginDigest{Origin: origin, Floor: h.number() >> 1, Top: math.MaxUint64}
	if h.rng.IntN(2) == 0 {
		d.Floor = 0
	}
	for range h.rng.IntN(20) {
		d.Held = append(d.Held, h.number()>>8, h.number()>>8)
	}
	return d
}

func (h *hostile) spans() (s []uint64) {
	for range h.rng.IntN(40) {
		s = append(s, h.number())
	}
	return s
}

// attack sends a member one frame of each kind.
func (h *hostile) attack(to starling.Member, honest []uint64) {
	digest, pull := &starlingpb.Digest{Complete: true}, &starlingpb.Pull{Id: h.number(), Stream: h.rng.IntN(2) == 0}
	sync := &starlingpb.Sync{Id: h.rng.Uint64N(20), Key: "register", Last: true}
	for range 20 {
		origin := h.origin(honest)
		digest.Origins = append(digest.Origins, h.digest(origin))
		pull.Want = append(pull.Want, &starlingpb.Ranges{Origin: origin, Spans: []uint64{1, math.MaxUint64 - 1}})
		pull.Want = append(pull.Want, &starlingpb.Ranges{Origin: origin, Spans: h.spans()})
		sync.Contains = append(sync.Contains, &starlingpb.Ranges{Origin: origin, Spans: []uint64{1, math.MaxUint64 - 1}})
	}
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_Digest{Digest: digest}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_Pull{Pull: pull}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_Sync{Sync: sync}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_SyncAsk{SyncAsk: &starlingpb.SyncAsk{
		Id: h.number(), Key: "register", First: h.rng.IntN(2) == 0, Have: sync.Contains, Next: h.rng.Uint32N(3), Again: true,
	}}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_StateDigest{StateDigest: &starlingpb.StateDigest{
		Channels: []*starlingpb.ChannelDigest{{Key: "register", Sum: h.rng.Uint64(), Shape: h.rng.Uint64()}},
	}}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_Baseline{
		Baseline: &starlingpb.Baseline{Next: h.number(), Top: h.number()},
	}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_BaselineAsk{BaselineAsk: &starlingpb.BaselineAsk{}}})
	h.control(to, &starlingpb.Control{Body: &starlingpb.Control_Batch{Batch: &starlingpb.Batch{
		Pull: h.rng.Uint64N(100), Lacks: []*starlingpb.Ranges{{Origin: h.origin(honest), Spans: []uint64{1, math.MaxUint64 - 1}}},
	}}})
	h.seq += 2 // every second one: a hole each
	h.send(to, &starlingpb.Part{Key: "flood", Data: make([]byte, 400), Origin: h.id, Seq: h.seq})
	h.send(to, &starlingpb.Part{Key: "lab", Data: make([]byte, 8), Origin: h.id, Seq: h.seq - h.rng.Uint64N(h.seq)})
	h.send(to, &starlingpb.Part{
		Key: "flood", Data: make([]byte, 1000), Origin: h.rng.Uint64(), Seq: max(h.number(), 1), AgeMs: h.rng.Uint32N(60_000),
	})
	junk := make([]byte, 1+h.rng.IntN(200))
	for i := range junk {
		junk[i] = byte(h.rng.Uint32())
	}
	h.sendRaw(to, junk)
}

// While a member lies in every frame, memory stays within its bounds and honest members hear each other, also one that joins in
// the meantime.
func TestHostileMember(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		const kept = 2 << 20
		rounds := 200
		if raced {
			rounds = 20 // each frame takes six times as long then
		}
		l.configure = func(c *starling.Config) { c.Retention.Bytes = kept }
		s := newStates()
		nodes := append([]*node(nil), l.members(6, s.open(t))...)
		for _, n := range nodes[:5] { // the last one is heard of for the first time during the flood
			l.delivered(5*time.Second, l.sendMany(n, 5, 200), n, nodes...)
		}
		var honest []uint64
		for _, n := range nodes {
			honest = append(honest, n.Self().ID)
		}
		before := heap()
		h := l.hostile()
		defer func() { must(t, h.ml.Shutdown()) }()
		ids := make([][]uint64, 7)
		for round := range rounds {
			for _, n := range nodes {
				h.attack(n.Self(), honest)
			}
			if round == rounds/2 {
				late := l.member("late", s.open(t))
				ctx, stop := context.WithCancel(t.Context())
				joined, seed := make(chan struct{}), addr(nodes[0].Cluster)
				go func() { // it waits for the hostile member too, which never takes it in
					defer close(joined)
					_ = late.Join(ctx, seed)
				}()
				defer func() { stop(); <-joined }()
				nodes = append(nodes, late)
				honest = append(honest, late.Self().ID)
			}
			if round%(rounds/10) == 0 && (round < rounds/2 || round > rounds*7/10) {
				for i, n := range nodes {
					ids[i] = append(ids[i], l.send(n, mixed(round*10/rounds)))
				}
				s.registers[nodes[0]].set(t, "k", fmt.Sprint(round))
			}
			time.Sleep(10 * time.Millisecond)
		}
		used := int64(heap()) - int64(before)
		start := time.Now()
		for i, n := range nodes {
			receivers := nodes
			if i < 6 {
				receivers = nodes[:6]
			}
			l.delivered(10*time.Second, ids[i], n, receivers...)
		}
		t.Logf("all delivered %v after the flood; %d bytes in use more than before it, for %d members",
			time.Since(start), used, len(nodes))
		if used > 12*kept*int64(len(nodes)) {
			t.Errorf("%d bytes in use more than before the flood", used)
		}
		if _, ok := within(10*time.Second, func() bool { return s.equal(1, 0, nodes...) }); !ok {
			t.Error("the states differ")
		}
		time.Sleep(2 * time.Minute)
		for _, n := range nodes {
			for _, id := range honest {
				if told := n.told(id); told > 0 {
					t.Errorf("%s reported %d messages of an honest member as lost", n.name, told)
				}
			}
		}
		// And when it is over, all is as before.
		for _, n := range nodes {
			l.delivered(5*time.Second, l.sendMany(n, 5, 200), n, nodes...)
		}
		t.Logf("%v", nodes[1].Stats().Dropped)
	})
}

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
