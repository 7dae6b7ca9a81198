package replica

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/internal/seedtest"
)

// simulate plays a script on bare replicas.
func simulate(s script.Script) (digest uint64, err error) {
	m := script.NewModel(s)
	sim := newSimulation(s, m)
	err = script.Play(s, sim, m)
	return sim.digest, err
}

// TestScriptsOfFuture plays random scripts among members that get every frame as one of a later version would send it: with fields that
// they do not know, which they pass on.
func TestScriptsOfFuture(t *testing.T) {
	first := seedtest.New(t)
	for seed := first; seed < first+uint64(seedtest.Scripts(t, 8)); seed++ {
		s := script.Generate(rand.New(rand.NewPCG(seed, 0)))
		m := script.NewModel(s)
		sim := newSimulation(s, m)
		sim.later = rand.New(rand.NewPCG(seed, 2))
		if err := script.Play(s, sim, m); err != nil {
			t.Errorf("script of seed %d:\n%v\n%v", seed, s, err)
		}
	}
}

// TestScripts plays random scripts on bare replicas and holds what happens against the contract: everyone, once, never
// silently less, in order. It reports the seed of the script that fails, and the shortest script that it can find.
func TestScripts(t *testing.T) {
	first := seedtest.New(t)
	n := seedtest.Scripts(t, 100)
	start := time.Now()
	var next, played, failed atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() < failuresShown; i = next.Add(1) - 1 {
				if !playRandom(t, first+uint64(i)) {
					failed.Add(1)
				}
				played.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d scripts, %.0f per second", played.Load(), float64(played.Load())/time.Since(start).Seconds())
}

// failuresShown is after how many failed scripts TestScripts ends: more would hardly tell more.
const failuresShown = 5

// playRandom plays the script of a seed, and reports whether all was right.
func playRandom(t *testing.T, seed uint64) (right bool) {
	s := script.Generate(rand.New(rand.NewPCG(seed, 0)))
	if _, err := simulate(s); err == nil {
		return true
	}
	s = script.Shrink(s, func(s script.Script) bool {
		_, err := simulate(s)
		return err != nil
	}, 1000)
	_, err := simulate(s)
	t.Errorf("script of seed %d, shortened:\n%v\n%v", seed, s, err)
	return false
}

// TestScriptsRepeat plays scripts twice: a run that cannot be repeated cannot be shortened.
func TestScriptsRepeat(t *testing.T) {
	first := seedtest.New(t)
	for i := range uint64(seedtest.Scripts(t, 15)) {
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
	"12": "members 3; seed 10838701666060073690; small 2,3; send 1 plain 8192 x1",
	"13": "members 2; seed 10148752510009748813; mute 0 all; direct 0 1 20 x1; wait 7s",
	"14": "members 5; seed 14801738221824053897; cut 1; send 4 plain 20 x1; leave 4; wait 18.5s",
	"15": "members 3; seed 6074996001640751601; cut 2; wait 25s; send 0 plain 20 x1; leave 0; wait 18s",
	"16": "members 2; seed 6696208001849928427; block 1 0; send 1 plain 20 x1; wait 17s",
	"19": "members 5; seed 10565624279053150074; retain 15s; freeze 0 22.1s; block 1 0; wait 2.9s; send 4 plain 1024 x5; " +
		"send 2 stream 20 x1; wait 14.2s; send 4 plain 203 x2; send 1 plain 20 x1; cut 3; loss 0.3; wait 14.8s",
	"20": "members 3; seed 10055715018318505950; retain 15s; send 0 plain 1024 x13; block 1 0; loss 0.15; wait 19s",
	"21": "members 5; seed 3539500113168918585; retain 15s; keep 10254; wait 10.05s; send 2 plain 20 x1; cut 3; leave 2; wait 53ms; " +
		"send 4 plain 5127 x2; wait 2s",
	"26": "members 6; seed 3744752346240365852; retain 15s; confirm 2 state 20 x2; stall 4 state 612ms",
	"22": "members 2; seed 7628979666153528452; retain 15s; send 1 plain 20 x1; wait 950ms; send 1 plain 32768 x1; block 1 0; wait 14.7s",
	"23": "members 2; seed 3812943720251119692; retain 15s; block 1 0; start 2; send 0 plain 1024 x1; wait 20s",
	"24": "members 4; seed 15752075577311359596; retain 15s; send 0 plain 32768 x1; flap 3 0 975ms; cut 1,2; wait 20s",
	"25": "members 6; seed 9109907040207015362; retain 15s; small 3; send 2 state 65536 x22; wait 53ms; freeze 0 18s; wait 1s",
	"18": "members 3; seed 11131194784894723148; retain 15s; cut 1|0,3; send 2 plain 646 x3; wait 80ms; start 4; leave 2; wait 2.875s",
	"17": "members 5; seed 1011245236258049019; mute 4 all; send 2 plain 690 x4; send 0 plain 170 x17; wait 14s; start 5; send 0 plain 687 x1; " +
		"leave 0; wait 736ms",
	"27": "members 5; seed 3486380946884781602; retain 15s; small 0,1,2,5; block 4 3; send 3 plain 8192 x1; wait 24s",
	"28": "members 3; seed 9244283479151190110; retain 15s; keep 48566; cut 0,1; send 2 plain 60 x17; wait 11s; start 3; send 3 plain 20 x1; wait 1s; " +
		"leave 2; flap 0 3 1.836s",
	"29": "members 3; seed 1; retain 15s; keep 48566; cut 0,1; send 2 plain 60 x17; wait 11s; start 3; flap 0 3 22s; flap 1 3 22s; wait 1s; leave 2; heal; wait 30s",
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
