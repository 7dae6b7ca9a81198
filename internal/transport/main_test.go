package transport

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run when a goroutine is left in a transport at the end.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(giveItTime)
	for left := transportGoroutines(); code == 0 && len(left) > 0; left = transportGoroutines() {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left at the end:\n\n%s\n", strings.Join(left, "\n\n"))
			code = 1
		}
		time.Sleep(20 * time.Millisecond)
	}
	os.Exit(code)
}

// methodsOf returns how a stack names a method of *T, up to the method's own name. It follows T when that is renamed or moved.
func methodsOf[T any]() string {
	t := reflect.TypeFor[T]()
	return fmt.Sprintf("%s.(*%s).", t.PkgPath(), t.Name())
}

// goroutinesIn returns the stacks of the goroutines that contain one of the texts, but the caller's.
func goroutinesIn(texts ...string) []string {
	buf := make([]byte, 4<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] // the first is the caller's
	return slices.DeleteFunc(stacks, func(stack string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(stack, text) })
	})
}

// transportGoroutines returns the stacks of the goroutines that run a method of this package's types.
func transportGoroutines() []string {
	return goroutinesIn(methodsOf[Transport](), methodsOf[wrapped](), methodsOf[sockets](), methodsOf[StreamQueues](),
		methodsOf[secure](), methodsOf[link](), methodsOf[linkConn]())
}

// noTransportGoroutines fails if goroutines stay inside a transport. It waits a while, because memberlist's Shutdown does not
// wait for those of its goroutines that call one.
func noTransportGoroutines(tb testing.TB) {
	tb.Helper()
	waitUntil(tb, "goroutines leave the transport", func() bool { return len(transportGoroutines()) == 0 })
}

// TestGoroutinesAreSeen: noTransportGoroutines sees the goroutines of each kind of transport, so that it can fail.
func TestGoroutinesAreSeen(t *testing.T) {
	for _, kind := range []struct {
		open  func() *Transport
		loops []string
	}{
		{
			func() *Transport { return testListen(t, Options{}) },
			[]string{methodsOf[Transport]() + "readPackets", methodsOf[Transport]() + "acceptStreams"},
		},
		{
			func() *Transport { return Wrap(newPlain(), Options{}) },
			[]string{methodsOf[wrapped]() + "pumpPackets", methodsOf[wrapped]() + "pumpStreams"},
		},
	} {
		tr := kind.open()
		for _, loop := range kind.loops {
			waitUntil(t, loop+" runs", func() bool { return len(goroutinesIn(loop)) == 1 })
		}
		if n := len(transportGoroutines()); n != 2 {
			t.Errorf("%d goroutines are seen in a transport that has two", n)
		}
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		noTransportGoroutines(t)
	}
}
