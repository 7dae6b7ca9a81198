// Command push gives files to a cluster of members in this process, on loopback, with one progress bar for each member. While the first
// file is on its way one member is killed, and another one joins. In the end it compares what each member was given with the file.
//
//	go run . [-n MEMBERS] FILE...
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

func main() {
	n := flag.Int("n", 5, "how many members there are")
	flag.Parse()
	if *n < 3 || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: push [-n MEMBERS, 3 or more] FILE...")
		os.Exit(2)
	}
	if err := run(context.Background(), *n, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

// patience is how long anything may take.
const patience = 2 * time.Minute

// run pushes the files one after the other from the first of n members.
func run(ctx context.Context, n int, paths []string, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var files [][]byte
	largest := 1 << 20
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, largest = append(files, data), max(largest, len(data))
	}
	c := &cluster{out: out, largest: largest}
	defer func() { err = errors.Join(err, c.close()) }()
	for range n {
		if err := c.join(ctx); err != nil {
			return err
		}
	}
	for i, data := range files {
		drama := func() {}
		if i == 0 {
			drama = func() { c.drama(ctx) }
		}
		if err := c.push(ctx, paths[i], data, drama); err != nil {
			return err
		}
	}
	return nil
}

// cluster is the members. The first one pushes.
type cluster struct {
	out     io.Writer
	largest int // bytes of the largest file

	members []*member // by number; one that was killed stays
	acting  sync.WaitGroup
	err     error // what went wrong in the drama; to be read after acting has ended, as members while it runs
}

// member is one member of the cluster.
type member struct {
	*starling.Cluster
	name  string
	files *starling.Channel[[]byte]
	sums  chan [sha256.Size]byte // of each file that it was given
	dead  bool
}

// join starts a member, which joins through the first one. From then on it is owed every file.
func (c *cluster) join(ctx context.Context) error {
	m := &member{name: fmt.Sprint("member-", len(c.members)), sums: make(chan [sha256.Size]byte, 64)}
	var err error
	m.Cluster, err = starling.New(starling.Config{
		Name: m.name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal,
		// A message is kept in memory, at each member, for those that may lack it: a large one needs room for that.
		MaxMessageSize: c.largest, Retention: starling.Retention{Bytes: 4 * c.largest}, Queue: starling.Queue{Bytes: 2 * c.largest},
		Logger: slog.New(slog.DiscardHandler), // it would write between the bars
		Tune: func(mc *memberlist.Config) { // so that you need not wait until the failure is noticed for as long as a service should
			mc.ProbeInterval, mc.ProbeTimeout, mc.SuspicionMult = 200*time.Millisecond, 100*time.Millisecond, 3
		},
	})
	if err != nil {
		return err
	}
	handle := func(_ context.Context, msg starling.Message[[]byte]) { m.sums <- sha256.Sum256(msg.Value) }
	if m.files, err = starling.NewChannelOf(m.Cluster, "files", handle, starling.Bytes(), nil); err != nil {
		return errors.Join(err, m.Close())
	}
	if len(c.members) > 0 {
		if err := m.Join(ctx, c.members[0].Self().Addr.String()); err != nil {
			return errors.Join(err, m.Close())
		}
	}
	c.members = append(c.members, m)
	return nil
}

// drama kills the last member, without a goodbye, and starts another one.
func (c *cluster) drama(ctx context.Context) {
	c.acting.Go(func() {
		victim := c.members[len(c.members)-1]
		victim.dead = true
		c.err = errors.Join(victim.Close(), c.join(ctx))
	})
}

// push gives a file to all members, and calls midway when one of them has a quarter of it.
func (c *cluster) push(ctx context.Context, path string, data []byte, midway func()) error {
	from, before := c.members[0], len(c.members) // who joins from now on is not owed this file
	fmt.Fprintf(c.out, "%s: %d bytes from %s\n", path, len(data), from.name)
	progress := from.files.Progress(ctx)
	if err := from.files.Broadcast(ctx, data); err != nil {
		return err
	}
	bs := newBars(c.members[1:], int64(len(data)))
	if len(data) > 128<<10 { // smaller ones do not travel in pieces, and are not told of
		for p := range progress {
			if p.Done >= p.Total/4 {
				midway()
				midway = func() {}
			}
			if bs.show(p); bs.left == 0 {
				break
			}
		}
	}
	bs.close()
	c.acting.Wait()
	if c.err != nil {
		return c.err
	}
	return c.compare(ctx, sha256.Sum256(data), before)
}

// compare holds what the members were given against the file.
func (c *cluster) compare(ctx context.Context, want [sha256.Size]byte, before int) error {
	var faults []error
	fmt.Fprintf(c.out, "  %-10s %x\n", c.members[0].name, want)
	for i, m := range c.members[1:] {
		switch {
		case m.dead:
			fmt.Fprintf(c.out, "  %-10s killed\n", m.name)
			continue
		case i+1 >= before:
			fmt.Fprintf(c.out, "  %-10s joined midway: it is owed the next file\n", m.name)
			continue
		}
		select {
		case sum := <-m.sums:
			fmt.Fprintf(c.out, "  %-10s %x\n", m.name, sum)
			if sum != want {
				faults = append(faults, fmt.Errorf("%s was given something else", m.name))
			}
		case <-ctx.Done():
			faults = append(faults, fmt.Errorf("%s was not given the file: %w", m.name, ctx.Err()))
		}
	}
	return errors.Join(faults...)
}

func (c *cluster) close() error {
	c.acting.Wait()
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
