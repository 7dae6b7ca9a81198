// Quickstart starts a few members in this process, on loopback ports that the system picks, and broadcasts small
// messages and one real file between them. It prints who got what, by which path and after how long, and checks every
// byte. It exits with 0 if all arrived as it was sent, 1 if anything is missing or differs, 2 if it was called wrongly.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/starling-go/starling"
)

const (
	exitVerified = 0
	exitFaulty   = 1
	exitUsage    = 2
)

// streamAbove is the size rule: what is larger, once encoded, travels by stream. So does any file of more bytes.
const streamAbove = starling.MaxGossipPacketSize / 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	members  int
	messages int
	file     string
	wait     time.Duration
	verbose  bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.members, "members", 5, "how many members to start, 2 to 50")
	f.IntVar(&o.messages, "messages", 3, "how many small messages to broadcast, 0 to 1000")
	f.StringVar(&o.file, "file", "README.md", fmt.Sprintf("file to broadcast, of more than %d bytes", streamAbove))
	f.DurationVar(&o.wait, "wait", 10*time.Second, "how long to wait until every member has everything")
	f.BoolVar(&o.verbose, "v", false, "show the log")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	err := o.check(f.NArg())
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
	}
	return o, err
}

func (o options) check(arguments int) error {
	switch {
	case arguments > 0:
		return errors.New("takes flags only; see -help")
	case o.members < 2 || o.members > 50:
		return fmt.Errorf("-members %d: must be 2 to 50", o.members)
	case o.messages < 0 || o.messages > 1000:
		return fmt.Errorf("-messages %d: must be 0 to 1000", o.messages)
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitVerified
	case err != nil:
		return exitUsage
	}
	notes, err := compose(o)
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return exitUsage
	}
	rows, err := demonstrate(ctx, o, notes, stdout, stderr)
	if tooLarge := new(starling.TooLargeError); errors.As(err, &tooLarge) {
		fmt.Fprintln(stderr, "quickstart:", err)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return exitFaulty
	}
	return judge(stdout, rows)
}

// demonstrate runs the members from beginning to end, prints what they got, and returns it.
func demonstrate(ctx context.Context, o options, notes []note, stdout, stderr io.Writer) ([]row, error) {
	l := newLedger(notes)
	c, err := start(o.members, newLogger(stderr, o.verbose), l)
	defer c.leave()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(stdout, "%d members found each other after %s:\n", o.members, millis(time.Since(began)))
	for _, m := range c {
		fmt.Fprintf(stdout, "  %-12s  %v\n", m.name(), m.cluster.Self().Addr)
	}
	fmt.Fprintln(stdout)
	if err := c.broadcast(ctx, notes, l); err != nil {
		return nil, err
	}
	l.await(ctx, o.wait)
	rows := l.rows()
	printTable(stdout, rows)
	return rows, nil
}

// judge tells the result, and returns the exit code that goes with it.
func judge(w io.Writer, rows []row) int {
	if faults := countFaults(rows); faults > 0 {
		fmt.Fprintf(w, "\n%d of %d deliveries are missing or differ.\n", faults, len(rows))
		return exitFaulty
	}
	fmt.Fprintf(w, "\nAll %d deliveries arrived, every byte as it was sent.\n", len(rows))
	return exitVerified
}
