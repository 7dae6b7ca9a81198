package transport

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestPreparedByMemberlist: memberlist writes a message to the stream that was prepared, with its label and its encryption, and
// dials none itself.
func TestPreparedByMemberlist(t *testing.T) {
	var members [2]*memberlist.Memberlist
	var transports [2]*Transport
	heard := make(arrivals, 10)
	for i := range members {
		c := memberlist.DefaultLocalConfig()
		c.Name, c.Label, c.SecretKey, c.Logger = string(rune('a'+i)), "test", make([]byte, 16), log.New(io.Discard, "", 0)
		transports[i] = testListen(t, Options{})
		c.Transport, c.Delegate = transports[i], heard
		m, err := memberlist.Create(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Shutdown() })
		members[i] = m
	}
	to := *members[1].LocalNode()
	name, release, err := transports[0].Prepare(t.Context(), to.FullAddress(), 0)
	if err != nil {
		t.Fatal(err)
	}
	to.Name = name
	if err := members[0].SendReliable(&to, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	release()
	if got := receive(t, "message", heard); string(got) != "hello" {
		t.Errorf("heard %q", got)
	}
	waitUntil(t, "the stream is closed", func() bool { return openStreams(transports[0]) == 0 })
	if c := transports[0].Traffic(); c.StreamsDialed != 1 || len(transports[0].prepared) != 0 {
		t.Errorf("%d streams were dialled, %d are still prepared", c.StreamsDialed, len(transports[0].prepared))
	}
}

// TestPreparedTwice: two streams that are prepared for a member at once have names of their own, and both are to be had.
func TestPreparedTwice(t *testing.T) {
	from, to := testListen(t, Options{}), testListen(t, Options{})
	a := memberlist.Address{Addr: to.Bound().String(), Name: "to"}
	var names []string
	for range 2 {
		name, release, err := from.Prepare(t.Context(), a, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		names = append(names, name)
	}
	if names[0] == names[1] || len(from.prepared) != 2 {
		t.Errorf("they are called %q, %d are prepared", names, len(from.prepared))
	}
}

// TestPreparedIsNobodyElses: who dials the member by its own name, or the name at another address, gets a stream of its own.
func TestPreparedIsNobodyElses(t *testing.T) {
	from, to, other := testListen(t, Options{}), testListen(t, Options{}), testListen(t, Options{})
	a := memberlist.Address{Addr: to.Bound().String(), Name: "to"}
	name, release, err := from.Prepare(t.Context(), a, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, dialled := range []memberlist.Address{a, {Addr: a.Addr}, {Addr: other.Bound().String(), Name: name}} {
		conn, err := from.DialAddressTimeout(dialled, giveItTime)
		if err != nil {
			t.Fatal(err)
		}
		if conn == net.Conn(from.prepared[memberlist.Address{Addr: a.Addr, Name: name}]) {
			t.Errorf("whoever dials %+v gets the stream", dialled)
		}
		_ = conn.Close()
	}
}

// TestPrepareEndsWithContext: when the context ends, so does the dial, with own sockets and where a user's transport does not heed
// it; and so does a write to the stream that was dialled.
func TestPrepareEndsWithContext(t *testing.T) {
	t.Run("sockets", func(t *testing.T) {
		tr := testListen(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := tr.Prepare(ctx, memberlist.Address{Addr: tr.Bound().String()}, 0); err == nil {
			t.Error("the dial heeds no context")
		}
	})
	t.Run("wrapped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inner := newPlain()
			near, far := net.Pipe()
			answer := make(chan struct{})
			inner.dial = func() (net.Conn, error) {
				<-answer
				return near, nil
			}
			tr := Wrap(inner, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			_, _, err := tr.Prepare(ctx, memberlist.Address{Addr: "b"}, 0)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
				t.Errorf("%v after %v", err, took)
			}
			close(answer)
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the stream that came too late is open: %v", err)
			}
			if err := tr.Shutdown(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inner := newPlain()
			near, far := net.Pipe()
			defer far.Close()
			inner.dial = func() (net.Conn, error) { return near, nil }
			tr := Wrap(inner, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			name, release, err := tr.Prepare(ctx, memberlist.Address{Addr: "b"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := tr.DialAddressTimeout(memberlist.Address{Addr: "b", Name: name}, giveItTime)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := conn.Write([]byte("nobody reads")); err == nil || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			release()
			if openStreams(tr) != 0 || len(tr.prepared) != 0 {
				t.Errorf("%d streams are open, %d are prepared", openStreams(tr), len(tr.prepared))
			}
			if err := tr.Shutdown(); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestPrepareEndsWithShutdown: Shutdown does not wait for whoever has prepared a stream.
func TestPrepareEndsWithShutdown(t *testing.T) {
	tr, to := testListen(t, Options{}), testListen(t, Options{})
	_, release, err := tr.Prepare(t.Context(), memberlist.Address{Addr: to.Bound().String()}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tr.Shutdown(), to.Shutdown()); err != nil {
		t.Error(err)
	}
	release()
	noTransportGoroutines(t)
	if _, _, err := tr.Prepare(t.Context(), memberlist.Address{Addr: to.Bound().String()}, 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
}
