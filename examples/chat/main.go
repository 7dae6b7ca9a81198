// Chat is a member of a small chat: every line of standard input goes to everybody, "/to MEMBER text" to one member.
// Joins, leaves and failures are shown as they happen. Ctrl-C, /quit and the end of the input leave politely.
//
//	go run ./examples/chat -name a
//	go run ./examples/chat -name b -join ADDRESS
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/examples/chat/chatpb"
)

const (
	joinWithin  = 10 * time.Second
	joinSoon    = 2 * time.Second // after that it is said that nobody answers yet
	leaveWithin = 3 * time.Second
)

func main() {
	// A terminal that is closed is no reason to leave without a goodbye.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// The second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

type options struct {
	name    string
	bind    string
	seeds   seeds
	verbose bool
}

// seeds is a flag that may be given several times, or with several addresses separated by commas.
type seeds []string

func (s *seeds) String() string { return strings.Join(*s, ",") }

func (s *seeds) Set(text string) error {
	for seed := range strings.SplitSeq(text, ",") {
		if seed = strings.TrimSpace(seed); seed != "" {
			*s = append(*s, seed)
		}
	}
	return nil
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("chat", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.name, "name", "", "this member's name, unique in the chat (default: host name and a random suffix)")
	f.StringVar(&o.bind, "bind", "127.0.0.1:0", "`host:port` to listen on; port 0 lets the system choose")
	f.Var(&o.seeds, "join", "`address` of any member; may be repeated, or several separated by commas")
	f.BoolVar(&o.verbose, "v", false, "show the log")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	err := o.check(f.NArg())
	if err != nil {
		fmt.Fprintln(stderr, "chat:", err)
	}
	return o, err
}

func (o options) check(arguments int) error {
	switch {
	case arguments > 0:
		return errors.New("takes flags only; see -help")
	case strings.ContainsFunc(o.name, isBlank):
		return fmt.Errorf("-name %q: no blanks, or nobody could write to it by /to", o.name)
	}
	return nil
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := chat(ctx, o, stdin, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "chat:", err)
		return 1
	}
	return 0
}

// chat takes part from New to Leave.
func chat(ctx context.Context, o options, stdin io.Reader, stdout, stderr io.Writer) error {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c, err := starling.New(starling.Config{Name: o.name, BindAddr: o.bind, Logger: log})
	if err != nil {
		return err
	}
	s := &screen{w: stdout}
	lines, err := starling.NewChannel(c, "chat", func(_ context.Context, m starling.Message[*chatpb.Line]) {
		s.line(m.From.Name, m.Value.GetText(), m.Via == starling.ViaDirect)
	}, nil)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	self := c.Self()
	s.notice("You are %s. Others join with: -join %v", self.Name, self.Addr)
	s.notice("A line goes to all. /to MEMBER text, /who and /quit do what they say.")

	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx, c) })
	if err = join(ctx, c, s, o.seeds); err == nil {
		p := &person{cluster: c, lines: lines, screen: s}
		p.talk(ctx, stdin)
		s.notice("leaving")
	}
	// ctx may have ended: that is what Ctrl-C does.
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	if unheard := c.Leave(leaving); unheard != nil {
		s.notice("not everybody may have heard that: %v", unheard)
	}
	wg.Wait()
	return err
}

// join fails when no seed answers for a while: most likely its address is wrong. Being interrupted is no failure.
func join(ctx context.Context, c *starling.Cluster, s *screen, seeds []string) error {
	limited, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	late := time.AfterFunc(joinSoon, func() {
		if len(c.Members()) == 1 {
			s.notice("nobody answers at %s yet; still trying", strings.Join(seeds, " or "))
		}
	})
	defer late.Stop()
	err := c.Join(limited, seeds...)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
