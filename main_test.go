package starling_test

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
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
func leftovers(limit time.Duration) string {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(limit); ; <-poll.C {
		left := ourGoroutines()
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// ourModule and memberlistModule are what the names of all functions of these packages, and of those below them, begin with.
var (
	ourModule        = reflect.TypeFor[starling.Cluster]().PkgPath()
	memberlistModule = reflect.TypeFor[memberlist.Memberlist]().PkgPath()
)

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
		ours := strings.Contains(stack, ourModule) || strings.Contains(stack, memberlistModule)
		if ours && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// TestGoroutinesAreSeen: ourGoroutines sees those of a member that runs: the cluster's own, those of internal packages, and
// memberlist's. So TestMain and TestCloseEndsGoroutines can fail.
func TestGoroutinesAreSeen(t *testing.T) {
	start(t, config(t, "a"))
	for _, function := range []string{
		ourModule + ".(*maintenance).", ourModule + "/internal/transport.(*Transport).", memberlistModule + ".(*Memberlist).",
	} {
		eventually(t, function+" runs", func() bool { return strings.Contains(ourGoroutines(), function) })
	}
}
