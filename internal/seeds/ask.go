package seeds

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// askTimeout is the deadline of one call of the user's function.
const askTimeout = 10 * time.Second

// An Asker asks a function of the user's for seeds, never twice at once: while it hangs it holds up those that wait for its answer, and
// nobody else. Its methods may be called concurrently.
type Asker struct {
	Func func(context.Context) ([]string, error)

	mu   sync.Mutex
	call *Call // nil: none is under way
}

// A Call is one call of the user's function.
type Call struct {
	Began time.Time
	Done  chan struct{} // closed when the function has returned; what follows is set then
	Texts []string
	Err   error
	Stack []byte // where it has panicked
}

// Ask returns the call that is under way, or begins one, which watch follows on a goroutine by spawn. ctx is the function's, with a deadline.
// nil: nothing begins any more.
func (a *Asker) Ask(ctx context.Context, spawn func(func()) bool, watch func(*Call)) *Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.call != nil {
		return a.call
	}
	call := &Call{Began: time.Now(), Done: make(chan struct{})}
	if !spawn(func() {
		go a.run(ctx, call) // who watches it waits for it, as long as there is hope
		watch(call)
	}) {
		return nil
	}
	a.call = call
	return call
}

func (a *Asker) run(ctx context.Context, call *Call) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	call.Err = errors.New("it has ended its goroutine") // by runtime.Goexit, as a failing test does
	defer func() {
		if p := recover(); p != nil {
			call.Err, call.Stack = fmt.Errorf("panic: %v", p), debug.Stack()
		}
		a.mu.Lock()
		a.call = nil
		a.mu.Unlock()
		close(call.Done)
	}()
	call.Texts, call.Err = a.Func(ctx)
}

// Seeds waits for the function, or for ctx, and parses what it has returned. faults is what was wrong with some of it.
func (c *Call) Seeds(ctx context.Context, defaultPort int) (all []Seed, faults, err error) {
	select {
	case <-c.Done:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("it has not returned for %v", time.Since(c.Began).Round(time.Millisecond))
	}
	if c.Err != nil {
		return nil, nil, c.Err
	}
	var wrong []error
	for i, text := range c.Texts {
		if len(all) == MaxAddrs {
			wrong = append(wrong, fmt.Errorf("%d are too many: only the first %d are tried", len(c.Texts), i))
			break
		}
		s, err := Parse(text, defaultPort)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%q: %w", text, err))
			continue
		}
		all = append(all, s)
	}
	if len(c.Texts) == 0 {
		err = errors.New("it knows of nobody: who may be the first returns an address of its own")
	}
	return all, Few(wrong), err
}
