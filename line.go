package starling

import "slices"

// line is those who wait for room for a message. The first is served first, and is overtaken by nobody: otherwise a large message would
// wait for ever beside many small ones. The cluster's mu guards it.
type line []*turn

// turn is a place in the line.
type turn struct {
	come chan struct{} // holds a token when there may be room for the first
}

// first reports whether nobody waits before t; nil is somebody who is not in the line.
func (l line) first(t *turn) bool { return len(l) == 0 || l[0] == t }

// join puts t into the line, unless it is there already.
func (l *line) join(t *turn) *turn {
	if t == nil {
		t = &turn{make(chan struct{}, 1)}
		*l = append(*l, t)
	}
	return t
}

// leave takes t out of the line, if it is there. Who is first then looks whether there is room.
func (l *line) leave(t *turn) {
	if i := slices.Index(*l, t); i >= 0 {
		*l = slices.Delete(*l, i, i+1)
		l.wake()
	}
}

// wake tells the first that there may be room.
func (l line) wake() {
	if len(l) > 0 {
		signal(l[0].come)
	}
}
