package fromalertmanager

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestSilences(t *testing.T) {
	silences := map[string]*Silences{}
	open := func(m *starlingtest.Member) (err error) {
		silences[m.Name], err = NewSilences(m.Cluster)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		until := time.Now().Add(time.Hour)
		l.Must(silences["m0"].Silence("noise", until))
		l.Start("m3")
		l.Within(5*time.Second, func() error {
			for name, s := range silences {
				s.mu.Lock()
				got := s.until["noise"]
				s.mu.Unlock()
				if !got.Equal(until) {
					return fmt.Errorf("%s is silent until %v", name, got)
				}
			}
			return nil
		})
	})
}
