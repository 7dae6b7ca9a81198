package interop

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run when a goroutine of Starling, memberlist or Alertmanager outlives the tests. memberlist's end up
// to 10 s after its shutdown.
func TestMain(m *testing.M) {
	code := m.Run()
	poll := time.NewTicker(20 * time.Millisecond)
	deadline := time.Now().Add(20 * time.Second)
	for left := leftovers(); code == 0 && left != ""; left = leftovers() {
		if <-poll.C; time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left at the end:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftovers returns the stacks of the goroutines that should have ended, but the caller's.
func leftovers() string {
	buf := make([]byte, 4<<20)
	var left []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
		for _, module := range []string{"starling-go/starling", "hashicorp/memberlist", "prometheus/alertmanager"} {
			if strings.Contains(stack, module) {
				left = append(left, stack)
				break
			}
		}
	}
	return strings.Join(left, "\n\n")
}
