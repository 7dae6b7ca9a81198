package starling_test

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// Strangers at the port: browsers and port scanners, packets of other programs, a member with a key that is no longer used, a
// member of another cluster. Before: an ERROR line for each, 600 of 600, nothing in Stats. Right: the first of a kind in a
// minute, then a count; all counted in Stats.
func TestStrangersAtThePortAreOneLogLine(t *testing.T) {
	const each = 200 // of a kind
	key, old := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for _, tt := range []struct {
		name     string
		keys     [][]byte
		label    string
		stranger func(*memberlist.Config) // how the memberlist that comes differs; nil: none comes
	}{
		{"no key, no label", nil, "", nil},
		{"an old key", [][]byte{key}, "", func(c *memberlist.Config) { c.SecretKey = old }},
		{"another cluster", nil, "ours", func(c *memberlist.Config) { c.Label = "theirs" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := &logCounter{from: slog.LevelWarn}
			o := starlingtest.Options{Config: func(string) starling.Config {
				return starling.Config{Keys: tt.keys, Label: tt.label, Logger: slog.New(lines)}
			}}
			starlingtest.Run(t, 1, o, func(t *testing.T, l *starlingtest.Lab) {
				us := l.Member("m0").Cluster
				outside := newOutsider(t, l, "outside")
				came := 0
				var stranger *memberlist.Memberlist
				if tt.stranger != nil {
					tr, err := l.Net.Transport("stranger")
					l.Must(err)
					c := memberlist.DefaultLANConfig()
					c.Name, c.Transport, c.Logger, c.EnableCompression = "stranger", tr, log.New(io.Discard, "", 0), false
					tt.stranger(c)
					stranger, err = memberlist.Create(c)
					l.Must(err)
					defer stranger.Shutdown()
				}
				lines.taken()
				began, refused := time.Now(), refusals(us)
				rng := rand.New(rand.NewPCG(1, 2))
				for range each {
					_ = outside.dial(us.Self(), time.Second, []byte("GET / HTTP/1.1\r\nHost: here\r\n\r\n"))
					junk := make([]byte, 10+rng.IntN(100))
					for i := range junk {
						junk[i] = byte(rng.Uint32())
					}
					junk[0] = 'G' // no type of memberlist's
					outside.raw(us.Self().Addr, junk)
					came += 2
					if stranger != nil {
						node := &memberlist.Node{Name: "m0", Addr: net.IP(us.Self().Addr.Addr().AsSlice()), Port: us.Self().Addr.Port()}
						_ = stranger.SendBestEffort(node, []byte("hello"))
						_, err := stranger.Join([]string{us.Self().Addr.String()})
						if err == nil {
							t.Fatal("the stranger is a member: nothing is tested")
						}
						came += 2
					}
					time.Sleep(500 * time.Millisecond)
				}
				time.Sleep(90 * time.Second) // so that the last count is told
				n, first := lines.taken()
				t.Logf("%d strangers came in %v: %d lines of WARN and above, such as\n\t%s",
					came, time.Since(began).Round(time.Second), n, fewLines(first))
				// Four kinds at most, and for each of them a first line and a count in each minute that has begun.
				minutes := int(time.Since(began).Minutes()) + 1
				if most := 4 * minutes * 2; n > most {
					t.Errorf("%d lines for %d strangers, at most %d are right", n, came, most)
				}
				if n == 0 {
					t.Error("not one line")
				}
				if counted := refusals(us) - refused; counted < uint64(came) {
					t.Errorf("Stats counts %d of %d strangers", counted, came)
				}
			})
		})
	}
}
