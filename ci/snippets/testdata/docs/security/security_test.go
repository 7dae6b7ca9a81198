package security

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

func TestExpel(t *testing.T) {
	stolen, fresh := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keys := starlingtest.Options{Config: func(string) starling.Config { return starling.Config{Keys: [][]byte{stolen}} }}
	starlingtest.Run(t, 3, keys, func(t *testing.T, l *starlingtest.Lab) {
		for _, m := range l.Members() {
			l.Must(Expel(m.Cluster, fresh, stolen))
		}
		time.Sleep(time.Minute)
		l.WaitAll(time.Minute)
		for _, m := range l.Members() {
			s := m.Cluster.Keyring().Status()
			if s.Uses != starling.KeyFingerprint(fresh) || slices.Contains(append(s.Accepts, s.Dropped...), starling.KeyFingerprint(stolen)) {
				t.Errorf("%s: %+v", m.Name, s)
			}
		}
	})
}
