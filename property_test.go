package starling

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/script"
)

// simulate plays a script on bare replicas.
func simulate(s script.Script) (digest uint64, err error) {
	m := script.NewModel(s)
	sim := newSimulation(s, m)
	err = script.Play(s, sim, m)
	return sim.digest, err
}

// scripts is how many random scripts a test plays: STARLING_SCRIPTS, or so many.
func scripts(tb testing.TB, usual int) int {
	if text, ok := os.LookupEnv("STARLING_SCRIPTS"); ok {
		n, err := strconv.Atoi(text)
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	return usual
}

// TestScripts plays random scripts on bare replicas and holds what happens against the contract: everyone, once, never
// silently less, in order. It reports the seed of the script that fails, and the shortest script that it can find.
func TestScripts(t *testing.T) {
	first := newSeed(t)
	n := scripts(t, 200)
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				playRandom(t, first+uint64(i))
			}
		})
	}
	wg.Wait()
	t.Logf("%d scripts, %.0f per second", n, float64(n)/time.Since(start).Seconds())
}

func playRandom(t *testing.T, seed uint64) {
	s := script.Generate(rand.New(rand.NewPCG(seed, 0)))
	if _, err := simulate(s); err == nil {
		return
	}
	s = script.Shrink(s, func(s script.Script) bool {
		_, err := simulate(s)
		return err != nil
	}, 1000)
	_, err := simulate(s)
	t.Errorf("script of seed %d, shortened:\n%v\n%v", seed, s, err)
}

// TestScriptsRepeat plays scripts twice: a run that cannot be repeated cannot be shortened.
func TestScriptsRepeat(t *testing.T) {
	first := newSeed(t)
	for i := range uint64(scripts(t, 15)) {
		s := script.Generate(rand.New(rand.NewPCG(first+i, 0)))
		once, _ := simulate(s)
		if again, _ := simulate(s); once != again {
			t.Errorf("seed %d: two runs of one script differ:\n%v", first+i, s)
		}
	}
}

// once are scripts that failed once, by the fix that they called for.
var once = map[string]string{
	"01": "members 2; seed 12604975712744950376; send 0 plain 20 x1; mute 0 all; wait 14s",
	"02": "members 4; seed 4969574580953318074; crash 0; start 0; send 0 plain 20 x1",
	"03": "members 2; seed 5202538410835403327; cut 0; send 0 plain 20 x1; wait 14s",
	"04": "members 5; seed 14185069811385859529; keep 10222; send 1 plain 20 x1; cut 4; wait 594ms; send 0 plain 2048 x6",
	"06": "members 6; seed 10007923047070741055; mute 5 all; send 1 plain 20 x1; cut 0; wait 24s",
	"07": "members 5; seed 5047416168050549815; send 4 plain 1024 x4; cut 0,1,3,4; wait 701ms; cut 2,3; wait 44.5s; send 0 plain 20 x1",
	"10": "members 2; seed 9823897597679405694; retain 15s; cut 0,1,2; start 2; send 2 plain 20 x1; heal; wait 350ms; cut 0,2; wait 13s",
	"11": "members 4; seed 15719695831100417027; retain 15s; keep 11693; cut 0,3; send 0 plain 2048 x8; wait 850ms; cut 0; wait 953ms; wait 13s; wait 1s",
	"09": "members 4; seed 3587361425262127817; send 2 plain 706 x3; wait 36.4s; send 2 plain 20 x1; wait 98ms; wait 39.4s; " +
		"send 1 stream 605 x14; send 2 stream 134 x1; wait 92ms; start 4; send 1 stream 669 x1; crash 1; wait 1s",
}

func TestScriptsThatFailed(t *testing.T) {
	for name, text := range once {
		t.Run(name, func(t *testing.T) {
			s, err := script.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			// Its own seed, and others: what a seed draws changes with the code.
			for seed := range uint64(5) {
				if _, err := simulate(s); err != nil {
					t.Fatalf("%v\n%v", s, err)
				}
				s.Seed = seed
			}
		})
	}
}
