package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// Prepare dials a member for memberlist's SendReliable or Join, which dial by themselves and know no context: when they dial the address
// of a by the name that Prepare returns, they get this stream. When ctx ends, Prepare gives up its dial, and what memberlist is
// writing to the stream fails. The caller calls release when memberlist has returned.
//
// Since the frame can be made after the dial, a member that does not answer costs no memory for what would be sent to it.
//
// The dial may take as long as timeout says, with a wrapped transport too, which knows nothing of ctx; 0 stands for Options.StreamTimeout.
func (t *Transport) Prepare(ctx context.Context, a memberlist.Address, timeout time.Duration) (name string, release func(), err error) {
	if timeout == 0 {
		timeout = t.streamTimeout
	}
	return prepare(ctx, t, a, func(ctx context.Context) (*stream, error) { return t.dial(ctx, a, timeout) })
}

// Prepare is Transport.Prepare for SendReliable to a member of Starling alone: its stream is one on a kept connection, and dialled only
// where none is free. release returns what is closed when the other end has read what was written, or the connection has ended; nil
// if nothing was. moved is called when the other end has read more of what takes long, until then; nil: it does not know how to tell.
func (cs *KeptConns) Prepare(ctx context.Context, a memberlist.Address, moved func()) (name string, release func() (read <-chan struct{}), err error) {
	var o *outgoing
	name, done, err := prepare(ctx, cs.t, a, func(ctx context.Context) (_ *outgoing, err error) {
		o, err = cs.open(ctx, a, moved)
		return o, err
	})
	return name, func() <-chan struct{} {
		done()
		return o.read // SendReliable has closed it
	}, err
}

// prepare gives memberlist the stream that open opens.
func prepare[S interface {
	net.Conn
	abort()
}](ctx context.Context, t *Transport, a memberlist.Address, open func(context.Context) (S, error)) (name string, release func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	end := func() {
		stop()
		cancel()
	}
	s, err := open(ctx)
	if err == nil && !t.begin(func() {
		<-ctx.Done()
		s.abort()
	}) {
		err = net.ErrClosed // and Shutdown has closed s
	}
	if err != nil {
		end()
		return "", nil, err
	}

	t.mu.Lock()
	t.aliases++
	alias := memberlist.Address{Addr: a.Addr, Name: fmt.Sprintf("%s\x00%d", a.Name, t.aliases)}
	t.prepared[alias] = s
	t.mu.Unlock()
	return alias.Name, func() {
		t.mu.Lock()
		delete(t.prepared, alias)
		t.mu.Unlock()
		end()
	}, nil
}
