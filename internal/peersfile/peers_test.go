package peersfile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 7946)
}

// logged is what a Keeper has said.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) lines(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func open(path, label string) (*Keeper, *logged) {
	l := new(logged)
	return Open(path, label, slog.New(slog.NewTextHandler(l, nil)), time.Now()), l
}

func namesOf(k *Keeper) (names []string) {
	for _, p := range k.Peers(time.Now()) {
		names = append(names, p.Name)
	}
	return names
}

// running lets a Keeper write while test runs.
func running(t *testing.T, k *Keeper, test func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	test()
	cancel()
	wg.Wait()
}

// TestKeeper: what is written is read again, the most useful first; a name at another address, and an address under another name, are one peer.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "peers")
		k, said := open(path, "l")
		running(t, k, func() {
			for i, name := range []string{"moves", "a", "restarts", "gone"} {
				k.Met(name, at(i), time.Now())
			}
			k.Met("moves", at(7), time.Now())
			k.Met("restarted", at(2), time.Now())
			k.Gone("gone", time.Now())
			k.Gone("unknown", time.Now())
			time.Sleep(WriteAfter + time.Millisecond)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("after %v: %v, %v", WriteAfter, info, err)
			}
			k.Met("late", at(9), time.Now()) // is written at the end
		})
		again, _ := open(path, "l")
		if got, want := fmt.Sprint(namesOf(k)), "[a late moves restarted gone]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		got := namesOf(again)
		slices.Sort(got)
		if want := "[a gone late moves restarted]"; fmt.Sprint(got) != want {
			t.Errorf("read again: %s, want %s", got, want)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%d files are left", len(entries))
		}
		if said.lines("level") > 0 {
			t.Errorf("said: %s", said.b.String())
		}
	})
}

// TestKeeperForgets: who has gone is forgotten after GoneFor, however often the process starts again; who is here is not.
func TestKeeperForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "peers")
		k, _ := open(path, "")
		running(t, k, func() {
			k.Met("gone", at(1), time.Now())
			k.Met("here", at(2), time.Now())
			k.Gone("gone", time.Now())
		})
		for range 3 {
			time.Sleep(GoneFor / 4)
			k, _ = open(path, "")
			running(t, k, func() { k.Met("here", at(2), time.Now()) })
		}
		if got := fmt.Sprint(namesOf(k)); got != "[here gone]" {
			t.Errorf("remembered: %s", got)
		}
		time.Sleep(GoneFor/4 + time.Second)
		if got := fmt.Sprint(namesOf(k)); got != "[here]" {
			t.Errorf("remembered after %v: %s", GoneFor, got)
		}
		// A process that was down for long: those that were there at its end are all there is.
		time.Sleep(10 * GoneFor)
		if k, _ = open(path, ""); fmt.Sprint(namesOf(k)) != "[here]" {
			t.Errorf("remembered by one that was down: %s", namesOf(k))
		}
	})
}

// TestKeeperBounds: of more than MaxPeers those that went first are forgotten, and a file of the largest is one that is read.
func TestKeeperBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers")
	k, _ := open(path, strings.Repeat("\x01", 255))
	now := time.Now()
	name := func(i int) string { return fmt.Sprintf("%s%04d", strings.Repeat("\x01", maxName-4), i) }
	for i := range MaxPeers {
		k.Met(name(i), at(i), now)
		k.Gone(name(i), now.Add(time.Duration(i)))
	}
	for i := range 3 {
		k.Met(name(MaxPeers+i), at(MaxPeers+i), now)
	}
	k.Met(strings.Repeat("n", maxName+1), at(9999), now)
	k.Met("no address", netip.AddrPort{}, now)
	k.Met("caf\xe9", at(9998), now)
	got := k.Peers(now)
	if len(got) != MaxPeers || !got[0].Gone.IsZero() || got[MaxPeers-1].Name != name(3) {
		t.Errorf("%d peers, the last is %q", len(got), got[len(got)-1].Name)
	}
	b := encode(k.label, got)
	if again, err := decode(b, k.label); err != nil || len(again) != MaxPeers {
		t.Errorf("%d bytes: %d peers, %v", len(b), len(again), err)
	}
}

