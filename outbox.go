package starling

import "time"

// outgoing is a message of our own until every member has it, in one allocation with the part that it becomes.
type outgoing struct {
	item  item  // as it is kept, once it has left; it has no seq before
	entry entry // its place in the gossip queue

	ch       *channel
	name     string // what a newer message supersedes it by, before it has left; "" for none
	body     []byte // key and data, encoded, with room for the identity; its length is the room that was claimed
	size     int    // of the data, which ends the body
	number   uint64 // of the message on its channel
	accepted time.Time
	confirm  []chan<- landing // who waits for the end; each has room for one
}

// outbox holds, in order, what was accepted and has not left. A newer message of the same name takes the place of the older one, which thereby never had a seq and leaves no hole.
type outbox struct {
	waiting []*outgoing
	named   map[outName]*outgoing
	bytes   int // Invariant: Σ len(body) of waiting
}

type outName struct {
	ch   *channel
	name string
}

// put appends o, or lets it supersede; then it returns the size of what it replaced.
func (b *outbox) put(o *outgoing) (superseded bool, freed int) {
	if o.name != "" {
		key := outName{o.ch, o.name}
		if old, ok := b.named[key]; ok {
			freed = len(old.body)
			b.bytes += len(o.body) - freed
			old.body, old.size = o.body, o.size
			old.confirm = append(old.confirm, o.confirm...)
			return true, freed
		}
		if b.named == nil {
			b.named = map[outName]*outgoing{}
		}
		b.named[key] = o
	}
	b.waiting = append(b.waiting, o)
	b.bytes += len(o.body)
	return false, 0
}

// peek returns the message that has waited longest, or nil.
func (b *outbox) peek() *outgoing {
	if len(b.waiting) == 0 {
		return nil
	}
	return b.waiting[0]
}

// pop takes the message that has waited longest, or nil.
func (b *outbox) pop() *outgoing {
	if len(b.waiting) == 0 {
		return nil
	}
	o := b.waiting[0]
	b.waiting[0] = nil
	b.waiting = b.waiting[1:]
	b.bytes -= len(o.body)
	if o.name != "" {
		delete(b.named, outName{o.ch, o.name})
	}
	return o
}
