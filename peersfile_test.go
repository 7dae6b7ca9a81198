package starling_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// fileOf gives each member that starts a file of its own in a directory.
func (l *lab) fileOf(dir string, alter func(*starling.Config)) func(name string) {
	return func(name string) {
		l.configure = func(c *starling.Config) {
			c.PeersFile = filepath.Join(dir, name)
			if alter != nil {
				alter(c)
			}
		}
	}
}

// TestPeersFile: 30 members are killed, and ten of them started again, whose seeds are dead. They find each other by their files.
func TestPeersFile(t *testing.T) {
	dir := t.TempDir()
	inLab(t, func(t *testing.T, l *lab) {
		const all, again = 30, 10
		dead := []string{"10.250.0.1:7946", "10.250.0.2:7946"} // nobody has these
		withFile := l.fileOf(dir, func(c *starling.Config) { c.Seeds = dead })
		start := func(name string) *node {
			withFile(name)
			return l.member(name)
		}
		for i := range all {
			n := start(fmt.Sprint("m", i))
			if i > 0 {
				l.join(n, l.nodes[0])
			}
		}
		l.whole(l.nodes...)
		time.Sleep(2 * time.Second) // a change is written after one
		l.crash(l.nodes[all-1])     // a while before the others, so that it has failed for them
		time.Sleep(20 * time.Second)
		for _, n := range slices.Clone(l.nodes) {
			l.Must(l.Net.Crash(n.name))
		}
		for _, n := range slices.Clone(l.nodes) { // what they notice now is in no file
			l.crashed(n)
		}
		began := time.Now()
		var joins sync.WaitGroup
		for i := range again {
			n := start(fmt.Sprint("m", (all-1+i)%all))
			joins.Go(func() {
				if err := n.Join(soon(t)); err != nil {
					t.Errorf("%s: %v", n.name, err)
				}
			})
		}
		l.whole(l.nodes...)
		took := time.Since(began)
		joins.Wait()
		t.Logf("whole after %v, all taken in after %v", took, time.Since(began))
		if took > 10*time.Second {
			t.Errorf("whole after %v", took)
		}
	})
}

// crashed is crash for one that is off the network already.
func (l *lab) crashed(n *node) {
	l.gone(n)
	n.Close()
}

// TestPeersFileNobody: those that a file names need not be there: who has no seed, or is its own, is a member alone within 3 s, and finds them when
// they are back.
func TestPeersFileNobody(t *testing.T) {
	dir := t.TempDir()
	inLab(t, func(t *testing.T, l *lab) {
		l.fileOf(dir, nil)("a")
		a, b := l.member("a"), (*node)(nil)
		l.configure = nil
		b = l.member("b")
		l.join(a, b)
		l.whole(a, b)
		l.Must(b.Leave(soon(t))) // who has left is remembered too
		l.gone(b)
		l.Must(l.Net.Crash("b"))
		for _, seeds := range [][]string{nil, {addr(a.Cluster)}} {
			l.crash(a)
			l.fileOf(dir, func(c *starling.Config) { c.Seeds = seeds })("a")
			a = l.member("a")
			if a.Health().NotReady == nil {
				t.Error("ready before Join")
			}
			began := time.Now()
			l.Must(a.Join(soon(t)))
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("Join took %v with the seeds %v", took, seeds)
			}
		}
		l.configure = nil
		b = l.member("b")
		if took, ok := within(20*time.Second, func() bool { return len(b.Members()) == 2 }); !ok {
			t.Errorf("after %v who was remembered is no member", took)
		}
	})
}

// TestPeersFileTrouble: a directory that is not there is an error of New; a file of another cluster is said, and no reason to fail. The line that no
// seed answers tells of the peers too.
func TestPeersFileTrouble(t *testing.T) {
	dir := t.TempDir()
	inLab(t, func(t *testing.T, l *lab) {
		tr, err := l.Net.Transport("x")
		l.Must(err)
		_, err = starling.New(starling.Config{Name: "x", Transport: tr, Logger: quiet, PeersFile: filepath.Join(dir, "none", "peers")})
		if !faultOf(err, "PeersFile") || !strings.Contains(err.Error(), "no file can be made beside it") {
			t.Errorf("New: %v", err)
		}
		lines := &logCounter{from: slog.LevelWarn}
		withFile := l.fileOf(dir, func(c *starling.Config) { c.Logger = slog.New(lines) })
		withFile("a")
		a := l.member("a")
		l.configure = nil
		b := l.member("b")
		l.join(a, b)
		l.whole(a, b)
		l.crash(b)
		l.crash(a)
		withFile("a")
		a = l.member("a")
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		err = a.Join(ctx, "10.250.0.1:7946")
		if found := seedErrors(err); len(found) != 2 || found["Config.PeersFile"] == nil {
			t.Errorf("Join: %v", err)
		}
		said := lines.warnings("no seed has answered")
		if len(said) == 0 {
			t.Fatal("nothing is said")
		}
		holdsAll(t, said[len(said)-1], "10.250.0.1:7946: dial", "Config.PeersFile: dial")
		l.crash(a)
		l.fileOf(dir, func(c *starling.Config) { c.Logger, c.Label = slog.New(lines), "other" })("a")
		a = l.member("a")
		l.Must(a.Join(soon(t)))
		time.Sleep(time.Second) // the log has a goroutine of its own
		if n := len(lines.warnings("is taken for empty")); n != 1 {
			t.Errorf("%d lines about the file of another label", n)
		}
	})
}
