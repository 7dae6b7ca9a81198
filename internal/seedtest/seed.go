// Package seedtest gives tests seeds that a failure can be repeated by, and lets the environment make them larger.
package seedtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// New returns a seed that is new each time. It is in the log of a failed
// test; STARLING_SEED replays it.
func New(tb testing.TB) uint64 {
	tb.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("STARLING_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("STARLING_SEED=%d", seed)
	return seed
}

// Rand returns a source of randomness with a new seed.
func Rand(tb testing.TB) *rand.Rand {
	tb.Helper()
	return rand.New(rand.NewPCG(New(tb), 0))
}

// Number returns the number in a variable of the environment, or what is usual.
func Number(tb testing.TB, variable string, usual int) int {
	tb.Helper()
	text, ok := os.LookupEnv(variable)
	if !ok {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s is %q: not a number above 0", variable, text)
	}
	return n
}

// Scripts returns how many random scripts a test plays: STARLING_SCRIPTS, or what is usual, and a third of that under the race detector, where
// each takes six times as long.
func Scripts(tb testing.TB, usual int) int {
	tb.Helper()
	if raced {
		usual = (usual + 2) / 3
	}
	return Number(tb, "STARLING_SCRIPTS", usual)
}
