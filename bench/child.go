package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Some things need a process of their own: what is to be frozen, and what is to begin with a fresh heap. They are this
// program again, with childArg before the name of what they are to do. They end when their input ends, so none is left
// behind.
const childArg = "child"

// childWithin bounds the life of any child.
const childWithin = 30 * time.Minute

// runChild is the whole life of a child.
func runChild(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, childWithin)
	defer cancel()
	go func() {
		// Ends with the process at the latest: nobody can wait for a read of standard input.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	tasks := map[string]func(context.Context, []string, io.Writer) error{
		"member": childMember, "idle": childIdle, "large": childLarge, "spread": childSpread, "trial": childTrial, "call": childCall,
	}
	if len(args) == 0 || tasks[args[0]] == nil {
		return errors.New("no such child")
	}
	return tasks[args[0]](ctx, args[1:], os.Stdout)
}

// child is a running child, seen by its parent.
type child struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	lines *bufio.Scanner
	errs  bytes.Buffer
}

func startChild(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, append([]string{childArg}, args...)...)}
	c.cmd.Stderr = &c.errs
	c.cmd.WaitDelay = time.Second
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	return c, c.cmd.Start()
}

// read waits for the child's next line, which is JSON.
func (c *child) read(v any) error {
	if !c.lines.Scan() {
		err := errors.Join(c.lines.Err(), io.ErrUnexpectedEOF)
		return fmt.Errorf("child ended early: %w: %s", err, strings.TrimSpace(c.errs.String()))
	}
	return json.Unmarshal(c.lines.Bytes(), v)
}

// end lets the child end by itself, and waits for it.
func (c *child) end() error {
	err := errors.Join(c.input.Close(), c.cmd.Wait())
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(c.errs.String()))
	}
	return nil
}

// kill ends a child that cannot end by itself.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	_ = c.cmd.Wait() // it says no more than that it was killed
	return err
}

// ask runs a child that prints one line and ends.
func ask(ctx context.Context, v any, args ...string) error {
	c, err := startChild(ctx, args...)
	if err != nil {
		return err
	}
	if err := c.read(v); err != nil {
		return errors.Join(err, c.kill())
	}
	return c.end()
}

// tell prints a line for the parent.
func tell(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// seedFlag adds the flag by which a child is told whom to join.
func seedFlag(f *flag.FlagSet) *string { return f.String("join", "", "address of a member") }
