package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// gathering is a message by Send of which some pieces are here, at its receiver.
type gathering struct {
	gatheringKey
	channel *Channel
	from    wire.Peer
	chunk   wire.Chunk // of any piece: its Index means nothing
	number  uint64     // see starlingpb.DirectAck.gathering
	send    uint64     // see Progress
	pieces  [][]byte   // by index; nil: it is not here
	here    int        // of them
	done    int        // Σ their bytes
	trace   []byte
	came    time.Time // when the last new piece came
	heard   time.Time // when anything was said of it last
}

// gatheringKey names a message by Send.
type gatheringKey struct{ sender, series, id uint64 }

// gatherings is the messages by Send that come in pieces, until all pieces are here and their inbox has room. Nobody's are lost when they are let
// go of: the sender is told by the number of the next gathering, and sends all again.
//
// What a message takes is claimed when it begins, so that those that have begun can end. Who begins many and ends none has its own share
// alone, and not for long.
type gatherings struct {
	roster   *roster
	observer *Observer
	begun    uint64
	all      map[gatheringKey]*gathering
	bytes    int            // Σ claims. Invariant: ≤ most
	of       map[uint64]int // of those, by sender. Invariant: each ≤ each, and none is 0

	each int // gatherEach claims of the largest message: with 16 MiB some 32 MiB
	most int // gatherAll claims of it: with 16 MiB some 64 MiB, as much as the history's default
}

const (
	// gatherEach and gatherAll are how many messages of the largest size one sender, and all together, may have begun.
	gatherEach, gatherAll = 2, 4
	// gatherPlace and gatherOverhead are what a piece and a message take beside their bytes.
	gatherPlace, gatherOverhead = 24, 512
	// gatherYields is after how long without a new piece a message gives way to another one that finds no room. One that is complete, and waits
	// for its inbox, gives way at once: or a handler that hangs would hold up all other channels. To one of its own channel it gives way only if
	// nothing was said of it for so long: that one could but take its place, and all of it would go again.
	gatherYields = 10 * time.Second
	// gatherOrphan is the same of a message whose sender is no member any more: if that is back soon, as after a flap, it goes on.
	gatherOrphan = time.Second
	// gatherLasts is after how long without a word about it a message is let go of. Its sender asks every 5 s, as long as it wants it.
	gatherLasts = 2 * time.Minute
)

func newGatherings(ro *roster, o *Observer, message int) *gatherings {
	largest := claim(wire.Chunk{Total: uint32(message), Size: wire.MinDirectChunk})
	return &gatherings{
		roster: ro, observer: o, all: map[gatheringKey]*gathering{}, of: map[uint64]int{}, each: gatherEach * largest, most: gatherAll * largest,
	}
}

// claim is what a message in such pieces takes.
func claim(c wire.Chunk) int { return int(c.Total) + c.Count()*gatherPlace + gatherOverhead }

// find returns the gathering of a message, which begins if there is room for it; nil: there is none.
func (gs *gatherings) find(key gatheringKey, from wire.Peer, ch *Channel, c wire.Chunk, now time.Time) *gathering {
	if g := gs.all[key]; g != nil {
		g.heard = now
		return g
	}
	need := claim(c)
	if !gs.makeRoom(gs.of[key.sender]+need-gs.each, func(g *gathering) bool { return g.sender == key.sender && gs.yields(g, ch, now) }) ||
		!gs.makeRoom(gs.bytes+need-gs.most, func(g *gathering) bool { return gs.yields(g, ch, now) }) {
		return nil
	}
	gs.begun++
	g := &gathering{gatheringKey: key, channel: ch, from: from, chunk: c, number: gs.begun, send: gs.observer.count(), came: now, heard: now}
	g.pieces = make([][]byte, c.Count())
	gs.all[key] = g
	gs.bytes += need
	gs.of[key.sender] += need
	return g
}

