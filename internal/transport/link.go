package transport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/credentials"
)

const (
	// linkBytes bounds the packets that wait for one link; as many may be on their way into its connection. It is what a member
	// sends in 100 ms at 2.5 MB/s: a link opens, or opens again, in a few round trips.
	linkBytes = 256 << 10

	// mostLinks bounds the links that we dial, and those that others have dialled; linksOfOne the latter from one source.
	mostLinks, linksOfOne = 4096, 1024

	// linkAge bounds the life of a connection. Then another is made, if there is a packet to send: memberlist probes 450 members in that
	// time at least. It is made by the certificates and CAs of then: what was withdrawn is
	// trusted that long at most. Up to a quarter is taken off at random, so that not all are made anew at once. Nor does any key
	// protect more records than AES-GCM allows, 2^24.5.
	linkAge = 10 * time.Minute

	// linkKeeps is how large the buffers of a quiet link are at most.
	linkKeeps = 64 << 10

	// linkRead is how much is read from a link at once.
	linkRead = 16 << 10

	// linkSilence is how long a link may leave a question unanswered, or take no byte. Then its connection is given up: TCP alone
	// would try for minutes, ever more seldom, and be of no use long after a partition has healed.
	linkSilence = 3 * time.Second

	// askEvery is how often a link in use asks whether the other side reads.
	askEvery = time.Second

	// relinkFirst and relinkLongest bound the pauses before a link is dialled again that failed, broke within steadyAfter, or was never
	// answered.
	relinkFirst, relinkLongest, steadyAfter = 50 * time.Millisecond, 2 * time.Second, time.Second

	// forgetAfter is how long a link without a connection waits for another packet.
	forgetAfter = 10 * time.Second
)

// link carries packets to one member over a connection that is kept. Like UDP it loses what it cannot take: while there is no
// connection and none is being made, and when too much waits. It is dialled when there is a packet to send.
//
// A packet travels after its length in two bytes. The length 0 is a question, which the other side answers by one byte.
type link struct {
	s  *secure
	to netip.AddrPort

	mu      sync.Mutex
	waiting []byte // Invariant: len(waiting) ≤ linkBytes
	packets int    // in waiting
	down    bool   // the last dial failed, and the pause after it is not over: nothing may wait
	ended   bool   // nobody will send what is put here
	wake    chan struct{}
}

// put lets a packet wait for its link. It waits for nobody.
func (s *secure) put(b []byte, to netip.AddrPort) error {
	if len(b) > maxDatagram {
		return fmt.Errorf("packet of %d bytes to %v: at most %d are carried", len(b), to, maxDatagram)
	}
	if len(b) == 0 {
		return nil // which is no packet, but a question
	}
	to = unmap(to)
	for {
		l, err := s.link(to)
		if err != nil {
			return err
		}
		if l == nil {
			s.t.count.packetsUnsent.Add(1)
			return nil
		}
		if l.put(b) {
			return nil
		}
	}
}

// link returns the link to an address, nil if there are too many.
func (s *secure) link(to netip.AddrPort) (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.links[to]
	if ok {
		return l, nil
	}
	if len(s.links) >= mostLinks {
		return nil, nil
	}
	l = &link{s: s, to: to, wake: make(chan struct{}, 1)}
	if !s.t.begin(l.run) {
		return nil, net.ErrClosed
	}
	s.links[to] = l
	return l, nil
}

// put returns false if the link has ended. A packet for which there is no room is counted and forgotten.
func (l *link) put(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended:
		return false
	case l.down || len(l.waiting)+2+len(b) > linkBytes:
		l.s.t.count.packetsUnsent.Add(1)
		return true
	}
	l.waiting = append(append(l.waiting, byte(len(b)>>8), byte(len(b))), b...)
	if l.packets++; l.packets == 1 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take returns what waits; what comes then waits in spare. Buffers that grew in a burst are not kept through the quiet after it.
func (l *link) take(spare []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.waiting
	if l.packets == 0 && cap(spare)+cap(taken) > linkKeeps {
		spare, taken = nil, nil
	}
	l.waiting, l.packets = spare[:0], 0
	return taken
}

// drop forgets what waits, and takes nothing more while down.
func (l *link) drop(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.t.count.packetsUnsent.Add(uint64(l.packets))
	l.waiting, l.packets, l.down = nil, 0, down
}

// end forgets the link, if nothing waits or the transport shuts down.
func (l *link) end() bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.packets > 0 && !l.s.t.closing() {
		return false
	}
	l.s.t.count.packetsUnsent.Add(uint64(l.packets))
	l.ended = true
	delete(l.s.links, l.to)
	return true
}

// run makes connections and carries packets over them until none has come for long.
func (l *link) run() {
	pause := relinkFirst
	for {
		if !l.awaitPacket() {
			if l.end() {
				return
			}
			continue
		}
		began := time.Now()
		c, err := l.open()
		if err == nil {
			l.carry(c)
		}
		if err == nil && c.heard.Load() && time.Since(began) > steadyAfter {
			pause = relinkFirst
			continue
		}
		l.drop(err != nil)
		l.rest(pause)
		pause = min(2*pause, relinkLongest)
	}
}

// awaitPacket returns false if none has come for forgetAfter, or at the end.
func (l *link) awaitPacket() bool {
	l.mu.Lock()
	l.down = false
	waits := l.packets > 0
	l.mu.Unlock()
	if l.s.t.closing() {
		return false
	}
	if waits {
		return true
	}
	timer := time.NewTimer(forgetAfter)
	defer timer.Stop()
	select {
	case <-l.wake:
		return true
	case <-timer.C:
	case <-l.s.t.ctx.Done():
	}
	return false
}

