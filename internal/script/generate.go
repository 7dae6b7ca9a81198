package script

import (
	"math/rand/v2"
	"time"
)

// Generate draws a script.
func Generate(rng *rand.Rand) Script {
	s := Script{Members: 2 + rng.IntN(5), Seed: rng.Uint64(), Retain: 15 * time.Second}
	if rng.IntN(6) == 0 {
		s.Keep = 4<<10 + rng.IntN(60<<10)
	}
	g := generator{rng: rng, s: &s}
	for range 3 + rng.IntN(12) {
		g.step()
		if rng.IntN(2) == 0 {
			g.wait()
		}
	}
	return s
}

type generator struct {
	rng *rand.Rand
	s   *Script
}

func (g *generator) add(s Step) { g.s.Steps = append(g.s.Steps, s) }

func (g *generator) member() int  { return g.rng.IntN(min(g.s.Members+1, MaxMembers)) }
func (g *generator) channel() int { return g.rng.IntN(len(Channels)) }

// step draws a step; half of them are broadcasts, and each fault may come with one right before or after it.
func (g *generator) step() {
	switch g.rng.IntN(16) {
	case 0:
		g.add(Step{Verb: Loss, Rate: float64(g.rng.IntN(31)) / 100})
	case 1, 2:
		g.cut()
	case 3:
		g.add(Step{Verb: Heal})
	case 4:
		other := g.member()
		if g.rng.IntN(2) == 0 {
			other = Everybody
		}
		g.add(Step{Verb: Mute, Member: g.member(), Other: other})
	case 5:
		g.add(Step{Verb: Clear})
	case 6:
		g.add(Step{Verb: Crash, Member: g.member()})
	case 7, 8:
		g.add(Step{Verb: Start, Member: g.member()})
	case 9:
		g.add(Step{Verb: Stall, Member: g.member(), Channel: g.channel(), For: g.duration(g.s.Retain / 2)})
	default:
		g.send()
	}
}

func (g *generator) cut() {
	var group []int
	for i := range g.s.Members + 1 {
		if g.rng.IntN(2) == 0 && i < MaxMembers {
			group = append(group, i)
		}
	}
	if len(group) == 0 {
		group = []int{g.rng.IntN(g.s.Members)}
	}
	g.add(Step{Verb: Cut, Group: group})
}

func (g *generator) send() {
	sizes := [...]int{MinSize + g.rng.IntN(200), MinSize + g.rng.IntN(200), 600 + g.rng.IntN(120), 1 << 10 << g.rng.IntN(6)}
	s := Step{Verb: Send, Member: g.member(), Channel: g.channel(), Size: sizes[g.rng.IntN(len(sizes))], Count: 1 + g.rng.IntN(4)}
	if g.rng.IntN(3) == 0 {
		s.Count += g.rng.IntN(30)
	}
	if g.s.Keep > 0 {
		s.Size = min(s.Size, g.s.Keep/2) // a configuration that allows more is refused
	}
	g.add(s)
}

// wait draws a time to wait: mostly short, now and then beyond retention.
func (g *generator) wait() {
	switch g.rng.IntN(8) {
	case 0:
		g.add(Step{Verb: Wait, For: g.s.Retain + g.duration(2*g.s.Retain)})
	case 1, 2:
		g.add(Step{Verb: Wait, For: g.duration(g.s.Retain)})
	case 3, 4:
		g.add(Step{Verb: Wait, For: g.duration(3 * time.Second)})
	default:
		g.add(Step{Verb: Wait, For: g.duration(100 * time.Millisecond)})
	}
}

func (g *generator) duration(most time.Duration) time.Duration {
	grain := time.Millisecond
	if most > 10*time.Second {
		grain = 100 * time.Millisecond
	}
	return time.Duration(1+g.rng.Int64N(int64(most/grain))) * grain
}
