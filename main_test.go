package starling_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run when a goroutine of ours, or of memberlist, outlives the tests. memberlist's probes and streams
// end up to 10 s after its shutdown, so they get a little longer than that.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftovers(15 * time.Second); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left at the end:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leftovers returns the stacks of the goroutines that are still ours when the time is up, or "" as soon as there are none.
func leftovers(patience time.Duration) string {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		left := ourGoroutines()
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// ourGoroutines returns the stacks of all goroutines that run our code or memberlist's, but those of tests: some may be
// waiting for their turn.
func ourGoroutines() string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the first is the caller
		ours := strings.Contains(stack, "starling-go/starling") || strings.Contains(stack, "hashicorp/memberlist")
		if ours && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
