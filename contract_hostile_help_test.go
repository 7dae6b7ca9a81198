package starling_test

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

// outsider writes to members what it likes, on the network of a Lab. It is no member, and reads nothing unless it is told to.
type outsider struct {
	t     *testing.T
	tr    *starlingtest.Transport
	label string
}

func newOutsider(t *testing.T, l *starlingtest.Lab, host string) *outsider {
	t.Helper()
	tr, err := l.Net.Transport(host)
	if err != nil {
		t.Fatal(err)
	}
	return &outsider{t: t, tr: tr}
}

// Types of memberlist's messages.
const (
	rawAlive    = 4
	rawDead     = 5
	rawPushPull = 6
	rawUser     = 8
	rawLabel    = 244
)

func (o *outsider) head() []byte {
	if o.label == "" {
		return nil
	}
	return append([]byte{rawLabel, byte(len(o.label))}, o.label...)
}

// packet sends a frame in one packet.
func (o *outsider) packet(to starling.Member, frame []byte) {
	o.t.Helper()
	o.raw(to.Addr, append(append(o.head(), rawUser), frame...))
}

// raw sends a packet as it is.
func (o *outsider) raw(to netip.AddrPort, b []byte) {
	o.t.Helper()
	if _, err := o.tr.WriteTo(b, to.String()); err != nil {
		o.t.Fatal(err)
	}
}

// stream sends a frame in a stream, and returns when the other side has closed it or d is over.
func (o *outsider) stream(to starling.Member, frame []byte, d time.Duration) error {
	head := append(append(o.head(), rawUser, 0x81), msgpackString("UserMsgLen")...)
	return o.dial(to, d, append(head, msgpackInt(len(frame))...), frame)
}

// dial opens a stream, writes and reads until the other side closes it.
func (o *outsider) dial(to starling.Member, d time.Duration, pieces ...[]byte) error {
	conn, err := o.tr.DialTimeout(to.Addr.String(), d)
	if err != nil {
		return err
	}
	defer conn.Close()
	return converse(conn, d, pieces...)
}

// converse writes to a stream and reads it to its end.
func converse(conn net.Conn, d time.Duration, pieces ...[]byte) error {
	if err := conn.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	for _, b := range pieces {
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, conn)
	return err
}

// ghost is a member that exists in words only.
type ghost struct {
	name string
	addr netip.AddrPort
	id   uint64
}

const (
	ghostAlive = 0
	ghostLeft  = 3
)

// tell gives a member a push/pull of memberlist's in which ghosts are in the given state.
func (o *outsider) tell(to starling.Member, ghosts []ghost, state int) {
	o.t.Helper()
	b := append(o.head(), rawPushPull, 0x83)
	b = append(append(b, msgpackString("Nodes")...), msgpackInt(len(ghosts))...)
	b = append(append(b, msgpackString("UserStateLen")...), 0)
	b = append(append(b, msgpackString("Join")...), 0xc2) // false
	for _, g := range ghosts {
		meta := binary.BigEndian.AppendUint64([]byte("\xf5SG\x01"), g.id) // Starling's mark, version 1, and the id of the run
		b = append(b, 0x87)
		b = append(append(b, msgpackString("Name")...), msgpackString(g.name)...)
		b = append(append(b, msgpackString("Addr")...), msgpackString(string(g.addr.Addr().AsSlice()))...)
		b = append(append(b, msgpackString("Port")...), msgpackInt(int(g.addr.Port()))...)
		b = append(append(b, msgpackString("Meta")...), msgpackString(string(meta))...)
		b = append(append(b, msgpackString("Incarnation")...), 1)
		b = append(append(b, msgpackString("State")...), byte(state))
		b = append(append(b, msgpackString("Vsn")...), msgpackString("\x01\x05\x02\x00\x00\x00")...)
	}
	if err := o.dial(to, 10*time.Second, b); err != nil {
		o.t.Fatalf("push/pull with %s: %v", to.Name, err)
	}
}

// msgpackString encodes up to 31 bytes.
func msgpackString(s string) []byte { return append([]byte{0xa0 | byte(len(s))}, s...) }

func msgpackInt(n int) []byte { return binary.BigEndian.AppendUint32([]byte{0xce}, uint32(n)) }

// signedBy makes the frame of a control message in the name of a member.
func signedBy(m starling.Member, c *starlingpb.Control) []byte {
	c.Sender = senderOf(m)
	frame, err := proto.Marshal(&starlingpb.Part{Control: c})
	if err != nil {
		panic(err)
	}
	return frame
}

