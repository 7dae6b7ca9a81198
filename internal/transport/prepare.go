package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// Prepare dials a member for memberlist's SendReliable, which dials by itself and knows no context: when that dials the address
// of a by the name that Prepare returns, it gets this stream. When ctx ends, Prepare gives up its dial, and what memberlist is
// writing to the stream fails. The caller calls release when memberlist has returned.
//
// Since the frame can be made after the dial, a member that does not answer costs no memory for what would be sent to it.
//
// The dial may take as long as timeout says, with a wrapped transport too, which knows nothing of ctx; 0 stands for Options.StreamTimeout.
func (t *Transport) Prepare(ctx context.Context, a memberlist.Address, timeout time.Duration) (name string, release func(), err error) {
	if timeout == 0 {
		timeout = t.streamTimeout
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	end := func() {
		stop()
		cancel()
	}
	s, err := t.dial(ctx, a, timeout)
	if err == nil && !t.begin(func() {
		<-ctx.Done()
		_ = s.Close()
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
