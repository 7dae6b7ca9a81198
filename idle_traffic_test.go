package starling_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// The types of memberlist's packets and messages: the first byte of each.
const (
	mlCompound = 7
	mlUser     = 8
	mlCRC      = 12
)

// userMessages counts the user messages in what a member writes at once. A stream that carries one begins with its type.
func userMessages(e starlingtest.Event) int {
	b := e.Data
	if len(b) > 5 && b[0] == mlCRC {
		b = b[5:]
	}
	switch {
	case len(b) == 0:
	case b[0] == mlUser:
		return 1
	case b[0] == mlCompound && e.Stream == 0:
		n, count := int(b[1]), 0
		lengths, rest := b[2:2+2*n], b[2+2*n:]
		for ; len(lengths) > 0; lengths = lengths[2:] {
			if rest[0] == mlUser {
				count++
			}
			rest = rest[binary.BigEndian.Uint16(lengths):]
		}
		return count
	}
	return 0
}

// A cluster in which nobody broadcasts is silent: from 61 s after the last broadcast on, no member writes a user message,
// although packets were lost before.
// Channels with state, of which each member has broadcast something, change nothing in that.
func TestNoTrafficWhenIdle(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := l.members(10, s.open(t))
		l.links(rough)
		var messages atomic.Int64
		l.Net.Tap(func(e starlingtest.Event) { messages.Add(int64(userMessages(e))) })
		for i := range 20 {
			for _, n := range nodes {
				l.send(n, mixed(i))
				s.registers[n].set(t, n.name, "x")
			}
			time.Sleep(50 * time.Millisecond)
		}
		busy := messages.Load()
		time.Sleep(61 * time.Second)
		before := messages.Load()
		time.Sleep(5 * time.Minute)
		t.Logf("%d user messages while busy, %d in the minute after, %d in five minutes after that",
			busy, before-busy, messages.Load()-before)
		if idle := messages.Load() - before; busy == 0 || idle > 0 {
			t.Errorf("%d messages while busy, %d while idle", busy, idle)
		}
		l.once(nodes...)
	})
}
