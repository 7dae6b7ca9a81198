package starlingtest

import (
	"math/rand/v2"
	"os"
	"strconv"
)

// SeedVariable is the environment variable that makes [Seed] return a given seed, in decimal digits, to repeat the faults of a
// failed run.
const SeedVariable = "STARLINGTEST_SEED"

// TB is the part of testing.TB that [Seed] and [NewLab] need.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Seed returns a new random seed for [NewNetwork], and prints it at the end of the test if the test has failed. If the
// environment sets [SeedVariable] to a number below 2^64, that is the seed; if it sets it to anything else, t fails at once. Call
// it on the test's own goroutine.
func Seed(t TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text, ok := os.LookupEnv(SeedVariable); ok {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("starlingtest: %s is %q: want decimal digits, a number below 2^64", SeedVariable, text)
		}
		seed = given
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("starlingtest: to repeat the faults of this run: %s=%d", SeedVariable, seed)
		}
	})
	return seed
}
