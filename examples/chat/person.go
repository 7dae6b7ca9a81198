package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/examples/chat/chatpb"
)

// sendWithin is how long a member may take to acknowledge what was written to it alone.
const sendWithin = 5 * time.Second

// person does what the lines of the input say.
type person struct {
	cluster *starling.Cluster
	lines   *starling.Channel[*chatpb.Line]
	screen  *screen
}

// talk returns at the end of the input, at /quit, or when ctx ends.
func (p *person) talk(ctx context.Context, in io.Reader) {
	// Nothing can interrupt a read of a terminal: this goroutine ends with its next line, or with the process.
	typed := make(chan string)
	go func() {
		defer close(typed)
		for r := bufio.NewReader(in); ; {
			text, err := r.ReadString('\n')
			if text = strings.TrimSpace(text); text != "" {
				select {
				case typed <- text:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case text, ok := <-typed:
			if !ok || !p.do(ctx, parseCommand(text)) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// command is one line of the input.
type command struct {
	verb string // "" for a line to all, else with its slash
	to   string // of /to
	text string
}

func parseCommand(line string) command {
	if !strings.HasPrefix(line, "/") {
		return command{text: line}
	}
	verb, rest := cutBlank(line)
	c := command{verb: verb, text: rest}
	if verb == "/to" {
		c.to, c.text = cutBlank(rest)
	}
	return c
}

// cutBlank cuts the first word off.
func cutBlank(s string) (word, rest string) {
	if i := strings.IndexFunc(s, isBlank); i >= 0 {
		return s[:i], strings.TrimSpace(s[i:])
	}
	return s, ""
}

func isBlank(r rune) bool { return unicode.IsSpace(r) }

// do reports whether to go on.
func (p *person) do(ctx context.Context, c command) bool {
	switch c.verb {
	case "":
		p.sayToAll(ctx, c.text)
	case "/to":
		p.sayTo(ctx, c.to, c.text)
	case "/who":
		p.screen.notice("%s", strings.Join(p.names(), ", "))
	case "/quit":
		return false
	default:
		p.screen.notice("no such command: %s; there are /to MEMBER text, /who and /quit", c.verb)
	}
	return true
}

func (p *person) sayToAll(ctx context.Context, text string) {
	if err := p.lines.Broadcast(ctx, &chatpb.Line{Text: text}); err != nil {
		p.screen.notice("not said: %v", err)
		return
	}
	if len(p.cluster.Members()) == 1 {
		p.screen.notice("nobody else is here to read that")
	}
}

// sayTo says which member has the line: Send returns nil only when it was acknowledged.
func (p *person) sayTo(ctx context.Context, member, text string) {
	if member == "" || text == "" {
		p.screen.notice("to whom, and what? /to MEMBER text")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := p.lines.Send(ctx, member, &chatpb.Line{Text: text})
	var failed *starling.SendError
	switch {
	case err == nil:
		p.screen.notice("%s has it", member)
	case errors.As(err, &failed) && failed.Reason == starling.SendUnknown:
		p.screen.notice("nobody called %s is here, only: %s", member, strings.Join(p.names(), ", "))
	default:
		p.screen.notice("not sent: %v", err)
	}
}

// names returns who is here.
func (p *person) names() []string {
	var names []string
	self := p.cluster.Self().Name
	for _, m := range p.cluster.Members() {
		if m.Name == self {
			names = append(names, fmt.Sprintf("%s (you)", m.Name))
		} else {
			names = append(names, m.Name)
		}
	}
	return names
}
