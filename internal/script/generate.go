package script

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Generate draws a script: most clusters are small, one in sixteen has up to MaxMembers.
func Generate(rng *rand.Rand) Script {
	s := Script{Members: 2 + rng.IntN(5), Seed: rng.Uint64(), Retain: 15 * time.Second}
	steps := 3 + rng.IntN(12)
	if rng.IntN(16) == 0 {
		s.Members, steps = 7+rng.IntN(MaxMembers-7), 3+rng.IntN(5)
	}
	switch rng.IntN(6) {
	case 0:
		s.Keep = 4<<10 + rng.IntN(60<<10)
	case 1:
		for i := range s.Members + 1 {
			if rng.IntN(3) == 0 && i < MaxMembers {
				s.Small = append(s.Small, i)
			}
		}
	}
	g := generator{rng: rng, s: &s}
	for range steps {
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

// other draws a member that is not m.
func (g *generator) other(m int) int {
	for {
		if o := g.member(); o != m {
			return o
		}
	}
}

// step draws a step; almost half of them are broadcasts, and each fault may come with one right before or after it.
func (g *generator) step() {
	m := g.member()
	switch g.rng.IntN(26) {
	case 0:
		g.add(Step{Verb: Loss, Rate: float64(g.rng.IntN(31)) / 100})
	case 1, 2:
		g.cut()
	case 3:
		g.add(Step{Verb: Heal})
	case 4:
		other := Everybody
		if g.rng.IntN(2) == 0 {
			other = g.other(m)
		}
		g.add(Step{Verb: Mute, Member: m, Other: other})
	case 5:
		g.add(Step{Verb: Clear})
	case 6:
		g.add(Step{Verb: Crash, Member: m})
	case 7, 8:
		g.start(m)
	case 9:
		g.add(Step{Verb: Stall, Member: m, Channel: g.channel(), For: g.duration(g.s.Retain / 2)})
	case 10:
		g.add(Step{Verb: Freeze, Member: m, For: g.duration(3 * g.s.Retain / 2)})
	case 11, 12:
		longest := g.s.Retain / 2
		if g.rng.IntN(4) == 0 {
			longest = 2 * g.s.Retain // while one of two has long met the other
		}
		g.add(Step{Verb: Flap, Member: m, Other: g.other(m), For: g.duration(longest)})
	case 13:
		g.block(m)
	case 14:
		g.add(Step{Verb: Leave, Member: m})
	case 15, 16:
		g.direct(m)
	case 17:
		g.add(Step{Verb: Narrow, Size: 1 << 20 << g.rng.IntN(4)})
	case 18:
		g.send(Confirm)
	default:
		g.send(Send)
	}
}

// start lets a member come, and sometimes broadcast at once.
func (g *generator) start(m int) {
	g.add(Step{Verb: Start, Member: m})
	if g.rng.IntN(2) == 0 {
		g.add(Step{Verb: Send, Member: m, Channel: g.channel(), Size: MinSize, Count: 1 + g.rng.IntN(4)})
	}
}

// direct lets a member send to another one alone, now and then so much that it travels in pieces.
func (g *generator) direct(m int) {
	s := Step{Verb: Direct, Member: m, Other: g.other(m), Size: MinSize + g.rng.IntN(2000), Count: 1 + g.rng.IntN(6)}
	if g.rng.IntN(4) == 0 {
		s.Size, s.Count = 500_000+g.rng.IntN(400_000), 1+g.rng.IntN(2)
		if g.s.Keep > 0 {
			s.Size = min(s.Size, g.s.Keep/2)
		}
	}
	g.add(s)
}

// block lets nothing pass from one member to another, and half the time back.
func (g *generator) block(m int) {
	other := g.other(m)
	g.add(Step{Verb: Block, Member: m, Other: other})
	if g.rng.IntN(2) == 0 {
		g.add(Step{Verb: Block, Member: other, Other: m})
	}
}

// cut divides the members into two sides, or three.
func (g *generator) cut() {
	groups := make([][]int, 1+g.rng.IntN(3)/2)
	for i := range min(g.s.Members+1, MaxMembers) {
		if side := g.rng.IntN(len(groups) + 1); side > 0 {
			groups[side-1] = append(groups[side-1], i)
		}
	}
	groups = slices.DeleteFunc(groups, func(g []int) bool { return len(g) == 0 })
	if len(groups) == 0 {
		groups = [][]int{{g.rng.IntN(g.s.Members)}}
	}
	g.add(Step{Verb: Cut, Groups: groups})
}

func (g *generator) send(verb Verb) {
	sizes := [...]int{MinSize + g.rng.IntN(200), MinSize + g.rng.IntN(200), 600 + g.rng.IntN(120), 1 << 10 << g.rng.IntN(7)}
	s := Step{Verb: verb, Member: g.member(), Channel: g.channel(), Size: sizes[g.rng.IntN(len(sizes))], Count: 1 + g.rng.IntN(4)}
	if verb == Send && g.rng.IntN(3) == 0 {
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
