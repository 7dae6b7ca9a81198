package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/starling-go/starling"
)

// screen shows one line after the other. It may be written to concurrently.
type screen struct {
	mu sync.Mutex
	w  io.Writer
}

// notice shows something that nobody said.
func (s *screen) notice(format string, args ...any) { s.print("* " + fmt.Sprintf(format, args...)) }

// line shows what somebody said.
func (s *screen) line(from, text string, alone bool) {
	if from == "" {
		from = "somebody"
	}
	if alone {
		from += " (to you)"
	}
	s.print(from + ": " + text)
}

func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, printable(line))
}

// printable keeps what others wrote from commanding the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// follow shows who comes and goes until the cluster is closed or ctx ends.
func (s *screen) follow(ctx context.Context, c *starling.Cluster) {
	self := c.Self().Name
	disputes := map[string]bool{} // told again and again as long as they last
	for e := range c.Events(ctx) {
		who := e.Member.Name
		switch {
		case e.Kind == starling.EventConflict:
			dispute := fmt.Sprintf("two members are called %s: %v and %v", who, e.Member.Addr, e.Other.Addr)
			if !disputes[dispute] {
				disputes[dispute] = true
				s.notice("%s", dispute)
			}
		case who == self: // we know
		case e.Kind == starling.EventUpdated:
		default:
			s.notice("%s %v", who, e.Kind) // joined, left or failed
		}
	}
}