// TestOpenBadFiles: what is no file of this cluster's peers is empty, and said, and is written over.
func TestOpenBadFiles(t *testing.T) {
	peer := func(p string) string { return `{"starling_peers":1,"label":"l","peers":[` + p + `]}` }
	good := peer(`{"name":"a","addr":"10.0.0.1:1"}`)
	for text, says := range map[string]string{
		good:                   "",
		"":                     "unexpected end",
		good[:len(good)-3]:     "unexpected end",
		"[]":                   "no file of peers",
		"{}":                   "starling_peers is 0, want 1",
		`{"starling_peers":2}`: "another version",
		strings.Replace(good, `"l"`, `"other"`, 1):     "its label is \\\"other\\\", this member's \\\"l\\\"",
		peer(`{"name":"","addr":"10.0.0.1:1"}`):        "a name of 0 bytes",
		peer(`{"name":"a","addr":"10.0.0.1:0"}`):       "has the address",
		peer(`{"name":"a","addr":"0.0.0.0:1"}`):        "has the address",
		peer(`{"name":"a","addr":"[fe80::1%eth0]:1"}`): "has the address",
		peer(`{"name":"a","addr":"name:1"}`):           "no file of peers",
		peer(strings.Repeat(`{"name":"a","addr":"10.0.0.1:1"},`, MaxPeers) + `{"name":"a","addr":"10.0.0.1:1"}`): "1025 peers, limit 1024",
		good + strings.Repeat(" ", maxSize): "larger than 1048576 bytes",
	} {
		path := filepath.Join(t.TempDir(), "peers")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, said := open(path, "l")
		if says == "" {
			if fmt.Sprint(namesOf(k)) != "[a]" {
				t.Errorf("%.80q: %v, %s", text, namesOf(k), said.b.String())
			}
			continue
		}
		if len(namesOf(k)) > 0 || said.lines("is taken for empty") != 1 || !strings.Contains(said.b.String(), says) {
			t.Errorf("%.80q: %v, said %s, want %q", text, namesOf(k), said.b.String(), says)
		}
		running(t, k, func() { k.Met("new", at(1), time.Now()) })
		if k, _ = open(path, "l"); fmt.Sprint(namesOf(k)) != "[new]" {
			t.Errorf("%.80q is not written over: %v", text, namesOf(k))
		}
	}
}

// TestKeeperCannotWrite: it says so once a minute, goes on, and writes when it can.
func TestKeeperCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(dir, "peers")
		k, said := open(path, "")
		running(t, k, func() {
			k.Met("a", at(1), time.Now())
			time.Sleep(150 * time.Second)
			if n := said.lines("cannot be written"); n != 3 {
				t.Errorf("said %d times in 150 s", n)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * WriteAfter)
		})
		if k, _ = open(path, ""); fmt.Sprint(namesOf(k)) != "[a]" {
			t.Errorf("not written when it can be: %v", namesOf(k))
		}
	})
}

// TestCheck: where no file can be made is said; what a killed process has left is removed, and nothing else.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	for path, says := range map[string]string{
		filepath.Join(dir, "none", "peers"): "no file can be made beside it", dir: "not a regular file", filepath.Join(dir, "peers"): "",
	} {
		if err := Check(path); (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"peers.1.tmp", "peers", "other.1.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "peers.2.tmp"), nil, 0o600); err != nil { // somebody is writing it
		t.Fatal(err)
	}
	if err := Check(filepath.Join(dir, "peers")); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := "[other.1.tmp peers peers.2.tmp]"; fmt.Sprint(left) != want {
		t.Errorf("left are %v, want %s", left, want)
	}
}

// FuzzDecode: no file makes a member panic; what is read is within the bounds, and is written and read again as it is.
func FuzzDecode(f *testing.F) {
	f.Add(encode("l", []Peer{{Name: "a", Addr: at(1)}, {Name: "b", Addr: at(2), Gone: time.Unix(1e9, 0).UTC()}}))
	f.Add([]byte(`{"starling_peers":1,"label":"l","peers":[{"name":"\ud800","addr":"[::ffff:1.2.3.4]:1","gone":"9999-12-31T23:59:59+23:59"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := decode(b, "l")
		if err != nil {
			return
		}
		if len(peers) > MaxPeers {
			t.Errorf("%d peers", len(peers))
		}
		k := &Keeper{label: "l", changed: make(chan struct{}, 1), byName: map[string]Peer{}}
		now := time.Now()
		for _, p := range peers {
			k.keep(p, now)
		}
		kept := k.Peers(now)
		again, err := decode(encode("l", kept), "l")
		if err != nil || len(again) != len(kept) {
			t.Fatalf("%d peers became %d: %v", len(kept), len(again), err)
		}
		for i, p := range again {
			if p.Name != kept[i].Name || p.Addr != kept[i].Addr || !p.Gone.Equal(kept[i].Gone) {
				t.Errorf("%+v became %+v", kept[i], p)
			}
		}
	})
}
