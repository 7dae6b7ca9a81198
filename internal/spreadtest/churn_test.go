package spreadtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// TestChurn broadcasts while members come and go: each second one joins, and one leaves or crashes. Whoever stays gets every
// message of whoever stays, once. CHURN_N and CHURN_SECONDS ask for a measurement; a plain go test takes a small one.
func TestChurn(t *testing.T) {
	n, seconds := fromEnv(t, "CHURN_N", 12), fromEnv(t, "CHURN_SECONDS", 6)
	const perSecond = 200
	c := &churn{took: map[string]map[uint64]int{}}
	starlingtest.Run(t, n, starlingtest.Options{Seed: 1, Link: link(params{latency: time.Millisecond}, 0), Open: c.open},
		func(t *testing.T, lab *starlingtest.Lab) {
			stay, rest := lab.Members()[:n/2], lab.Members()[n/2:]
			meter := newMeter(lab.Net)
			said := make(chan struct{})
			go func() {
				defer close(said)
				for i := range uint64(perSecond * seconds) {
					c.say(t, stay[i%uint64(len(stay))], i)
					time.Sleep(time.Second / perSecond)
				}
			}()
			rng := rand.New(rand.NewPCG(1, 2))
			var politely sync.WaitGroup
			for i := range seconds {
				time.Sleep(time.Second)
				rest = append(rest, lab.Start(fmt.Sprint("new", i)))
				at := rng.IntN(len(rest))
				leaver := rest[at]
				rest = append(rest[:at], rest[at+1:]...)
				if i%2 == 0 {
					lab.Crash(leaver.Name)
				} else {
					politely.Go(func() { leaver.Cluster.Leave(context.Background()) })
				}
			}
			<-said
			politely.Wait()
			time.Sleep(settle)
			sent, _ := meter.read()
			c.check(t, stay, perSecond*seconds, sent.parts)
		})
}

// churn notes who took which message.
type churn struct {
	mu         sync.Mutex
	took       map[string]map[uint64]int
	deliveries int
	channels   sync.Map // by name of the member
}

func (c *churn) open(m *starlingtest.Member) error {
	ch, err := starling.NewChannelOf(m.Cluster, "churn", func(_ context.Context, msg starling.Message[[]byte]) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.took[m.Name] == nil {
			c.took[m.Name] = map[uint64]int{}
		}
		c.took[m.Name][binary.BigEndian.Uint64(msg.Value)]++
		c.deliveries++
	}, starling.Bytes(), nil)
	c.channels.Store(m.Name, ch)
	return err
}

func (c *churn) say(t *testing.T, m *starlingtest.Member, number uint64) {
	payload := make([]byte, 200)
	binary.BigEndian.PutUint64(payload, number)
	ch, _ := c.channels.Load(m.Name)
	if err := ch.(*starling.Channel[[]byte]).Broadcast(context.Background(), payload); err != nil {
		t.Error(err)
	}
}

// check wants every message once at every member that stayed, but at its origin.
func (c *churn) check(t *testing.T, stay []*starlingtest.Member, count, parts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range stay {
		lacks, twice := 0, 0
		for number := range uint64(count) {
			switch times := c.took[m.Name][number]; {
			case int(number)%len(stay) == i:
			case times == 0:
				lacks++
			case times > 1:
				twice++
			}
		}
		if lacks > 0 || twice > 0 {
			t.Errorf("%s lacks %d of %d messages and took %d more than once", m.Name, lacks, count, twice)
		}
	}
	sends := float64(parts) / float64(c.deliveries)
	t.Logf("%d messages, %d deliveries, sends_per_delivery %.3f", count, c.deliveries, sends)
	if sends > 2.5 {
		t.Errorf("sends_per_delivery %.3f, want at most 2.5", sends)
	}
}

func fromEnv(t *testing.T, name string, small int) int {
	text, given := os.LookupEnv(name)
	if !given {
		return small
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 4 {
		t.Fatalf("%s=%q: want a number of at least 4", name, text)
	}
	return v
}
