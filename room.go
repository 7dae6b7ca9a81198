package starling

// room is what a member may still accept from its own Broadcast calls. Its owner locks.
type room struct {
	messages, maxMessages int // Invariant: 0 ≤ messages ≤ maxMessages
	bytes, maxBytes       int // Invariant: bytes ≤ maxBytes, or messages = 1
	waiters               []chan struct{}
}

// take claims room for one message of n bytes, if there is.
func (r *room) take(n int) bool {
	if r.messages > 0 && (r.messages >= r.maxMessages || r.bytes+n > r.maxBytes) {
		return false
	}
	r.messages++
	r.bytes += n
	return true
}

// free gives back what take claimed, and lets those who wait try again.
func (r *room) free(n int) {
	r.messages--
	r.bytes -= n
	r.wakeAll()
}

func (r *room) wakeAll() {
	for _, w := range r.waiters {
		close(w)
	}
	r.waiters = r.waiters[:0]
}

// wait returns a channel that is closed when there may be room.
func (r *room) wait() <-chan struct{} {
	w := make(chan struct{})
	r.waiters = append(r.waiters, w)
	return w
}
