package replica

// budget is what a member may still accept from its own Broadcast calls.
type budget struct {
	messages, maxMessages int // Invariant: 0 ≤ messages ≤ maxMessages
	bytes, maxBytes       int // Invariant: bytes ≤ maxBytes, or messages = 1
}

// take claims room for one message of n bytes, if there is.
func (b *budget) take(n int) bool {
	if b.messages > 0 && (b.messages >= b.maxMessages || b.bytes+n > b.maxBytes) {
		return false
	}
	b.messages++
	b.bytes += n
	return true
}

// free gives back what take claimed.
func (b *budget) free(n int) {
	b.messages--
	b.bytes -= n
}
