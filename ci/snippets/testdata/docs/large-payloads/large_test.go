package largepayloads

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

func TestPush(t *testing.T) {
	text := bytes.Repeat([]byte("rule "), 200_000)
	var came [3]atomic.Int64 // bytes, by member
	rules := map[string]*starling.Channel[[]byte]{}
	open := func(m *starlingtest.Member) (err error) {
		i := m.Name[1] - '0'
		take := func(_ context.Context, m starling.Message[[]byte]) { came[i].Add(int64(len(m.Value))) }
		rules[m.Name], err = starling.NewChannelOf(m.Cluster, "rules", take, starling.Bytes(), nil)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		l.Must(Push(t.Context(), rules["m0"], text))
		time.Sleep(time.Second)
		for i, want := range []int{0, len(text), len(text)} {
			if got := came[i].Load(); got != int64(want) {
				t.Errorf("m%d was given %d bytes, should be %d", i, got, want)
			}
		}
	})
}