// rest waits about as long as pause.
func (l *link) rest(pause time.Duration) {
	timer := time.NewTimer(pause*3/4 + rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.s.t.ctx.Done():
	}
}

// linkConn is one connection of a link.
type linkConn struct {
	secured
	until  time.Time     // when another is to be made
	asked  atomic.Bool   // a question is under way
	heard  atomic.Bool   // one was answered
	broken chan struct{} // closed when the other side has closed it, or has left a question unanswered
}

// open dials, when the gate lets it. What does not answer holds up itself and, for a moment, few others.
func (l *link) open() (*linkConn, error) {
	leave, err := l.s.dials.enter(l.s.t.ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, peer, err := l.s.open(l.s.t.ctx, memberlist.Address{Addr: l.to.String()}, shakeTime, greetPackets)
	if err != nil {
		return nil, err
	}
	lasts := linkAge*3/4 + rand.N(linkAge/4)
	if peer.Left > 0 {
		lasts = min(lasts, peer.Left)
	}
	k := &linkConn{secured: c, until: time.Now().Add(lasts), broken: make(chan struct{})}
	if !l.s.t.begin(k.listen) {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.s.t.count.tlsLinks.Add(1)
	return k, nil
}

// listen reads answers until the connection ends, and closes it.
func (k *linkConn) listen() {
	var b [16]byte
	for {
		if _, err := k.Read(b[:]); err != nil {
			break
		}
		_ = k.SetReadDeadline(time.Time{})
		k.heard.Store(true)
		k.asked.Store(false)
	}
	close(k.broken)
	_ = k.Close()
}

// carry sends what is put until the connection breaks or is to end.
func (l *link) carry(k *linkConn) {
	stop := context.AfterFunc(l.s.t.ctx, func() { _ = k.Close() })
	defer stop()
	timer := time.NewTimer(linkAge)
	defer timer.Stop()
	var batch []byte
	var asked time.Time
	for {
		now := time.Now()
		if !now.Before(k.until) {
			k.retire()
			return
		}
		if batch = l.take(batch); len(batch) == 0 {
			timer.Reset(k.until.Sub(now))
			select {
			case <-l.wake:
			case <-timer.C:
			case <-k.broken:
				return
			}
			continue
		}
		if now.Sub(asked) >= askEvery && !k.asked.Load() {
			asked = now
			k.asked.Store(true)
			_ = k.SetReadDeadline(now.Add(linkSilence))
			batch = append(batch, 0, 0)
		}
		_ = k.SetWriteDeadline(now.Add(linkSilence))
		if _, err := k.Write(batch); err != nil {
			_ = k.Close()
			return
		}
	}
}

// retire ends a connection so that the other side reads all that was written: it closes it then, which listen sees.
func (k *linkConn) retire() {
	_ = k.CloseWrite()
	_ = k.SetReadDeadline(time.Now().Add(linkSilence))
}

// serve reads the packets of a link that a member has dialled, until that ends.
func (s *secure) serve(c secured, source netip.Addr, from netip.AddrPort, peer *credentials.Peer) {
	defer c.Close()
	leave, ok := s.serving.enter(source, c.raw)
	if !ok {
		s.refused("from", from.String(), credentials.ErrCrowd)
		return
	}
	defer leave()
	if from.Port() == 0 {
		from = netip.AddrPortFrom(source, portOf(addrOf(c.raw)))
	}
	// The dialler ends it before that, unless it is gone, or up to something.
	lasts, why := linkAge+time.Minute, error(nil)
	if peer.Left > 0 && peer.Left < lasts {
		lasts, why = peer.Left, credentials.ErrExpired
	}
	end := time.AfterFunc(lasts, func() {
		if why != nil {
			s.refused("from", from.String(), why)
		}
		_ = c.Close()
	})
	defer end.Stop()
	readLink(s.t, c, from)
}

// readLink reads packets from a link until it ends, and answers its questions.
func readLink(t *Transport, c net.Conn, from netip.AddrPort) {
	r := bufio.NewReaderSize(c, linkRead)
	for {
		head, err := r.Peek(2)
		if err != nil {
			return
		}
		n := int(head[0])<<8 | int(head[1])
		_, _ = r.Discard(2)
		switch {
		case n == 0:
			_ = c.SetWriteDeadline(time.Now().Add(linkSilence))
			_, err = c.Write([]byte{welcome})
		case t.maxPacket > 0 && n > t.maxPacket:
			t.count.packetsDropped.Add(1)
			_, err = r.Discard(n)
		default:
			t.Heard.note(from, time.Now())
			err = readPacket(t, r, n, from)
		}
		if err != nil {
			return
		}
	}
}

// readPacket takes a packet of n bytes from a link.
func readPacket(t *Transport, r *bufio.Reader, n int, from netip.AddrPort) error {
	if n > r.Size() {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if !t.deliverUserMessage(b) {
			t.deliverPacket(packetOf(b, from, time.Now()))
		}
		return nil
	}
	b, err := r.Peek(n)
	if err != nil {
		return err
	}
	if !t.deliverUserMessage(b) {
		t.deliverPacket(packetOf(b, from, time.Now()))
	}
	_, err = r.Discard(n)
	return err
}

func portOf(addr string) uint16 {
	ap, _ := netip.ParseAddrPort(addr)
	return ap.Port()
}
