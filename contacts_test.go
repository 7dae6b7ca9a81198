package starling_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// Contacts tells which seeds nobody answers at, for as long as that is so, and whose packets come.
func TestContacts(t *testing.T) {
	starlingtest.Run(t, 2, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		m0, m1 := l.Member("m0").Cluster, l.Member("m1").Cluster
		tr, err := l.Net.Transport("m2") // which gets the address that the seed names
		must(t, err)
		seed := tr.Addr().String()
		must(t, tr.Shutdown())
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m0.Join(ctx, seed, m1.Self().Addr.String(), m0.Self().Addr.String())
		unanswered := func(want ...string) func() error {
			return func() error {
				var got []string
				for _, e := range m0.Contacts().Seeds {
					got = append(got, e.Seed)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					return fmt.Errorf("unanswered: %v, want %v", got, want)
				}
				return nil
			}
		}
		l.Within(20*time.Second, unanswered(seed))
		time.Sleep(time.Minute)
		l.Within(0, unanswered(seed))
		l.Start("m2")
		l.Within(20*time.Second, unanswered())
		time.Sleep(10 * time.Second)
		heard := m0.Contacts().Heard
		for _, name := range []string{"m1", "m2"} {
			if ago := time.Since(heard[name]); ago < 0 || ago > 10*time.Second {
				t.Errorf("%s was heard %v ago", name, ago)
			}
		}
		if len(heard) != 2 {
			t.Errorf("heard: %v", heard)
		}
		k, err := l.Net.Link("m2", "m0")
		must(t, err)
		k.BlockPackets = true
		must(t, l.Net.SetLink("m2", "m0", k))
		time.Sleep(time.Minute)
		if ago := time.Since(m0.Contacts().Heard["m2"]); ago < 55*time.Second {
			t.Errorf("m2 was heard %v ago, and its packets are blocked", ago)
		}
		l.Crash("m2")
		l.Within(time.Minute, unanswered(seed))
		must(t, m0.Close())
		if c := m0.Contacts(); len(c.Heard) != 1 {
			t.Errorf("after Close: %v", c.Heard)
		}
	})
}

// Contacts tells what was refused of others, and why.
func TestContactsRefused(t *testing.T) {
	for _, test := range []struct {
		own, other starling.Config
		reason     starling.RefusedReason
	}{
		{starling.Config{Label: "eu"}, starling.Config{Label: "us"}, starling.RefusedLabel},
		{starling.Config{}, starling.Config{Label: "us"}, starling.RefusedLabel},
		{starling.Config{Label: "eu"}, starling.Config{}, starling.RefusedLabel},
		{starling.Config{Keys: [][]byte{make([]byte, 16)}}, starling.Config{Keys: [][]byte{make([]byte, 32)}}, starling.RefusedKeys},
		{starling.Config{Keys: [][]byte{make([]byte, 16)}}, starling.Config{}, starling.RefusedKeys},
		{starling.Config{}, starling.Config{Keys: [][]byte{make([]byte, 16)}}, starling.RefusedKeys},
	} {
		t.Run(fmt.Sprintf("%q and %d keys, %q and %d keys", test.own.Label, len(test.own.Keys), test.other.Label, len(test.other.Keys)), func(t *testing.T) {
			o := starlingtest.Options{Config: func(name string) starling.Config {
				if name == "m0" {
					return test.own
				}
				return test.other
			}}
			starlingtest.Run(t, 1, o, func(t *testing.T, l *starlingtest.Lab) {
				m0 := l.Member("m0").Cluster
				l.StartAlone("x")
				if c := m0.Contacts(); len(c.Refused) > 0 || c.Label != test.own.Label {
					t.Errorf("at first: %+v", c)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				if err := l.Member("x").Cluster.Join(ctx, m0.Self().Addr.String()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("joined: %v", err)
				}
				refused := m0.Contacts().Refused
				if len(refused) != 1 || refused[0].Reason != test.reason || refused[0].Count == 0 || refused[0].Said == "" ||
					time.Since(refused[0].Last) > 3*time.Second || m0.Stats().Dropped[starling.DropRefused] != refused[0].Count {
					t.Errorf("%+v", refused)
				}
			})
		})
	}
}

// A connection that is closed, or cut off, without a byte has another label no more than another key: a health check does that.
func TestContactsHealthChecks(t *testing.T) {
	for _, label := range []string{"", "eu"} {
		for _, linger := range []int{-1, 0} { // closed, and reset
			t.Run(fmt.Sprintf("label %q, linger %d", label, linger), func(t *testing.T) {
				c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0", Label: label})
				must(t, err)
				defer c.Close()
				dial := func() *net.TCPConn {
					conn, err := net.Dial("tcp", c.Self().Addr.String())
					must(t, err)
					return conn.(*net.TCPConn)
				}
				for range 3 {
					conn := dial()
					must(t, conn.SetLinger(linger))
					must(t, conn.Close())
				}
				other := dial() // whose label comes, so that all before were seen
				defer other.Close()
				_, err = other.Write([]byte("\xf4\x02us-"))
				must(t, err)
				deadline := time.Now().Add(10 * time.Second)
				for len(c.Contacts().Refused) == 0 && time.Now().Before(deadline) {
					time.Sleep(time.Millisecond)
				}
				if r := c.Contacts().Refused; len(r) != 1 || r[0].Count != 1 || r[0].Reason != starling.RefusedLabel {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}
