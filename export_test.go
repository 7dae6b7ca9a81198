package starling

// Waiting returns how many calls wait for room in c, or for a flush of ch.
func Waiting[T any](c *Cluster, ch *Channel[T]) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.replica.room.waiters) + len(ch.core.flushers)
}

// Fast reports whether packets pass memberlist by, both ways.
func Fast(c *Cluster) bool { return c.fast && c.transport.user != nil }
