package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// A kept connection carries the streams of SendReliable to one member of Starling, one after the other, so that not each has to be
// dialled. It begins with keptHead. A stream on it is a series of blocks, each behind its length in 32 bits, and ends with a block of no
// bytes. The other end answers a byte when memberlist there has read the stream; only then is the connection free for the next. So a
// stream never waits behind one that is stuck, and who has not answered is not written to again. Where the head asks for it, the other end
// also tells, with another byte, when memberlist there has read more of a stream that takes long: so the writer knows a slow link from
// one that hangs, whatever lies in the buffers between.

// A head begins with a byte that no stream of memberlist begins with.
const (
	keptHead        = "\xe5starling\x01"
	keptHeadTelling = "\xe5starling\x02" // the other end is to tell what it has read
)

// What the other end answers.
const (
	keptRead = 1 // the stream was read
	keptMore = 2 // moreBytes more of it were read, and the last answer is moreEvery ago
)

const (
	moreBytes = pace
	moreEvery = 100 * time.Millisecond
)

const (
	// keptIdle is how long a connection is kept that no stream needs. The other end waits twice as long, so that a stream never
	// begins on a connection that is just being closed there.
	keptIdle = 15 * time.Second

	// keptAge is after how long a connection is given up all the same, and made anew: a certificate that was withdrawn is trusted that long
	// at most, or twice as long if whoever has dialled does not give it up.
	keptAge = time.Minute

	// keptEach bounds the free connections to one member: its lane of what is small needs one, and that of what is bulk
	// as many as it has streams under way, which are many on a long way alone: there some are dialled anew.
	keptEach = 4

	// keptMost bounds the free connections to all members together, and those that members have dialled: a large cluster, or somebody who
	// means ill, must not use up the files of a process. What is beyond is closed after its stream, as memberlist does.
	keptMost = 512
)

// KeptConns are the connections to other members that are free for a stream. Its methods may be called concurrently.
type KeptConns struct {
	t *Transport

	mu   sync.Mutex
	free map[memberlist.Address][]*kept // the last was used last
	all  int                            // Invariant: all = Σ len(free) ≤ keptMost
}

// kept is a connection that this member has dialled.
type kept struct {
	*stream
	to    memberlist.Address
	conns *KeptConns

	born  time.Time
	until time.Time // its deadline, but for what stream extends. conns.mu guards it
	tells bool      // the other end is asked to tell what it has read
	head  bool      // the head was sent. Whoever writes the stream owns it

	unanswered atomic.Bool // a stream has ended, or is about to, and was not answered
	answer     answer
}

// answer tells whoever has written a stream that the other end has read it, or that the connection has ended; and before, that more of it was read.
type answer struct {
	mu      sync.Mutex
	wait    chan struct{} // closed then; nil: nobody waits
	over    bool          // the connection has ended
	moved   func()        // called when more was read; nil: nobody wants to know
	written int           // bytes of the stream
	told    int           // how often more was read
}

// begin begins a stream. moved may be nil.
func (a *answer) begin(moved func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moved, a.written, a.told = moved, 0, 0
}

// wrote notes that so many bytes of the stream are about to be written.
func (a *answer) wrote(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written += n
}

// more notes that more was read. It returns false if that cannot be, since no more was written.
func (a *answer) more() bool {
	a.mu.Lock()
	a.told++
	ok, moved := a.told <= a.written/moreBytes, a.moved
	a.mu.Unlock()
	if ok && moved != nil {
		moved()
	}
	return ok
}

// expect returns what is closed when the stream that ends now was read.
func (a *answer) expect() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := make(chan struct{})
	if a.over {
		close(wait)
	} else {
		a.wait = wait
	}
	return wait
}

// tell notes that it was read, or that the connection has ended.
func (a *answer) tell(over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wait != nil {
		close(a.wait)
	}
	a.wait, a.over = nil, over
}

// take returns a free connection, or nil.
func (cs *KeptConns) take(a memberlist.Address) *kept {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for n := len(cs.free[a]); n > 0; n = len(cs.free[a]) {
		k := cs.free[a][n-1]
		cs.remove(k)
		if k.wait(cs.t.streamTimeout) == nil {
			return k
		}
		_ = k.stream.Close()
	}
	return nil
}

// open returns a stream to a member on a kept connection, which it dials if none is free. moved is called when the other end says that it has read
// more of what takes long; nil: the member does not know how to say that.
func (cs *KeptConns) open(ctx context.Context, a memberlist.Address, moved func()) (*outgoing, error) {
	t := cs.t
	if k := cs.take(a); k != nil {
		t.count.streamsReused.Add(1)
		k.answer.begin(moved)
		return &outgoing{kept: k}, nil
	}
	s, err := t.dial(ctx, a, t.streamTimeout)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	k := &kept{stream: s, to: a, conns: cs, born: now, until: now.Add(t.streamTimeout), tells: moved != nil}
	k.answer.begin(moved)
	if !t.begin(k.listen) {
		return nil, net.ErrClosed // and Shutdown has closed s
	}
	return &outgoing{kept: k}, nil
}

