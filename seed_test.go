package starling

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// newSeed returns a seed that is new each time. It is in the log of a failed
// test; STARLING_SEED replays it.
func newSeed(tb testing.TB) uint64 {
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

// seeded returns a source of randomness with a new seed.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	return rand.New(rand.NewPCG(newSeed(tb), 0))
}
