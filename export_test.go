package starling

import (
	"context"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// Waiting returns how many calls wait for room in c, or for a flush of ch.
func Waiting[T any](c *Cluster, ch *Channel[T]) (n int) {
	c.do(func(*replica.Replica, time.Time) { n = len(c.line) + len(ch.core.flushers) })
	return n
}

// Direct reports whether user messages pass memberlist by, both ways.
func Direct(c *Cluster) bool { return c.outlet.direct && c.transport.User != nil }

// Tracked is a message of which a test wants to know what parts became of it.
type Tracked struct {
	o *outgoing
	c *Cluster
}

// Broadcast is TryBroadcast, or with confirm Confirm with Handled, for which wait waits then.
func Broadcast(ctx context.Context, ch *Channel[[]byte], data []byte, confirm bool) (tr Tracked, wait func(context.Context) error, err error) {
	core := ch.core
	tr = Tracked{&outgoing{}, core.c}
	if confirm {
		cf := newConfirmation(core, &ConfirmOptions{Handled: true})
		tr.o.confirm, wait = []*confirmation{cf}, cf.wait
	}
	if err := core.checkSize(len(data)); err != nil {
		return tr, nil, err
	}
	name := ""
	if ch.supersede != nil {
		name = ch.supersede(data)
	}
	tr.o.Init(&core.core, name, data, nil, core.c.outlet.members()-1)
	return tr, wait, core.accept(ctx, tr.o, confirm)
}

// Left returns the data of the message's first part and the seqs of the first and the last one, once it has left.
func (tr Tracked) Left() (data []byte, first, last uint64) {
	tr.c.do(func(*replica.Replica, time.Time) {
		if first, last = tr.o.Span(); first != 0 {
			p, _ := wire.ParsePart(tr.o.Frame())
			data = p.Data
		}
	})
	return data, first, last
}
