package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// TestMain runs the command itself where a test starts this very program for that.
func TestMain(m *testing.M) {
	if os.Getenv("STARLING_TEST_COMMAND") != "" {
		main()
	}
	os.Exit(m.Run())
}

// However an observer is ended, it says goodbye first: to the others it has left, and has not failed.
func TestObserverLeaves(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent signals here")
	}
	t.Parallel()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // so that the command is not born with SIGHUP ignored, if this test was, by nohup
	t.Cleanup(func() { signal.Stop(caught) })
	for name, end := range map[string]func(*exec.Cmd, *bufio.Scanner, func()){
		"interrupted": func(cmd *exec.Cmd, out *bufio.Scanner, _ func()) {
			out.Scan()
			cmd.Process.Signal(os.Interrupt)
		},
		"hung up": func(cmd *exec.Cmd, out *bufio.Scanner, _ func()) {
			out.Scan()
			cmd.Process.Signal(syscall.SIGHUP)
		},
		"interrupted while it joins": func(cmd *exec.Cmd, _ *bufio.Scanner, _ func()) { cmd.Process.Signal(os.Interrupt) },
		"unread": func(_ *exec.Cmd, out *bufio.Scanner, unread func()) {
			out.Scan()
			unread()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			c, err := starling.New(starling.Config{Name: "a", BindAddr: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			cmd := exec.CommandContext(ctx, os.Args[0], "top", "-every", "50ms", "-bind", "127.0.0.1:0", "-seed", c.Self().Addr.String())
			cmd.Env = append(os.Environ(), "STARLING_TEST_COMMAND=1")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err = cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			for e := range c.Events(ctx) {
				if !strings.HasPrefix(e.Member.Name, observerPrefix) {
					continue
				}
				if e.Kind == starling.EventJoined {
					end(cmd, bufio.NewScanner(out), func() { out.Close() })
				} else if ended = e.Kind == starling.EventLeft || e.Kind == starling.EventFailed; ended {
					if e.Kind != starling.EventLeft {
						t.Errorf("%v", e)
					}
					break
				}
			}
			if !ended {
				t.Error("it neither leaves nor fails")
			}
			_ = cmd.Wait()
			if ctx.Err() != nil || cmd.ProcessState.ExitCode() < 0 {
				t.Errorf("%v, %v", ctx.Err(), cmd.ProcessState)
			}
		})
	}
}
