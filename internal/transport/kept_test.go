package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// keptPair are two members in a bubble: one dials the other, which reads each stream as memberlist does.
type keptPair struct {
	t        *testing.T
	from, to *Transport
	refuse   bool // dials fail

	mu    sync.Mutex
	conns []net.Conn // of the dialled one, by their dials
	read  []string   // the streams that it has read
	slow  time.Duration
	least int           // how many bytes of each it reads; 0: all
	says  string        // what it writes to each
	pause time.Duration // before each 16 KiB that it reads

	moved func() // given to Prepare
}

var keptTo = memberlist.Address{Addr: "b", Name: "b"}

func inKeptPair(t *testing.T, test func(*testing.T, *keptPair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &keptPair{t: t}
		dialling, dialled := newPlain(), newPlain()
		p.from, p.to = Wrap(dialling, Options{}), Wrap(dialled, Options{})
		dialling.dial = func() (net.Conn, error) {
			if p.refuse {
				return nil, errors.New("refused")
			}
			near, far := net.Pipe()
			p.mu.Lock()
			p.conns = append(p.conns, far)
			p.mu.Unlock()
			dialled.streams <- far
			return near, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case conn := <-p.to.StreamCh():
					wg.Go(func() { p.readOne(conn) })
				case <-ctx.Done():
					return
				}
			}
		})
		test(t, p)
		if err := errors.Join(p.from.Shutdown(), p.to.Shutdown()); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
		if n := openStreams(p.from) + openStreams(p.to); n != 0 {
			t.Errorf("%d streams are open at the end", n)
		}
	})
}

// readOne reads a stream to its end, or as much of it as least says, and closes it.
func (p *keptPair) readOne(conn net.Conn) {
	var r io.Reader = conn
	if p.least > 0 {
		r = io.LimitReader(conn, int64(p.least))
	}
	if p.pause > 0 {
		r = &pausing{Reader: r, pause: p.pause}
	}
	b, err := io.ReadAll(r)
	time.Sleep(p.slow)
	if p.says != "" {
		_, _ = io.WriteString(conn, p.says)
	}
	p.mu.Lock()
	if err == nil {
		p.read = append(p.read, string(b))
	}
	p.mu.Unlock()
	_ = conn.Close()
}

// pausing pauses before each moreBytes that it reads.
type pausing struct {
	io.Reader
	pause time.Duration
	left  int // until it pauses
}

func (r *pausing) Read(b []byte) (int, error) {
	if r.left == 0 {
		time.Sleep(r.pause)
		r.left = moreBytes
	}
	n, err := r.Reader.Read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// stream prepares a stream, writes it piece by piece as memberlist does, and lets a second pass.
func (p *keptPair) stream(pieces ...string) error {
	p.t.Helper()
	name, release, err := p.from.Kept.Prepare(p.t.Context(), keptTo, p.moved)
	if err != nil {
		return err
	}
	defer time.Sleep(time.Second)
	defer release()
	conn, err := p.from.DialAddressTimeout(memberlist.Address{Addr: keptTo.Addr, Name: name}, 0)
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		if n, err := io.WriteString(conn, piece); err != nil || n != len(piece) {
			return errors.Join(err, conn.Close())
		}
	}
	return conn.Close()
}

// free is how many connections are free for a stream.
func (p *keptPair) free() int {
	p.from.Kept.mu.Lock()
	defer p.from.Kept.mu.Unlock()
	return p.from.Kept.all
}

func (p *keptPair) dials() int { return int(p.from.Traffic().StreamsDialed) }

func (p *keptPair) wantRead(want ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.read, want) {
		p.t.Errorf("read %d streams of %d bytes, want %d of %d", len(p.read), len(strings.Join(p.read, "")), len(want), len(strings.Join(want, "")))
	}
}

