package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// options are the flags of all subcommands.
type options struct {
	at, seeds list
	timeout   time.Duration
	json      bool
	observer  observerOptions

	lasts   time.Duration // watch, map watch: 0: until it is interrupted
	every   time.Duration // top
	frames  int           // top: 0: until it is interrupted
	rows    int           // top
	owned   bool          // map
	noProbe bool          // doctor

	tombstones time.Duration // map
	args       []string
}

// list is a flag that may be given several times, or with several values between commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			*l = append(*l, one)
		}
	}
	return nil
}

func (o *options) flagSet(name string, c command, help io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(help)
	fs.Usage = func() {
		fmt.Fprintf(help, "starling %s: %s\n\n", strings.TrimSpace(name+" "+c.args), c.short)
		fs.PrintDefaults()
	}
	fs.Var(&o.at, "at", "status pages, as `host:port` (which has the page at /status/) or as a URL; all but doctor ask the first that answers")
	fs.Var(&o.seeds, "seed", "members to join through, as `host:port`; the others see this one as observer-…, and it leaves at the end")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for an answer, and for a seed")
	fs.BoolVar(&o.json, "json", false, "output for programs")
	o.observer.flags(fs)
	if c.flags != nil {
		c.flags(fs, o)
	}
	return fs
}

// parse takes flags and arguments in any order.
func (o *options) parse(fs *flag.FlagSet, args []string) error {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return err
		}
		if args = fs.Args(); len(args) > 0 {
			o.args, args = append(o.args, args[0]), args[1:]
		}
	}
	switch {
	case len(o.at)+len(o.seeds) == 0:
		return errors.New("whom shall it ask? give it -at, the status page of a member, or -seed, a member to join through")
	case len(o.at) > 0 && len(o.seeds) > 0 && fs.Name() != "doctor":
		return errors.New("give it either -at or -seed")
	case len(o.args) > 0 && fs.Name() != "map":
		return fmt.Errorf("it takes no argument such as %q", o.args[0])
	case o.timeout <= 0:
		return fmt.Errorf("-timeout is %v, and must be positive", o.timeout)
	}
	return nil
}
