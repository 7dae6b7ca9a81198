package starling

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// seeded returns a source of randomness that is new each time. Its seed is in
// the log of a failed test; STARLING_SEED replays it.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("STARLING_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("STARLING_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