// Streams of any size and in any pieces come one after the other on one connection, each with its own end.
func TestKept(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		var want []string
		for _, pieces := range [][]string{{"label", "hello"}, {"x"}, {strings.Repeat("y", joined)}, {strings.Repeat("z", 3*joined+1), "end"}} {
			if err := p.stream(pieces...); err != nil {
				t.Fatal(err)
			}
			want = append(want, strings.Join(pieces, ""))
		}
		p.wantRead(want...)
		if c := p.from.Traffic(); c.StreamsDialed != 1 || c.StreamsReused != 3 {
			t.Errorf("%d dialled, %d reused", c.StreamsDialed, c.StreamsReused)
		}
	})
}

// Of a stream that is read slowly the writer is told so, each 16 KiB, but not more often than each 100 ms, and without an end of its time; of one that is
// read fast, or where nobody wants to know, nothing is told.
func TestKeptTells(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		var mu sync.Mutex
		var told []time.Time
		now := func() int {
			mu.Lock()
			defer mu.Unlock()
			defer func() { told = nil }()
			for i := range told[:max(len(told)-1, 0)] {
				if told[i+1].Sub(told[i]) < moreEvery {
					t.Errorf("told again after %v", told[i+1].Sub(told[i]))
				}
			}
			return len(told)
		}
		p.moved = func() {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, time.Now())
		}
		const blocks = 20
		large := strings.Repeat("x", blocks*moreBytes)
		for _, test := range []struct {
			pause time.Duration
			least int
		}{{0, 0}, {10 * time.Millisecond, 1}, {200 * time.Millisecond, blocks - 2}, {0, 0}, {defaultStreamTimeout * 9 / 10, blocks - 2}} {
			p.pause = test.pause
			if err := p.stream(large); err != nil {
				t.Fatalf("read each %v: %v", test.pause, err)
			}
			if n := now(); n < test.least || n > blocks || test.least == 0 && n != 0 {
				t.Errorf("read each %v, it is told %d times", test.pause, n)
			}
		}
		if p.dials() > 2 { // one was a minute old
			t.Errorf("%d dials", p.dials())
		}
	})
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.pause = 200 * time.Millisecond
		if err := p.stream(strings.Repeat("x", 20*moreBytes)); err != nil {
			t.Fatal(err)
		}
		if n := p.to.Traffic().StreamBytesSent; n != 1 {
			t.Errorf("nobody wants to know, and %d bytes are told", n)
		}
	})
}

// Whoever tells that it has read more than was written costs its connection, and nothing is made of it.
func TestKeptToldTooOften(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		told := 0
		p.moved = func() { told++ }
		p.slow = 5 * time.Second
		if err := p.stream(strings.Repeat("x", 2*moreBytes)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			_, _ = p.conns[0].Write([]byte{keptMore})
		}
		synctest.Wait()
		if told != 2 || openStreams(p.from) != 0 {
			t.Errorf("told %d times, %d connections are open", told, openStreams(p.from))
		}
	})
}

// A connection whose last stream was not read yet is not written to: another is dialled. Both are kept then.
func TestKeptIsNotQueuedOn(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.slow = 1500 * time.Millisecond // a stream takes a second here
		for range 6 {
			if err := p.stream("hello"); err != nil {
				t.Fatal(err)
			}
		}
		if p.dials() != 2 {
			t.Errorf("%d dials, want 2", p.dials())
		}
	})
}

// A stream that nobody answers costs its connection, after the time-out of a stream.
func TestKeptUnanswered(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.slow = 2 * defaultStreamTimeout
		if err := p.stream("hello"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultStreamTimeout - 1500*time.Millisecond)
		if n := openStreams(p.from); n != 1 {
			t.Errorf("%d connections are open before the time-out", n)
		}
		time.Sleep(time.Second)
		if n := openStreams(p.from); n != 0 {
			t.Errorf("%d connections are open after the time-out", n)
		}
		time.Sleep(defaultStreamTimeout)
	})
}

