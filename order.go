package starling

import (
	"cmp"
	"slices"
	"time"
)

// order holds back the parts of a FIFO channel until their turn. Each part names the one before it on its channel, so
// nothing but that one is waited for. The zero value holds nothing back.
type order struct {
	enabled bool
	hold    time.Duration // how long a hole may hold back what follows it
	lines   map[uint64]*line
}

// line is what one origin sent on the channel.
type line struct {
	last    uint64    // the newest part that went to the inbox
	waiting []*item   // by seq; Invariant: waiting[i].id.seq > last
	since   time.Time // when the first of them began to wait

	// excused is what came too late while it was not known whether it is owed.
	// Invariant: excused.count() <= maxRanges.
	excused intervals
}

func (o *order) line(origin uint64) *line {
	l, ok := o.lines[origin]
	if !ok {
		if o.lines == nil {
			o.lines = map[uint64]*line{}
		}
		l = new(line)
		o.lines[origin] = l
	}
	return l
}

func (o *order) forget(origin uint64) { delete(o.lines, origin) }

// late reports whether a newer part of the line went to the inbox already.
func (l *line) late(it *item) bool { return it.id.seq <= l.last }

// excuse remembers a late part until it is known whether it is owed.
func (l *line) excuse(seq uint64) {
	if l.excused.count() < maxRanges || l.excused.joins(seq) {
		l.excused.add(seq)
	}
}

// put inserts a part among those that wait.
func (l *line) put(it *item, now time.Time) {
	at, _ := slices.BinarySearchFunc(l.waiting, it.id.seq, func(w *item, seq uint64) int { return cmp.Compare(w.id.seq, seq) })
	l.waiting = slices.Insert(l.waiting, at, it)
	if at == 0 {
		l.since = now
	}
}

// next takes the first part that waits if its turn has come: its predecessor went to the inbox, or is not to come.
func (l *line) next(settled func(seq uint64) bool, now time.Time) *item {
	if len(l.waiting) == 0 {
		return nil
	}
	it := l.waiting[0]
	if it.prev > l.last && !settled(it.prev) {
		return nil
	}
	return l.take(now)
}

// take takes the first part that waits, turn or not.
func (l *line) take(now time.Time) *item {
	it := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.last = it.id.seq
	l.since = now
	return it
}

// overdue reports whether the first part has waited longer than hold.
func (l *line) overdue(hold time.Duration, now time.Time) bool {
	return len(l.waiting) > 0 && now.Sub(l.since) >= hold
}

// dying reports whether the first part has come so close to the end of its retention that it would be lost for waiting.
func (l *line) dying(age time.Duration, now time.Time) bool {
	return len(l.waiting) > 0 && now.Sub(l.waiting[0].born) >= age*9/10
}

// drop takes out a part that is not kept any more; it may come again.
func (o *order) drop(it *item) {
	if l, ok := o.lines[it.id.origin]; ok {
		l.waiting = slices.DeleteFunc(l.waiting, func(w *item) bool { return w == it })
	}
}
