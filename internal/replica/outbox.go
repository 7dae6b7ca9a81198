package replica

import "slices"

// outbox holds what was accepted and has not left, in two lanes: what goes by stream does not hold up what goes in packets. Within
// a lane messages leave in the order in which they came. A message of a FIFO channel waits in the lane where another one of its channel
// waits already.
//
// A newer message of the same name takes the place of the older one, which thereby never had a seq and leaves no hole.
type outbox struct {
	small, large lane
	named        map[outboxName]*Message
}

// laneKind counts the messages of a channel that wait in one lane.
type laneKind int

const (
	laneSmall laneKind = iota
	laneLarge
	laneKinds
)

// lane is messages in the order in which they came.
type lane struct {
	waiting []*Message
	empty   []*Message // waiting as it is when nothing waits, with room for as many as have waited
	bytes   int        // Invariant: Σ room of waiting
	kind    laneKind
}

type outboxName struct {
	ch   *Channel
	name string
}

// put appends m, or lets it supersede another one, which takes its content. Then it returns that one, and the room that the
// content it had before took. large tells for which lane a message is.
func (b *outbox) put(m *Message, large func(*Message) bool) (superseded *Message, freed int) {
	if m.name != "" {
		key := outboxName{m.ch, m.name}
		if old, ok := b.named[key]; ok {
			return old, b.supersede(old, m, large)
		}
		if b.named == nil {
			b.named = map[outboxName]*Message{}
		}
		b.named[key] = m
	}
	b.laneFor(m, large).push(m)
	return nil, 0
}

// supersede gives the older message the content of the newer one. It keeps its place, unless that is in the other lane, or says that the
// newer value is as old as the place: on a FIFO channel.
func (b *outbox) supersede(old, newer *Message, large func(*Message) bool) (freed int) {
	from := &b.small
	at := slices.Index(from.waiting, old)
	if at < 0 {
		from = &b.large
		at = slices.Index(from.waiting, old)
	}
	from.remove(at)
	freed = old.supersede(newer)
	if to := b.laneFor(old, large); to != from || old.ch.FIFO {
		to.push(old)
	} else {
		to.insert(at, old)
	}
	return freed
}

// laneFor returns the lane that a message waits in.
func (b *outbox) laneFor(m *Message, large func(*Message) bool) *lane {
	switch {
	case m.ch.FIFO && m.ch.waiting[laneLarge] > 0:
		return &b.large
	case m.ch.FIFO && m.ch.waiting[laneSmall] > 0:
		return &b.small
	case large(m):
		return &b.large
	}
	return &b.small
}

// pop takes the message that has waited longest in a lane. There must be one.
func (b *outbox) pop(l *lane) *Message {
	m := l.remove(0)
	if m.name != "" {
		delete(b.named, outboxName{m.ch, m.name})
	}
	return m
}

// oldest returns the message that has waited longest, or nil.
func (b *outbox) oldest() *Message {
	s, l := b.small.peek(), b.large.peek()
	if s == nil || l != nil && l.accepted.Before(s.accepted) {
		return l
	}
	return s
}

// peek returns the message that has waited longest, or nil.
func (l *lane) peek() *Message {
	if len(l.waiting) == 0 {
		return nil
	}
	return l.waiting[0]
}

func (l *lane) push(m *Message) { l.insert(len(l.waiting), m) }

func (l *lane) insert(at int, m *Message) {
	was := l.waiting
	if at == len(l.waiting) { // nearly always
		l.waiting = append(l.waiting, m)
	} else {
		l.waiting = slices.Insert(l.waiting, at, m)
	}
	if cap(l.waiting) > cap(was) {
		clear(was) // that array may stay as empty, and must not keep messages
	}
	if cap(l.waiting) > cap(l.empty) {
		l.empty = l.waiting[:0]
	}
	l.count(m, 1)
}

func (l *lane) remove(at int) *Message {
	m := l.waiting[at]
	l.count(m, -1)
	if at == 0 {
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	} else {
		l.waiting = slices.Delete(l.waiting, at, at+1)
	}
	if len(l.waiting) == 0 {
		l.waiting = l.empty
	}
	return m
}

func (l *lane) count(m *Message, n int) {
	l.bytes += n * m.room
	m.ch.waiting[l.kind] += n
}
