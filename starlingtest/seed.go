package starlingtest

import (
	"math/rand/v2"
	"os"
	"strconv"
)

// SeedVariable is the environment variable that makes [Seed] return a given seed, to repeat a failed run.
const SeedVariable = "STARLINGTEST_SEED"

// TB is the part of testing.TB that [Seed] needs.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Seed returns a new random seed for [NewNetwork], and prints it at the end of the test if the test has failed. If the
// environment sets [SeedVariable] to a number, that is the seed; if to anything else, the test fails at once.
func Seed(t TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text, ok := os.LookupEnv(SeedVariable); ok {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("starlingtest: %s is %q: not a seed", SeedVariable, text)
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
