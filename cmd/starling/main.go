// Command starling shows what a cluster of Starling does, and finds what is wrong with it:
//
//	starling members -at 10.0.0.7:8080
//	starling doctor -at 10.0.0.7:8080,10.0.0.8:8080
//	starling watch -seed 10.0.0.7:7946
//
// It asks the status pages of members (package starlingstatus), or joins the cluster itself, as a member that the others see while it runs.
// docs/command.md shows each subcommand. It exits with 0; with 1 if what it was asked for is not so (doctor has found something, a probe is not
// confirmed, a map has no such key); with 2 if it could not look.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

const (
	exitFine   = 0
	exitNot    = 1 // what was asked for is not so
	exitFailed = 2 // it could not look
)

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	signal.Ignore(syscall.SIGPIPE) // which would end an observer without a goodbye: a write fails instead
	context.AfterFunc(ctx, stop)   // the second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], screen{out: os.Stdout, err: os.Stderr, live: isTerminal(os.Stdout) && os.Getenv("TERM") != "dumb"}))
}

// screen is where things are shown.
type screen struct {
	out, err io.Writer
	live     bool // out is a terminal: what is there can be drawn over
}

// command is what one subcommand does. It returns the exit code; an error is exitFailed.
type command struct {
	args, short string
	flags       func(*flag.FlagSet, *options)
	run         func(ctx context.Context, o *options, s screen) (int, error)
}

var commandNames = []string{"members", "watch", "probe", "top", "map", "doctor"}

// commands are never changed.
var commands = map[string]command{
	"members": {"", "who is in the cluster, as one member sees it", nil, members},
	"watch":   {"", "what happens: who comes and goes, what was lost or dropped", watchFlags, watch},
	"probe":   {"", "has every member confirm an empty message, and shows how long each takes", nil, probe},
	"top":     {"", "rates, queues and members, live", topFlags, top},
	"map":     {"get|watch MAP [KEY]", "the values of a Map; for watch, KEY is a prefix", mapFlags, mapCommand},
	"doctor":  {"", "names what is wrong: -at the pages of as many members as you can", doctorFlags, diagnose},
}

const usage = `Starling shows what a cluster does, and finds what is wrong with it.

	starling COMMAND -at ADDRESS,… [flags]     asks the status pages of members
	starling COMMAND -seed ADDRESS,… [flags]   joins the cluster, as a member that the others see while it runs

`

func run(ctx context.Context, args []string, s screen) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	c, ok := commands[name]
	if !ok {
		help := name == "help" || name == "-h" || name == "-help" || name == "--help"
		to, code := s.err, exitFailed
		if help {
			to, code = s.out, exitFine
		}
		fmt.Fprint(to, usage)
		for _, name := range commandNames {
			fmt.Fprintf(to, "  %-28s %s\n", name+" "+commands[name].args, commands[name].short)
		}
		fmt.Fprintf(to, "\nstarling COMMAND -h shows its flags.\n")
		return code
	}
	o := &options{}
	fs := o.flagSet(name, c, s.err)
	switch err := o.parse(fs, args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return exitFine
	case err != nil:
		fmt.Fprintf(s.err, "starling %s: %v\n", name, err)
		return exitFailed
	}
	switch code, err := c.run(ctx, o, s); {
	case unread(err):
		return exitFailed
	case err != nil:
		fmt.Fprintf(s.err, "starling %s: %s\n", name, clean(err.Error()))
		return exitFailed
	default:
		return code
	}
}

// unread reports whether an error is that of output that nobody reads any more, as by "| head".
func unread(err error) bool {
	var of *fs.PathError
	return errors.As(err, &of) && of.Err == syscall.EPIPE
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
