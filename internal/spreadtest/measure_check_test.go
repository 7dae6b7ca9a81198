package spreadtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

func TestLogCountsWhatComesTwice(t *testing.T) {
	l := &log{n: 3}
	payload, m := l.payload(1, 20)
	for _, member := range []int{0, 2, 2, 1} { // the last is its origin
		l.deliver(member, payload)
	}
	l.deliver(0, []byte("\x00\x00\x00\x00\x00\x00\x00\x05"))
	l.deliver(0, nil)
	select {
	case <-m.all:
	default:
		t.Error("all have it, and it does not say so")
	}
	if len(payload) != 20 || len(m.took) != 2 || l.duplicates != 2 || l.strange != 2 {
		t.Errorf("%+v, %+v", l, m)
	}
}

// TestUserHeader has every width that msgpack writes a length in.
func TestUserHeader(t *testing.T) {
	for tail, want := range map[string]int{
		"\x05": 5, "\x7f": 127, "\xcc\xff": 255, "\xcd\x01\x02": 258, "\xd1\x01\x02": 258, "\xce\x00\x01\x00\x00": 65536,
		"\xd2\x00\x01\x00\x00": 65536, "\xd3\x00\x00\x00\x00\x00\x00\x00\x09": 9,
	} {
		head := "\x81\xaaUserMsgLen" + tail
		size, length, ok := userHeader([]byte(head + "more"))
		if !ok || size != want || length != len(head) {
			t.Errorf("%q: %d in %d bytes, %v", tail, size, length, ok)
		}
		if _, _, ok := userHeader([]byte(head[:len(head)-1])); ok {
			t.Errorf("%q: half of it is enough", tail)
		}
	}
	if _, _, ok := userHeader([]byte("\x81\xa7Another\x05more and more")); ok {
		t.Error("any header will do")
	}
}

// knownTraffic is a cluster that sends each message twice to each other member, and has each handle it 10 ms later; but the last
// member never handles every fourth message.
type knownTraffic struct {
	log        *log
	transports []*starlingtest.Transport
	frame      []byte
	said       int
}

func (e *knownTraffic) broadcast(origin int, payload []byte) error {
	e.said++
	said := e.said
	for i, to := range e.transports {
		if i == origin {
			continue
		}
		for range 2 {
			if _, err := e.transports[origin].WriteTo(e.frame, to.Addr().String()); err != nil {
				return err
			}
		}
		if i != len(e.transports)-1 || said%4 != 0 {
			time.AfterFunc(10*time.Millisecond, func() { e.log.deliver(i, payload) })
		}
	}
	return nil
}

// A cluster whose traffic is known gives the figures that follow from it: of the messages that count, and no others.
func TestMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := starlingtest.NewNetwork(1)
		defer net.Close()
		p := params{n: 3, size: 20, count: 8, warmup: 3, latency: time.Millisecond, patience: 500 * time.Millisecond, seed: 4}
		part := encode(t, &starlingpb.Part{Key: "k", Data: []byte("x")})
		f := &knownTraffic{log: &log{n: p.n}, frame: append([]byte{typeUser}, part...)}
		for _, name := range []string{"a", "b", "c"} {
			tr, err := net.Transport(name)
			if err != nil {
				t.Fatal(err)
			}
			f.transports = append(f.transports, tr)
		}
		r := measure(t, net, f, f.log, p)
		unhandled := 0 // messages 4 and 8, unless they are the last member's own
		for _, m := range []int{3, 7} {
			if f.log.messages[m].origin != 2 {
				unhandled++
			}
		}
		deliveries := float64(2*p.count - unhandled)
		written := 4 * float64(p.count) / deliveries
		want := result{N: 3, Size: 20, Count: 8, Delivered: deliveries / 16, ToAllP50: 10, ToAllMax: 500, ColdToAllMax: 10,
			MemberP50: 10, MemberP99: 10, ReceptionsPerDelivery: written, SendsPerDelivery: written,
			BytesPerDelivery: written * float64(len(f.frame))}
		if unhandled == 0 {
			t.Fatal("choose another seed")
		}
		if r != want {
			t.Errorf("got  %+v\nwant %+v", r, want)
		}
	})
}
