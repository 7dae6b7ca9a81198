package store

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// ItemOverhead is what a part is charged beyond the length of its frame, so that a flood of tiny parts cannot cost many times
// the bound.
const ItemOverhead = 128

// Item is a part that is or was kept. Its frame and data never change: they may be read without the owner's lock, and after
// the item was evicted.
type Item struct {
	ID    wire.PartID
	Key   string     // of the channel
	Prev  uint64     // seq of the origin's previous part with the same key; 0: none
	Frame []byte     // the encoded part as it travels: its age is its last field
	Data  []byte     // the payload, a piece of Frame
	Born  time.Time  // when it was broadcast, by this member's clock: its arrival less the age it carried
	Chunk wire.Chunk // which piece of a message Data is

	Route  wire.Route // how it came
	Traced bool       // its frame has the context of a trace: see Trace
	InHand bool       // a handler has it: it must not be given to another, even if it is evicted and comes again
	// Handled tells that the part's handler has run, or that nobody here wants the part. Set it before Add or by SetHandled,
	// because the history is sorted by it.
	Handled bool

	Message any   // the message of this member that the part is, until that is done; nil for the parts of others
	place   int   // in the history's heap; 0: not kept
	page    *page // nil: not kept
}

// Kept reports whether the item is in the history.
func (it *Item) Kept() bool { return it.place != 0 }

// Restamped returns a copy of the part's frame with the age that it has now.
func (it *Item) Restamped(now time.Time) []byte {
	return wire.AppendRestamped(make([]byte, 0, len(it.Frame)), it.Frame, now.Sub(it.Born))
}

// Trace returns the context of the trace that the part belongs to, a piece of Frame; nil: none. It is looked up anew each time: most parts
// have none, and need no room for it.
func (it *Item) Trace() []byte {
	if !it.Traced {
		return nil
	}
	p, err := wire.ParsePart(it.Frame)
	if err != nil {
		return nil // it was parsed before it was kept
	}
	return p.Trace[:len(p.Trace):len(p.Trace)]
}

// cost is what the item is charged.
func (it *Item) cost() int { return len(it.Frame) + ItemOverhead }
