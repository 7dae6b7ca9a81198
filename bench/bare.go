package main

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// bare is the yardstick: filled packets from one origin to all others through SendBestEffort, an acknowledgement for each
// packet, and nothing else. It identifies, keeps, orders, repairs and relays nothing.
type bare struct {
	members []*memberlist.Memberlist
	nodes   []*memberlist.Node // the children, as the origin sees them
	origin  *memberlist.Node
	ledger  *ledger
	linger  time.Duration

	wake  chan struct{} // holds a token when the sender may have something to do
	ended chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	room    sync.Cond
	queue   [][]byte // frames, the last one may still be filled
	queued  int      // messages
	flights [bareWindow]bareFlight
	next    uint64 // Invariant: oldest ≤ next ≤ oldest + bareWindow
	oldest  uint64
	left    time.Time // when the last frame left
	closed  bool
}

// bareFlight is a frame that not all have acknowledged.
type bareFlight struct {
	frame   []byte
	missing uint64 // a bit for each child
	at      time.Time
}

const (
	bareWindow = 64 // packets not acknowledged by all
	bareQueue  = 4096
	bareRetry  = 50 * time.Millisecond
	bareHead   = 1 + 8     // kind and number of the packet
	bareFrame  = 1400 - 6  // memberlist adds its type byte and a checksum
	bareData   = byte('d') // number, then the messages, each after its length
	bareAck    = byte('a') // number, then the child
)

func startBare(ctx context.Context, n int, linger time.Duration, l *ledger) (*bare, error) {
	if n > 65 {
		return nil, errors.New("the bare sender has at most 64 children")
	}
	b := &bare{ledger: l, linger: linger, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	b.room.L = &b.mu
	members, err := startPlain(ctx, n, b.hear)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.members = members
	b.origin = members[0].LocalNode()
	// Children are told by their number, which acknowledgements carry.
	byName := map[string]*memberlist.Node{}
	for _, node := range members[0].Members() {
		byName[node.Name] = node
	}
	for _, m := range members[1:] {
		b.nodes = append(b.nodes, byName[m.LocalNode().Name])
	}
	b.mu.Unlock()
	b.wg.Go(b.send)
	b.wg.Go(b.retry)
	return b, nil
}

// broadcast appends the payload to the frame that is being filled. from must be 0.
func (b *bare) broadcast(_ context.Context, _ int, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.queued >= bareQueue && !b.closed {
		b.room.Wait()
	}
	if b.closed {
		return errors.New("closed")
	}
	n := len(b.queue)
	if n == 0 || len(b.queue[n-1])+2+len(payload) > bareFrame {
		b.queue = append(b.queue, make([]byte, bareHead, bareFrame))
		n++
	}
	frame := binary.LittleEndian.AppendUint16(b.queue[n-1], uint16(len(payload)))
	b.queue[n-1] = append(frame, payload...)
	b.queued++
	b.stir()
	return nil
}

func (b *bare) stir() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// send lets frames leave until the end.
func (b *bare) send() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		frame, wait := b.take(time.Now())
		if frame != nil {
			for _, node := range b.nodes {
				_ = b.members[0].SendBestEffort(node, frame) // what is lost is tried again
			}
			continue
		}
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-b.wake:
		case <-timer.C:
		case <-b.ended:
			return
		}
	}
}

// take returns the frame that may leave now; nil if there is none, and how long one still lingers.
func (b *bare) take(now time.Time) (frame []byte, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 || b.next-b.oldest == bareWindow {
		return nil, 0
	}
	if until := b.left.Add(b.linger); len(b.queue) == 1 && now.Before(until) {
		return nil, until.Sub(now)
	}
	frame = b.queue[0]
	b.queue[0] = nil
	b.queue = b.queue[1:]
	if b.queued >= bareQueue {
		b.room.Broadcast()
	}
	b.queued -= countMessages(frame)
	frame[0] = bareData
	binary.LittleEndian.PutUint64(frame[1:], b.next)
	b.flights[b.next%bareWindow] = bareFlight{frame, 1<<len(b.nodes) - 1, now}
	b.next++
	b.left = now
	return frame, 0
}

func countMessages(frame []byte) (n int) {
	for rest := frame[bareHead:]; len(rest) >= 2; n++ {
		rest = rest[2+int(binary.LittleEndian.Uint16(rest)):]
	}
	return n
}

// retry sends again what was not acknowledged for long.
func (b *bare) retry() {
	tick := time.NewTicker(bareRetry)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			b.mu.Lock()
			for n := b.oldest; n < b.next; n++ {
				f := &b.flights[n%bareWindow]
				if f.missing == 0 || now.Sub(f.at) < bareRetry {
					continue
				}
				f.at = now
				for i, node := range b.nodes {
					if f.missing&(1<<i) != 0 {
						_ = b.members[0].SendBestEffort(node, f.frame)
					}
				}
			}
			b.mu.Unlock()
		case <-b.ended:
			return
		}
	}
}

// hear takes what a member was sent.
func (b *bare) hear(member int, frame []byte) {
	if len(frame) < bareHead {
		return
	}
	number := binary.LittleEndian.Uint64(frame[1:])
	switch {
	case frame[0] == bareAck && member == 0 && len(frame) > bareHead:
		b.acknowledged(number, int(frame[bareHead]))
	case frame[0] == bareData && member > 0:
		for rest := frame[bareHead:]; len(rest) >= 2; {
			end := 2 + int(binary.LittleEndian.Uint16(rest))
			b.ledger.deliver(member, rest[2:end])
			rest = rest[end:]
		}
		ack := make([]byte, 0, bareHead+1)
		ack = append(ack, bareAck)
		ack = binary.LittleEndian.AppendUint64(ack, number)
		_ = b.members[member].SendBestEffort(b.origin, append(ack, byte(member-1)))
	}
}

func (b *bare) acknowledged(number uint64, child int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number < b.oldest || number >= b.next {
		return
	}
	b.flights[number%bareWindow].missing &^= 1 << child
	full := b.next-b.oldest == bareWindow
	for b.oldest < b.next && b.flights[b.oldest%bareWindow].missing == 0 {
		b.flights[b.oldest%bareWindow].frame = nil
		b.oldest++
	}
	if full && b.next-b.oldest < bareWindow {
		b.stir()
	}
}

func (b *bare) close() error {
	b.mu.Lock()
	b.closed = true
	b.room.Broadcast()
	b.mu.Unlock()
	close(b.ended)
	b.wg.Wait()
	return shutDown(b.members)
}