// A connection that no stream needs is closed after a while, by who has dialled it.
func TestKeptIdle(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		for _, pause := range []time.Duration{0, keptIdle - 2*time.Second, keptIdle - 2*time.Second} {
			time.Sleep(pause)
			if err := p.stream("hello"); err != nil {
				t.Fatal(err)
			}
		}
		if p.dials() != 1 {
			t.Errorf("%d dials", p.dials())
		}
		time.Sleep(keptIdle)
		if from, to := openStreams(p.from), openStreams(p.to); from != 0 || to != 0 || p.free() != 0 {
			t.Errorf("open after %v: %d dialled, %d accepted; %d are free", keptIdle, from, to, p.free())
		}
		if err := p.stream("hello"); err != nil || p.dials() != 2 {
			t.Errorf("%d dials, error %v", p.dials(), err)
		}
	})
}

// A connection that is always in use is made anew all the same.
func TestKeptAge(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		for range 18 {
			if err := p.stream("hello"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(9 * time.Second)
		}
		synctest.Wait()
		if p.dials() != 3 || len(p.read) != 18 {
			t.Errorf("%d dials in three minutes; %d streams were read", p.dials(), len(p.read))
		}
		conn, err := p.from.DialAddressTimeout(keptTo, 0) // whoever means ill does not give it up
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		if err := conn.SetDeadline(began.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for _, err = io.WriteString(conn, keptHead); err == nil && time.Since(began) < time.Hour; time.Sleep(5 * time.Second) {
			if _, err = io.WriteString(conn, "\x00\x00\x00\x00"); err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
		}
		if lived := time.Since(began); lived > 2*keptAge+6*time.Second || lived < 2*keptAge {
			t.Errorf("it lived for %v", lived)
		}
	})
}

// A stream may begin in the moment in which the connection is given up for idle: it arrives, there or on another connection.
func TestKeptIdleAtTheMoment(t *testing.T) {
	for _, early := range []time.Duration{0, 1, time.Microsecond} {
		inKeptPair(t, func(t *testing.T, p *keptPair) {
			for range 5 {
				if err := p.stream("hello"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(keptIdle - time.Second - early)
			}
			p.wantRead("hello", "hello", "hello", "hello", "hello")
		})
	}
}

// The other end restarts, or closes for another reason: the connection is not used again.
func TestKeptIsGone(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		if err := p.stream("before"); err != nil {
			t.Fatal(err)
		}
		_ = p.conns[0].Close()
		time.Sleep(time.Second)
		if err := p.stream("after"); err != nil {
			t.Fatal(err)
		}
		p.wantRead("before", "after")
	})
}

// Forget closes what is kept for a member.
func TestKeptForgotten(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		if err := p.stream("hello"); err != nil {
			t.Fatal(err)
		}
		p.from.Kept.Forget(memberlist.Address{Addr: "another"})
		if n := openStreams(p.from); n != 1 {
			t.Errorf("%d connections are open", n)
		}
		p.from.Kept.Forget(keptTo)
		time.Sleep(time.Second)
		if n := openStreams(p.from) + openStreams(p.to); n != 0 || p.free() != 0 {
			t.Errorf("%d connections are open, %d free", n, p.free())
		}
	})
}

// Who gives up a stream in the middle breaks its connection, and who does so after its end does not.
func TestKeptAborted(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.slow = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		name, release, err := p.from.Kept.Prepare(ctx, keptTo, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		conn, err := p.from.DialAddressTimeout(memberlist.Address{Addr: keptTo.Addr, Name: name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "half of it"); err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(2 * time.Second)
		if _, err := io.WriteString(conn, "the rest"); err == nil {
			t.Error("the stream goes on")
		}
		if n := openStreams(p.from); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		p.wantRead()
		p.slow = 0
		if err := p.stream("whole"); err != nil { // which releases, and so ends the context, before that is answered
			t.Fatal(err)
		}
		if n := openStreams(p.from); n != 1 {
			t.Errorf("%d connections are open", n)
		}
	})
}

// A stream that was not read to its end costs the connection: something is wrong with it. What is said to it gets nowhere.
func TestKeptNotRead(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.least = 3
		if err := p.stream("hello", "there"); err == nil {
			err = p.stream("hello")
			if err == nil && p.dials() != 2 {
				t.Errorf("%d dials", p.dials())
			}
		}
		p.least = 5
		before := p.dials()
		for range 3 { // read to the last byte, but not to the end
			if err := p.stream("hello"); err != nil {
				t.Fatal(err)
			}
		}
		if p.dials() > before+1 {
			t.Errorf("%d dials, %d before", p.dials(), before)
		}
	})
}