// put makes a connection free, or closes it if it is old or there are enough.
func (cs *KeptConns) put(k *kept) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if time.Since(k.born) >= keptAge || cs.all >= keptMost || len(cs.free[k.to]) >= keptEach || k.wait(keptIdle) != nil {
		_ = k.stream.Close()
		return
	}
	cs.free[k.to] = append(cs.free[k.to], k)
	cs.all++
}

// remove forgets a free connection. Call it under mu.
func (cs *KeptConns) remove(k *kept) {
	i := slices.Index(cs.free[k.to], k)
	if i < 0 {
		return
	}
	cs.all--
	if cs.free[k.to] = slices.Delete(cs.free[k.to], i, i+1); len(cs.free[k.to]) == 0 {
		delete(cs.free, k.to)
	}
}

// Forget closes the free connections to a member.
func (cs *KeptConns) Forget(a memberlist.Address) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, k := range cs.free[a] {
		cs.all--
		_ = k.stream.Close()
	}
	delete(cs.free, a)
}

// wait sets the deadline of a connection. Call it under conns.mu.
func (k *kept) wait(d time.Duration) error {
	k.until = time.Now().Add(d)
	return k.stream.SetDeadline(k.until)
}

// listen makes the connection free whenever the other end has read a stream, until it is closed, its deadline has passed, or the other end
// answers what has not ended: two streams at once would write on the connection then.
func (k *kept) listen() {
	var answer [1]byte
	for {
		_, err := io.ReadFull(k.stream, answer[:])
		if err == nil && answer[0] == keptMore && k.more() {
			continue
		}
		if err == nil && answer[0] == keptRead && k.unanswered.CompareAndSwap(true, false) {
			k.answer.tell(false)
			k.conns.put(k)
			continue
		}
		k.conns.mu.Lock()
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(k.until) {
			k.conns.mu.Unlock() // a stream began in the moment when the deadline passed
			continue
		}
		k.conns.remove(k)
		k.conns.mu.Unlock()
		_ = k.stream.Close()
		k.answer.tell(true)
		return
	}
}

// more notes that the other end has read more of the stream, so it has more time. It returns false if that cannot be.
func (k *kept) more() bool {
	k.conns.mu.Lock()
	err := k.wait(k.conns.t.streamTimeout)
	k.conns.mu.Unlock()
	return err == nil && k.answer.more()
}

// outgoing is one stream on a kept connection. Its writer calls Write and Close, and anybody abort.
type outgoing struct {
	*kept
	mu    sync.Mutex
	state outgoingState
	read  <-chan struct{} // see answer.expect; nil: it has not ended
}

// outgoingState tells how far a stream is.
type outgoingState uint8

const (
	streamOpen   outgoingState = iota
	streamEnding               // its last block is being written
	streamOver                 // that is written, or the connection is closed: it may be another stream's
)

// joined is the most that is written together with the length before it, for which it is copied.
const joined = 64 << 10

// Write sends a block.
func (o *outgoing) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var start []byte
	if !o.head {
		head := keptHead
		if o.tells {
			head = keptHeadTelling
		}
		start, o.head = append(start, head...), true
	}
	o.answer.wrote(len(b))
	start = binary.BigEndian.AppendUint32(start, uint32(len(b)))
	if len(b) > joined {
		if _, err := o.stream.Write(start); err != nil {
			return 0, err
		}
		return o.stream.Write(b)
	}
	if _, err := o.stream.Write(append(start, b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Read returns io.EOF: who reads a message of SendReliable says nothing.
func (o *outgoing) Read([]byte) (int, error) { return 0, io.EOF }

// Close ends the stream, and not the connection, which then waits for the answer.
func (o *outgoing) Close() error {
	if !o.become(streamOpen, streamEnding) {
		return nil
	}
	defer o.become(streamEnding, streamOver)
	if !o.head { // nothing was written
		return o.stream.Close()
	}
	o.read = o.answer.expect()
	o.unanswered.Store(true)
	_, err := o.stream.Write(make([]byte, 4))
	return err
}

// abort closes the connection, unless the stream is over.
func (o *outgoing) abort() {
	if o.become(streamOpen, streamOver) || o.become(streamEnding, streamOver) {
		_ = o.stream.Close()
	}
}

// become changes the state, if it is the given one.
func (o *outgoing) become(from, to outgoingState) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != from {
		return false
	}
	o.state = to
	return true
}
