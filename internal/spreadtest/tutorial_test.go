package spreadtest

import (
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

// TestTutorial measures the base line: what a delegate reaches that does as memberlist's tutorials do.
func TestTutorial(t *testing.T) {
	p, err := readParams(os.LookupEnv, params{n: 50, size: 200, count: 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, measured := os.LookupEnv("SPREAD_N"); !measured {
		p.patience = 2 * time.Second // what is to arrive has arrived: eight transmissions, three each 200 ms, and probes
	}
	var r result
	synctest.Test(t, func(t *testing.T) {
		net := starlingtest.NewNetwork(max(p.seed, 1))
		defer net.Close()
		l := &log{n: p.n}
		f := newTutorial(t, net, l, p)
		defer time.Sleep(starlingtest.Pause)
		defer f.close()
		f.form(t)
		r = measure(t, net, f, l, p)
	})
	report(t, p, r)
	if r.Duplicates == 0 && r.Delivered == 1 && p.n > 20 {
		t.Error("a queue alone has reached everybody, once: then Starling is not needed, or this measures wrong")
	}
}

// tutorial is a cluster of plain memberlists.
type tutorial struct {
	lists     []*memberlist.Memberlist
	delegates []*delegate
}

func newTutorial(t *testing.T, net *starlingtest.Network, l *log, p params) *tutorial {
	if err := net.SetDefault(link(p, 0)); err != nil {
		t.Fatal(err)
	}
	f := new(tutorial)
	for i := range p.n {
		name := fmt.Sprint("m", i)
		tr, err := net.Transport(name)
		if err != nil {
			t.Fatal(err)
		}
		d := &delegate{member: i, log: l}
		d.queue.NumNodes = func() int { return p.n }
		conf := memberlist.DefaultLANConfig()
		conf.Name, conf.Transport, conf.Delegate, conf.LogOutput = name, tr, d, io.Discard
		d.queue.RetransmitMult = conf.RetransmitMult
		conf.EnableCompression = false // the meter reads the wire
		m, err := memberlist.Create(conf)
		if err != nil {
			t.Fatal(err)
		}
		f.lists, f.delegates = append(f.lists, m), append(f.delegates, d)
	}
	return f
}

// form joins all to the first, twice: the second time each is told of everybody.
func (f *tutorial) form(t *testing.T) {
	first := f.lists[0].LocalNode().Address()
	for range 2 {
		for _, m := range f.lists[1:] {
			if _, err := m.Join([]string{first}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, m := range f.lists {
		for range 600 {
			if m.NumMembers() == len(f.lists) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := m.NumMembers(); got != len(f.lists) {
			t.Fatalf("%s sees %d members of %d", m.LocalNode().Name, got, len(f.lists))
		}
	}
}

func (f *tutorial) close() {
	for _, m := range f.lists {
		m.Shutdown()
	}
}

func (f *tutorial) broadcast(member int, payload []byte) error {
	message, err := proto.Marshal(&starlingpb.Part{Key: "spread", Data: payload})
	if err != nil {
		return err
	}
	f.delegates[member].queue.QueueBroadcast(said(message))
	return nil
}

// delegate is the tutorial's: a queue that gossips what this member says, and a handler. It passes nothing on.
type delegate struct {
	member int
	log    *log
	heard  func([]byte) // told of every message, if set
	queue  memberlist.TransmitLimitedQueue
}

func (d *delegate) NodeMeta(int) []byte { return nil }
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}
func (d *delegate) LocalState(bool) []byte        { return nil }
func (d *delegate) MergeRemoteState([]byte, bool) {}

func (d *delegate) NotifyMsg(b []byte) {
	if d.heard != nil {
		d.heard(b)
	}
	var p starlingpb.Part
	if err := proto.Unmarshal(b, &p); err == nil {
		d.log.deliver(d.member, p.GetData())
	}
}

// said is a message in the queue.
type said []byte

func (s said) Message() []byte                       { return s }
func (s said) Invalidates(memberlist.Broadcast) bool { return false }
func (s said) Finished()                             {}