// What memberlist answers to a stream is not taken for the answer of the connection.
func TestKeptSaysNothing(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.says = "error"
		for range 3 {
			if err := p.stream("hello"); err != nil {
				t.Fatal(err)
			}
			if p.free() != 1 {
				t.Errorf("%d connections are free", p.free())
			}
		}
	})
}

// Whoever answers a stream twice, or before it has ended, loses the connection: it would be free for a stream while another is on it.
func TestKeptAnsweredTooOften(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			inner := newPlain()
			near, far := net.Pipe()
			inner.dial = func() (net.Conn, error) { return near, nil }
			tr := Wrap(inner, Options{})
			name, release, err := tr.Kept.Prepare(t.Context(), keptTo, nil)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := tr.DialAddressTimeout(memberlist.Address{Addr: keptTo.Addr, Name: name}, 0)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, far) }()
			if _, err := io.WriteString(conn, "hello"); err != nil {
				t.Fatal(err)
			}
			answers := []byte{1}
			if !early {
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				answers = []byte{1, 1}
			}
			_, _ = far.Write(answers)
			synctest.Wait()
			if n := openStreams(tr); n != 0 {
				t.Errorf("early %v: %d connections are open", early, n)
			}
			tr.Kept.mu.Lock()
			if tr.Kept.all != 0 || len(tr.Kept.free) != 0 {
				t.Errorf("early %v: %d connections are free", early, tr.Kept.all)
			}
			tr.Kept.mu.Unlock()
			release()
			if err := errors.Join(tr.Shutdown(), far.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A stream that nothing was written to leaves nothing but a connection that was opened and closed.
func TestKeptUnused(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		_, release, err := p.from.Kept.Prepare(t.Context(), keptTo, nil)
		if err != nil {
			t.Fatal(err)
		}
		release()
		time.Sleep(time.Second)
		if err := p.stream(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := strings.Join(p.read, ""); got != "" {
			t.Errorf("read %q", got)
		}
		if n := openStreams(p.from) + openStreams(p.to); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

// Each stream has the time that one on a connection of its own has, however many bytes have come before it.
func TestKeptSlowAfterMuch(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		if err := p.stream(strings.Repeat("x", mostExtended)); err != nil {
			t.Fatal(err)
		}
		name, release, err := p.from.Kept.Prepare(t.Context(), keptTo, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		conn, err := p.from.DialAddressTimeout(memberlist.Address{Addr: keptTo.Addr, Name: name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if _, err := conn.Write(make([]byte, pace)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(defaultStreamTimeout * 3 / 4)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(p.read) != 2 || len(p.read[1]) != 4*pace || p.dials() != 1 {
			t.Errorf("%d streams on %d connections", len(p.read), p.dials())
		}
	})
}

// A stream that breaks off is read as an error, and one that stands still ends with the time-out of any stream.
func TestKeptBroken(t *testing.T) {
	for _, how := range []string{"closed", "silent", "idle"} {
		t.Run(how, func(t *testing.T) {
			inKeptPair(t, func(t *testing.T, p *keptPair) {
				conn, err := p.from.DialAddressTimeout(keptTo, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, keptHead+"\x00\x00\x00\x05first\x00\x00\x00\x00"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if how == "idle" {
					time.Sleep(2*keptIdle - defaultStreamTimeout)
				} else if _, err := io.WriteString(conn, "\x00\x00\x00\x06sec"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if how == "closed" {
					_ = conn.Close()
				} else if n := openStreams(p.to); n != 1 {
					t.Errorf("%d connections are open before the time-out", n)
				}
				time.Sleep(defaultStreamTimeout + time.Second)
				p.wantRead("first")
				if n := openStreams(p.to); n != 0 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
}

// No more connections are kept than their bounds say.
func TestKeptBounds(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.slow = 500 * time.Millisecond
		var wg sync.WaitGroup
		for range keptEach + 3 {
			wg.Go(func() {
				if err := p.stream("hello"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := openStreams(p.from); n != keptEach || p.free() != keptEach {
			t.Errorf("%d are open, %d free", n, p.free())
		}
		p.from.Kept.mu.Lock()
		p.from.Kept.all += keptMost
		p.from.Kept.mu.Unlock()
		if err := p.stream("hello"); err != nil {
			t.Fatal(err)
		}
		p.from.Kept.mu.Lock()
		p.from.Kept.all -= keptMost
		p.from.Kept.mu.Unlock()
		if n := openStreams(p.from); n != keptEach-1 {
			t.Errorf("%d are open above the bound of all", n)
		}
		p.to.incoming.Add(keptMost)
		if err := p.stream("hello"); err != nil {
			t.Fatal(err)
		}
		p.to.incoming.Add(-keptMost)
		if n := openStreams(p.to); n != keptEach-2 {
			t.Errorf("%d are open above the bound of those that were accepted", n)
		}
	})
}

// A dial that fails is the caller's to know.
func TestKeptRefused(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		p.refuse = true
		if err := p.stream("hello"); err == nil || len(p.from.prepared) != 0 {
			t.Errorf("error %v, %d prepared", err, len(p.from.prepared))
		}
	})
}

// What other systems write is read as it is, also if it begins like a kept connection.
func TestIncomingOfOthers(t *testing.T) {
	for _, text := range []string{"x", "\x08plain", keptHead[:1], keptHead[:4], keptHead[:7] + "!", keptHead[:3] + strings.Repeat("z", 9000)} {
		for _, step := range []int{1, 3, 10_000} {
			inKeptPair(t, func(t *testing.T, p *keptPair) {
				conn, err := p.from.DialAddressTimeout(keptTo, 0)
				if err != nil {
					t.Fatal(err)
				}
				for piece := range slices.Chunk([]byte(text), step) {
					if _, err := conn.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				_ = conn.Close()
				time.Sleep(time.Second)
				p.wantRead(text)
			})
		}
	}
}

// Whatever comes in a kept connection: reading it ends, and yields no more than came.
func FuzzIncoming(f *testing.F) {
	block := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	f.Add(slices.Concat([]byte(keptHead), block("one"), block(""), block("two"), block("three"), block("")))
	f.Add([]byte(keptHead + "\xff\xff\xff\xffshort"))
	f.Add([]byte(keptHead + "\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bs := newBlocks(b[:len(b)/2], bytes.NewReader(b[len(b)/2:]))
		yielded := 0
		for streams := 0; streams <= len(b); streams++ {
			got, err := io.ReadAll(bs)
			if yielded += len(got); yielded > len(b) {
				t.Fatalf("%d bytes of %d", yielded, len(b))
			}
			if err != nil || !bs.end() || !bs.more() {
				return
			}
		}
		t.Fatal("more streams than bytes")
	})
}

// TestKeptTellsThatItWasRead: release yields what is closed when the other end has read the stream and not before, or when the connection
// ends.
func TestKeptTellsThatItWasRead(t *testing.T) {
	inKeptPair(t, func(t *testing.T, p *keptPair) {
		write := func(text string) <-chan struct{} {
			name, release, err := p.from.Kept.Prepare(t.Context(), keptTo, nil)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := p.from.DialAddressTimeout(memberlist.Address{Addr: keptTo.Addr, Name: name}, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
			return release()
		}
		closed := func(read <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-read:
				return true
			default:
				return false
			}
		}
		p.slow = time.Second
		first, second := write("first"), write("second") // on two connections
		if closed(first) || closed(second) {
			t.Error("read before it was read")
		}
		if time.Sleep(time.Second); !closed(first) || !closed(second) {
			t.Error("not read after it was read")
		}
		last := write("last")
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		if !closed(last) {
			t.Error("waits for an answer on a connection that has ended")
		}
	})
}
