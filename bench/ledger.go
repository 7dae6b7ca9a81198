package main

import (
	"encoding/binary"
	"sync"
	"time"
)

// A stamp heads every payload: when it was sent, by whom, and the how manieth of that origin it is.
const stampSize = 8 + 4 + 4

// epoch is what stamps count from; time.Since of it reads the monotonic clock. All members are in this process, so one
// clock serves them all.
type clock struct{ epoch time.Time }

func (c clock) stamp(payload []byte, origin, number int) {
	binary.LittleEndian.PutUint64(payload, uint64(time.Since(c.epoch)))
	binary.LittleEndian.PutUint32(payload[8:], uint32(origin))
	binary.LittleEndian.PutUint32(payload[12:], uint32(number))
}

// ledger notes what each member was delivered, and after how long.
type ledger struct {
	clock
	pages []page
	heard func(number int, delay time.Duration) // called at each first delivery, if set
	took  func(member int, payload []byte)      // if set, called instead of noting anything: payloads have no stamp
}

// page is one member's part of a ledger.
type page struct {
	mu       sync.Mutex
	seen     [][]uint64 // by origin: a bit for each number
	fresh    int        // Invariant: the bits set in seen
	repeated int
	foul     int // payloads that were none of ours
	delays   histogram
}

func newLedger(members, origins int) *ledger {
	l := &ledger{clock: clock{time.Now()}, pages: make([]page, members)}
	for i := range l.pages {
		l.pages[i].seen = make([][]uint64, origins)
	}
	return l
}

// deliver notes a payload that reached a member.
func (l *ledger) deliver(member int, payload []byte) {
	if l.took != nil {
		l.took(member, payload)
		return
	}
	p := &l.pages[member]
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(payload) < stampSize {
		p.foul++
		return
	}
	delay := time.Since(l.epoch) - time.Duration(binary.LittleEndian.Uint64(payload))
	origin := int(binary.LittleEndian.Uint32(payload[8:]))
	number := int(binary.LittleEndian.Uint32(payload[12:]))
	if origin >= len(p.seen) {
		p.foul++
		return
	}
	for number/64 >= len(p.seen[origin]) {
		p.seen[origin] = append(p.seen[origin], 0)
	}
	word, bit := &p.seen[origin][number/64], uint64(1)<<(number%64)
	if *word&bit != 0 {
		p.repeated++
		return
	}
	*word |= bit
	p.fresh++
	p.delays.add(delay)
	if l.heard != nil {
		l.heard(number, delay)
	}
}

// foreign reports whether a payload is another member's: some systems give everybody what they sent themselves.
func foreign(member int, payload []byte) bool {
	return len(payload) < stampSize || int(binary.LittleEndian.Uint32(payload[8:])) != member
}

// of returns how many different messages a member was delivered.
func (l *ledger) of(member int) int {
	p := &l.pages[member]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh
}

// sum adds up all pages.
func (l *ledger) sum() (fresh, repeated, foul int, delays histogram) {
	for i := range l.pages {
		p := &l.pages[i]
		p.mu.Lock()
		fresh, repeated, foul = fresh+p.fresh, repeated+p.repeated, foul+p.foul
		delays.merge(&p.delays)
		p.mu.Unlock()
	}
	return fresh, repeated, foul, delays
}