// yields reports whether a message gives way to another one, of that channel, that finds no room.
func (gs *gatherings) yields(g *gathering, to *Channel, now time.Time) bool {
	switch {
	case !gs.roster.get(g.sender).live() && now.Sub(g.heard) >= gatherOrphan:
		return true
	case g.complete():
		return g.channel != to || now.Sub(g.heard) >= gatherYields
	}
	return now.Sub(g.came) >= gatherYields
}

// makeRoom lets go of messages that fit until so many bytes are free. If those that give way are too few, none is let go of.
func (gs *gatherings) makeRoom(lacking int, fits func(*gathering) bool) bool {
	if lacking <= 0 {
		return true
	}
	var yielding []*gathering
	for _, g := range gs.sorted(fits) {
		if lacking > 0 {
			yielding = append(yielding, g)
			lacking -= claim(g.chunk)
		}
	}
	if lacking > 0 {
		return false
	}
	for _, g := range yielding {
		gs.lose(g)
	}
	return true
}

// sorted returns those that fit, the one that has waited longest for a piece first. Mostly they are few, and all may be thousands.
func (gs *gatherings) sorted(fits func(*gathering) bool) (some []*gathering) {
	for _, g := range gs.all {
		if fits(g) {
			some = append(some, g)
		}
	}
	slices.SortFunc(some, func(a, b *gathering) int { return cmp.Or(a.came.Compare(b.came), cmp.Compare(a.number, b.number)) })
	return some
}

// end forgets a message: it was handed on, or refused.
func (gs *gatherings) end(g *gathering) {
	if g == nil || gs.all[g.gatheringKey] != g {
		return
	}
	delete(gs.all, g.gatheringKey)
	gs.bytes -= claim(g.chunk)
	if gs.of[g.sender] -= claim(g.chunk); gs.of[g.sender] == 0 {
		delete(gs.of, g.sender)
	}
}

// lose lets go of a message that is not handed on.
func (gs *gatherings) lose(g *gathering) {
	gs.end(g)
	gs.observer.gathered(g, ProgressLost)
}

// refuse lets go of a message that its sender is told to be refused.
func (gs *gatherings) refuse(key gatheringKey) {
	if g := gs.all[key]; g != nil {
		gs.lose(g)
	}
}

// loseAll lets go of those that fit.
func (gs *gatherings) loseAll(fits func(*gathering) bool) {
	for _, g := range gs.sorted(fits) {
		gs.lose(g)
	}
}

// raise lets go of what a sender has ended.
func (gs *gatherings) raise(sender, series, floor uint64) {
	gs.loseAll(func(g *gathering) bool { return g.sender == sender && g.series == series && g.id <= floor })
}

// close lets go of what is for a channel.
func (gs *gatherings) close(ch *Channel) {
	gs.loseAll(func(g *gathering) bool { return g.channel == ch })
}

// sweep lets go of what nobody has spoken of for long.
func (gs *gatherings) sweep(now time.Time) {
	gs.loseAll(func(g *gathering) bool { return now.Sub(g.heard) >= gatherLasts })
}

// matches reports whether a piece may be one of the message's.
func (g *gathering) matches(c wire.Chunk, ch *Channel) bool {
	return g.chunk.Total == c.Total && g.chunk.Size == c.Size && g.channel == ch
}

func (g *gathering) has(c wire.Chunk) bool { return g.pieces[c.Index] != nil }
func (g *gathering) complete() bool        { return g.here == len(g.pieces) }

// add adds a piece that is not here.
func (g *gathering) add(c wire.Chunk, m *starlingpb.Direct, now time.Time) {
	g.pieces[c.Index] = m.GetData()
	g.here++
	g.done += len(m.GetData())
	g.came = now
	if c.Index == 0 {
		g.trace = m.GetTraceContext()
	}
}

// delivery is the message on its way to its handler, when it is complete.
func (g *gathering) delivery(now time.Time) Delivery {
	d := direct(&starlingpb.Direct{TraceContext: g.trace}, g.sender, now)
	d.pieces, d.size = g.pieces, g.done
	return d
}
