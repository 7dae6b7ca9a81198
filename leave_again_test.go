package starling_test

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// TestLeaveTwice: whoever calls Leave again, after the first call or beside it, is told what that one was told.
func TestLeaveTwice(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := append([]*node(nil), l.members(3)...)
		over, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		results := make(chan error, 3)
		for range 3 {
			go func() { results <- nodes[0].Leave(over) }()
		}
		first := arrives(t, "Leave returns", results)
		if first == nil {
			t.Fatal("a Leave without any time says that it was heard")
		}
		for range 2 {
			if err := arrives(t, "Leave beside the first returns", results); err != first {
				t.Errorf("Leave beside the first: %v, want %v", err, first)
			}
		}
		if err := nodes[0].Leave(soon(t)); err != first {
			t.Errorf("Leave after the first: %v, want %v", err, first)
		}
		if err := nodes[0].Close(); err != nil {
			t.Errorf("Close after Leave: %v", err)
		}
		if err := nodes[1].Leave(soon(t)); err != nil {
			t.Errorf("Leave that was heard: %v", err)
		}
		if err := nodes[1].Leave(over); err != nil {
			t.Errorf("and again: %v", err)
		}
	})
}

// TestLeaveAfterClose: there is nothing to be told.
func TestLeaveAfterClose(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	done := make(chan error, 4)
	for _, end := range []func() error{c.Close, func() error { return c.Leave(soon(t)) }} {
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			go func() { done <- end() }()
		}
	}
	for range 4 {
		if err := arrives(t, "it returns", done); err != nil {
			t.Error(err)
		}
	}
	if _, err := starling.NewChannel(c, "ch", new(recorder[text]).handle, nil); err != starling.ErrClosed {
		t.Errorf("a channel of what has ended: %v", err)
	}
}
