package starling_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

// nobody is somebody who says that it is about to be a member, and is not.
func nobody(at netip.AddrPort) wire.Peer { return wire.Peer{ID: 4711, Name: "ghost", Addr: at} }

// introducing is the packet in which somebody says that it joins.
func introducing(from wire.Peer) []byte {
	return wire.EncodeControl(from, wire.BodyAsk, &starlingpb.BaselineAsk{
		Nonce: 5, Padding: make([]byte, 300), Meta: wire.EncodeMeta(from.ID, wire.OwnFeatures, nil),
	})
}

// addrOf is where a host of the lab is reached.
func (l *lab) addrOf(host string) netip.AddrPort {
	l.t.Helper()
	at, err := l.Net.Addr(host)
	l.Must(err)
	return at
}

// haunted lets somebody introduce itself to a member again and again, while test runs.
func (l *lab) haunted(n *node, every time.Duration, test func()) {
	out := newOutsider(l.t, l.Lab, "outside")
	packet := introducing(nobody(l.addrOf("outside")))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			out.packet(n.Self(), packet)
			select {
			case <-time.After(every):
			case <-stop:
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	test()
	close(stop)
	<-done
}

// TestStrangerHoldsUpNobody: somebody who introduces itself again and again, and shows nothing, holds up Confirm, Leave and later newcomers for seconds
// at most.
func TestStrangerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(3))
		l.haunted(nodes[0], time.Second, func() {
			time.Sleep(10 * time.Second)
			if receipt, took := l.confirm(nodes[0], time.Minute, nil); took > 100*time.Millisecond || len(receipt.Missing) > 0 {
				t.Errorf("Confirm took %v; missing: %v", took, missing(receipt))
			}
			for i := range 3 {
				n := l.member(fmt.Sprint("later", i))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := n.Join(ctx, addr(nodes[i].Cluster)); err != nil {
					t.Error(err)
				}
				cancel()
			}
			began := time.Now()
			must(t, nodes[0].Leave(t.Context()))
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("Leave took %v", took)
			}
		})
	})
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(3))
		l.haunted(nodes[0], 20*time.Second, func() {
			if receipt, took := l.confirm(nodes[0], 10*time.Minute, nil); took > 5*time.Second {
				t.Errorf("Confirm a moment after the first packet took %v; missing: %v", took, missing(receipt))
			}
		})
	})
}

// TestStrangerSendsNothingToAThird: somebody introduces itself at an address of another one, waits until a Send is under way, and shows that it gets what
// is sent to its own. Nothing of the message goes to the other one.
func TestStrangerSendsNothingToAThird(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		us := l.members(3)[0]
		out := newOutsider(t, l.Lab, "outside")
		_, err := l.Net.Transport("victim")
		must(t, err)
		var toVictim, proof atomic.Uint64
		l.Net.Tap(func(e starlingtest.Event) {
			if e.To == "victim" {
				toVictim.Add(uint64(len(e.Data)))
			}
			if e.To != "outside" || e.Stream != 0 || len(e.Data) < 2 {
				return
			}
			p, err := wire.ParsePart(e.Data[1:])
			if err != nil {
				return
			}
			var m starlingpb.Baseline
			if c, err := wire.ParseControl(p.Control); err == nil && c.Body == wire.BodyBaseline && proto.Unmarshal(c.Content, &m) == nil {
				proof.Store(m.GetProof())
			}
		})
		out.packet(us.Self(), introducing(nobody(l.addrOf("victim"))))
		time.Sleep(20 * time.Millisecond)
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			ended <- us.ch.Send(ctx, "ghost", make([]byte, 400<<10))
		}()
		time.Sleep(100 * time.Millisecond)
		out.packet(us.Self(), introducing(nobody(l.addrOf("outside"))))
		time.Sleep(100 * time.Millisecond)
		if proof.Load() == 0 {
			t.Fatal("nothing was answered that it could repeat")
		}
		out.packet(us.Self(), wire.EncodeControl(nobody(l.addrOf("outside")), wire.BodyHeard, &starlingpb.BaselineHeard{Proof: proof.Load()}))
		if err := arrives(t, "the end of Send", ended); err == nil {
			t.Error("the Send to nobody returned nil")
		}
		if n := toVictim.Load(); n > 2000 {
			t.Errorf("%d bytes went to somebody who has shown nothing", n)
		}
	})
}