func senderOf(m starling.Member) *starlingpb.Sender {
	addr := binary.BigEndian.AppendUint16(m.Addr.Addr().AsSlice(), m.Addr.Port())
	return &starlingpb.Sender{Origin: m.ID, Name: m.Name, Addr: addr}
}

// largeControl makes the frame of a control message in the name of a member, with a body that is encoded already: bodies
// that no honest encoder makes, without the memory that they take decoded.
func largeControl(m starling.Member, body protowire.Number, content []byte) []byte {
	sender, err := proto.Marshal(senderOf(m))
	if err != nil {
		panic(err)
	}
	var head []byte
	head = protowire.AppendTag(head, 1, protowire.BytesType) // Control.sender
	head = protowire.AppendBytes(head, sender)
	head = protowire.AppendTag(head, body, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(content)))
	frame := make([]byte, 0, 10+len(head)+len(content))
	frame = protowire.AppendTag(frame, 15, protowire.BytesType) // Part.control
	frame = protowire.AppendVarint(frame, uint64(len(head)+len(content)))
	return append(append(frame, head...), content...)
}

// directIn returns the Direct that a packet carries, if it carries one, with the whole Part around it.
func directIn(packet []byte) (*starlingpb.Part, *starlingpb.Direct) {
	if len(packet) == 0 || packet[0] != rawUser {
		return nil, nil
	}
	p := new(starlingpb.Part)
	if proto.Unmarshal(packet[1:], p) != nil || p.GetControl().GetDirect() == nil {
		return nil, nil
	}
	return p, p.GetControl().GetDirect()
}

// setNumber sets a numeric field of a message by its name, if there is such a field.
func setNumber(m proto.Message, field string, n uint64) {
	r := m.ProtoReflect()
	if fd := r.Descriptor().Fields().ByName(protoreflect.Name(field)); fd != nil {
		r.Set(fd, protoreflect.ValueOfUint64(n))
	}
}

// carried counts the bytes that go from one member to another. It takes the Lab's tap.
type carried struct{ packets, streams atomic.Int64 }

func countBytes(l *starlingtest.Lab, from, to string) *carried {
	c := new(carried)
	l.Net.Tap(func(e starlingtest.Event) {
		switch {
		case e.From != from || e.To != to:
		case e.Stream == 0:
			c.packets.Add(int64(len(e.Data)))
		default:
			c.streams.Add(int64(len(e.Data)))
		}
	})
	return c
}

func (c *carried) total() int64 { return c.packets.Load() + c.streams.Load() }

func varint(n int) []byte { return protowire.AppendVarint(nil, uint64(n)) }

// aliveFrame is memberlist's message that a ghost is alive.
func aliveFrame(g ghost) []byte {
	meta := binary.BigEndian.AppendUint64([]byte("\xf5SG\x01"), g.id)
	b := []byte{rawAlive, 0x86}
	b = append(append(b, msgpackString("Incarnation")...), 1)
	b = append(append(b, msgpackString("Node")...), msgpackString(g.name)...)
	b = append(append(b, msgpackString("Addr")...), msgpackString(string(g.addr.Addr().AsSlice()))...)
	b = append(append(b, msgpackString("Port")...), msgpackInt(int(g.addr.Port()))...)
	b = append(append(b, msgpackString("Meta")...), msgpackString(string(meta))...)
	return append(append(b, msgpackString("Vsn")...), msgpackString("\x01\x05\x02\x00\x00\x00")...)
}

// traffic is what one member has written to another, as it was on the wire. It takes the Lab's tap.
type traffic struct {
	l  *starlingtest.Lab
	mu sync.Mutex

	packets [][]byte
	streams map[uint64][]byte
}

func recordTraffic(l *starlingtest.Lab, from, to string) *traffic {
	r := &traffic{l: l, streams: map[uint64][]byte{}}
	l.Net.Tap(func(e starlingtest.Event) {
		if e.From != from || e.To != to {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if e.Stream == 0 {
			r.packets = append(r.packets, slices.Clone(e.Data))
		} else {
			r.streams[e.Stream] = append(r.streams[e.Stream], e.Data...)
		}
	})
	return r
}

// stop ends the recording and returns it.
func (r *traffic) stop() (packets, streams [][]byte) {
	r.l.Net.Tap(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.packets, slices.Collect(maps.Values(r.streams))
}
