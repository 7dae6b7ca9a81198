package starling

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// MaxGossipPacketSize is the packet size that Starling and its peers in the field use by default, in bytes. An encoded
// Part of at most half of it travels in packets, a larger one in streams.
const MaxGossipPacketSize = 1400

// What the packets of memberlist may be.
const (
	minPacketSize = 512
	maxPacketSize = 1<<16 - 1 - 48 // what fits a UDP datagram, headers of IPv6 and UDP aside
)

// What memberlist puts around a user message in a packet.
const (
	packetTypeByte   = 1
	packetCRC        = 5
	packetCompound   = 2 + 2  // header, and the length of one message
	packetEncryption = 1 + 29 // version, nonce and tag
	packetLabel      = 2      // magic and length, before the label itself
)

// packetRoom returns how many bytes of a user message fit into one packet of a memberlist so configured.
func packetRoom(c *memberlist.Config) int {
	room := c.UDPBufferSize - packetTypeByte - packetCRC - packetCompound
	if c.EncryptionEnabled() {
		room -= packetEncryption
	}
	if c.Label != "" {
		room -= packetLabel + len(c.Label)
	}
	return room
}

// gossipLimit is the size rule: the largest encoded Part that travels in packets. Half a packet leaves room for another
// and for membership, which goes first; and whatever the overhead, the part must fit.
func gossipLimit(c *memberlist.Config) int {
	return min(MaxGossipPacketSize/2, c.UDPBufferSize/2, packetRoom(c))
}

// Bounds of the streams.
const (
	// streamSlots is how many streams may be open at once.
	streamSlots = 32
	// laneBytes bounds what waits for one member, beyond the message in flight.
	laneBytes = 32 << 20
	// laneFill is how much of what waits for a member goes with one stream.
	laneFill = 256 << 10
)

// parcel is what goes to one member by stream.
type parcel struct {
	to    Member
	bytes int // about as many as travel
	// frame makes what travels, when it leaves: a large part waits without a copy for each member.
	frame func(now time.Time) []byte
	// done is called once, with nil when the frame was written: that is all that memberlist can know. nil: nobody asks.
	done func(error)
}

// rawParcel is a parcel of a frame as it is.
func rawParcel(to Member, frame []byte) parcel {
	return parcel{to: to, bytes: len(frame), frame: func(time.Time) []byte { return frame }}
}

func (p *parcel) finish(err error) {
	if p.done != nil {
		p.done(err)
	}
}

// errLaneFull is what becomes of a parcel when too much waits for its member.
var errLaneFull = errors.New("too much waits for that member already")

// lanes carry frames to members, one lane for each: a member that hangs costs its own lane and its own bytes. A lane has
// one stream in flight. Goroutines run only while something waits.
type lanes struct {
	send  func([]parcel) error // to one member, in one stream
	spawn func(func()) bool    // runs a goroutine of the cluster, unless it has closed
	slots chan struct{}        // holds a token for each stream that may still open

	mu     sync.Mutex
	byPeer map[string]*lane
}

type lane struct {
	waiting []parcel
	bytes   int // Invariant: Σ bytes of waiting ≤ laneBytes, or len(waiting) = 1
	running bool
}

func newLanes(send func([]parcel) error, spawn func(func()) bool) *lanes {
	return &lanes{send: send, spawn: spawn, slots: make(chan struct{}, streamSlots), byPeer: map[string]*lane{}}
}

// put queues a parcel, or fails it at once when too much waits for that member already.
func (l *lanes) put(p parcel) {
	l.mu.Lock()
	ln, ok := l.byPeer[p.to.Name]
	if !ok {
		ln = new(lane)
		l.byPeer[p.to.Name] = ln
	}
	if len(ln.waiting) > 0 && ln.bytes+p.bytes > laneBytes {
		l.mu.Unlock()
		p.finish(errLaneFull)
		return
	}
	ln.waiting = append(ln.waiting, p)
	ln.bytes += p.bytes
	start := !ln.running
	ln.running = true
	l.mu.Unlock()
	if start && !l.spawn(func() { l.run(p.to.Name, ln) }) {
		l.drop(p.to.Name, ErrClosed)
	}
}

// run sends what waits in a lane until nothing does.
func (l *lanes) run(name string, ln *lane) {
	for {
		load := l.load(name, ln)
		if len(load) == 0 {
			return
		}
		l.slots <- struct{}{}
		err := l.send(load)
		<-l.slots
		for _, p := range load {
			p.finish(err)
		}
	}
}

// load takes what goes with the next stream; nothing ends the lane.
func (l *lanes) load(name string, ln *lane) []parcel {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(ln.waiting) == 0 {
		ln.running = false
		if l.byPeer[name] == ln {
			delete(l.byPeer, name)
		}
		return nil
	}
	n, size := 1, ln.waiting[0].bytes
	for n < len(ln.waiting) && size+ln.waiting[n].bytes <= laneFill && !ln.waiting[n].to.Foreign() {
		size += ln.waiting[n].bytes
		n++
	}
	load := ln.waiting[:n:n]
	ln.waiting = ln.waiting[n:]
	ln.bytes -= size
	return load
}

// drop fails all that waits for a member, because it is gone.
func (l *lanes) drop(name string, why error) {
	l.mu.Lock()
	var waiting []parcel
	if ln, ok := l.byPeer[name]; ok {
		waiting, ln.waiting, ln.bytes = ln.waiting, nil, 0
	}
	l.mu.Unlock()
	for _, p := range waiting {
		p.finish(why)
	}
}

// dropAll fails all that waits.
func (l *lanes) dropAll(why error) {
	l.mu.Lock()
	names := make([]string, 0, len(l.byPeer))
	for name := range l.byPeer {
		names = append(names, name)
	}
	l.mu.Unlock()
	for _, name := range names {
		l.drop(name, why)
	}
}
