package spreadtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/certtest"
	"github.com/starling-go/starling/starlingtest"
)

// TestSpread measures Starling.
func TestSpread(t *testing.T) {
	p, err := readParams(os.LookupEnv, params{n: 12, size: 200, count: 20, warmup: 5})
	if err != nil {
		t.Fatal(err)
	}
	var r result
	l := &log{n: p.n}
	members := &starlingMembers{log: l}
	o := starlingtest.Options{Seed: max(p.seed, 1), Link: link(p, 0), Open: members.open}
	if p.tls {
		conf := certtest.New("spread").Config()
		conf.Time = func() time.Time { return conf.Certificates[0].Leaf.NotBefore.Add(time.Minute) } // in the bubble it is another year
		o.Config = func(string) starling.Config { return starling.Config{TLS: conf} }
	}
	starlingtest.Run(t, p.n, o, func(t *testing.T, lab *starlingtest.Lab) {
		r = measure(t, lab.Net, members, l, p)
	})
	report(t, p, r)
	if r.Delivered != 1 || r.Duplicates != 0 || r.Gaps != 0 {
		t.Errorf("delivered %v of the messages, %d twice, %d gaps: not everyone, once", r.Delivered, r.Duplicates, r.Gaps)
	}
}

// starlingMembers is a cluster of Starling's members.
type starlingMembers struct {
	log      *log
	channels []*starling.Channel[[]byte]
}

func (s *starlingMembers) open(m *starlingtest.Member) error {
	member := len(s.channels)
	ch, err := starling.NewChannelOf(m.Cluster, "spread", func(_ context.Context, msg starling.Message[[]byte]) {
		s.log.deliver(member, msg.Value)
	}, starling.Bytes(), nil)
	s.channels = append(s.channels, ch)
	go func() { // ends with the member
		for e := range m.Cluster.Events(context.Background()) {
			if e.Kind == starling.EventGap {
				s.log.gap()
			}
		}
	}()
	return err
}

func (s *starlingMembers) broadcast(member int, payload []byte) error {
	if err := s.channels[member].Broadcast(context.Background(), payload); err != nil {
		return fmt.Errorf("member %d: %w", member, err)
	}
	return nil
}
