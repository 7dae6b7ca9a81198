// Package script holds short scripts of broadcasts and faults, and the model that says what a cluster owes its members while
// one is played. A script runs in any World: on bare replicas in an event loop, or on whole clusters in virtual time.
package script

import (
	"slices"
	"time"
)

// A Script is what happens to a cluster. Steps that make no sense (a broadcast by a member that is down, say) do nothing, so
// any part of a script is a script.
type Script struct {
	Members int           // that are there from the start, numbered from 0
	Seed    uint64        // of all that the world draws: what becomes of packets, how long a failure takes to be detected
	Retain  time.Duration // Retention.Age
	Keep    int           // Retention.Bytes; 0: more than any script needs
	Small   []int         // members that take no message of more than SmallMessage bytes, nor broadcast one
	Steps   []Step
}

// SmallMessage is MaxMessageSize of the members in Small.
const SmallMessage = 4 << 10

// MessageLimit returns the size of the largest message that a member takes.
func (s Script) MessageLimit(member int) int {
	if slices.Contains(s.Small, member) {
		return SmallMessage
	}
	return 1 << 20
}

// Verb is what a step does.
type Verb string

// The verbs, with the fields of Step that they use.
const (
	Wait    Verb = "wait"    // For
	Send    Verb = "send"    // Member broadcasts Count messages of Size bytes on Channel
	Confirm Verb = "confirm" // the same, and Member asks of each who has handled it
	Direct  Verb = "direct"  // Member sends Count messages of Size bytes to the run of Other that it sees
	Loss    Verb = "loss"    // Rate of all packets, from now on
	Narrow  Verb = "narrow"  // no link carries more than Size bytes a second, from now on; 0: as many as come
	Cut     Verb = "cut"     // each of Groups is cut off from the others, and from who is in none; it replaces an earlier cut
	Heal    Verb = "heal"    // ends the cut
	Mute    Verb = "mute"    // no packet passes between Member and Other, or anybody if Other is Everybody; streams do
	Block   Verb = "block"   // nothing passes from Member to Other
	Clear   Verb = "clear"   // ends every mute and every block
	Freeze  Verb = "freeze"  // Member's process stands still For
	Flap    Verb = "flap"    // Member takes Other for failed For, and nobody else does
	Crash   Verb = "crash"   // Member
	Leave   Verb = "leave"   // Member, politely
	Start   Verb = "start"   // Member, which is down or new
	Stall   Verb = "stall"   // Member's handler of Channel takes For over its next message
)

// Everybody is a Step.Other.
const Everybody = -1

// MaxMembers bounds the numbers of members.
const MaxMembers = 40

// Step is one line of a script.
type Step struct {
	Verb    Verb
	Member  int
	Other   int
	Channel int
	Count   int
	Size    int
	For     time.Duration
	Rate    float64
	Groups  [][]int
}

// Channel is how a channel is opened.
type Channel struct {
	Key    string
	FIFO   bool
	Stream bool // every message goes by stream
	Even   bool // only members with an even number have it open
	State  bool // members give each other all that they have, by a snapshot
	Latest bool // a message supersedes the one before it of the same name that has not left
}

// Channels are those that every script has.
var Channels = [...]Channel{
	{Key: "plain"}, {Key: "fifo", FIFO: true}, {Key: "stream", FIFO: true, Stream: true}, {Key: "even", Even: true},
	{Key: "latest", FIFO: true, Latest: true}, {Key: "state", State: true},
}

// DirectChannel is the channel that Direct sends on: every member has it open.
const DirectChannel = 0

// OpenOn reports whether a member has the channel open.
func (c Channel) OpenOn(member int) bool { return !c.Even || member%2 == 0 }

// Name returns what the n-th message of a member is superseded by, "" for nothing.
func (c Channel) Name(n uint64) string {
	if !c.Latest {
		return ""
	}
	return "ab"[n%2:][:1]
}

// World is what a script is played in. It tells the model who is up, who sees whom, what is handled and what is lost.
type World interface {
	Now() time.Duration // since the beginning
	Wait(time.Duration)
	Broadcast(member, channel int, name string, data []byte) Accepted
	// Confirm broadcasts too, and tells the model how asking who has handled the message ends.
	Confirm(member, channel int, name string, data []byte, confirmed func(error)) Accepted
	// Direct sends to one run, and tells the model how that ends, after patience at the latest.
	Direct(member, other int, run uint64, data []byte, patience time.Duration, sent func(error))
	Loss(rate float64)
	Narrow(bandwidth int)
	Cut(groups [][]int) // nil: nobody is cut off
	Mute(a, b int)      // b may be Everybody
	Block(a, b int)
	Clear()
	Freeze(member int, d time.Duration)
	Flap(member, other int, d time.Duration)
	Crash(member int)
	Leave(member int)
	Start(member int)
	Stall(member, channel int, d time.Duration)
	// Span returns the seqs of the first and the last part of a message of a process, by the number that it carries; 0, 0 if it has
	// not left.
	Span(process, number uint64) (first, last uint64)
	Settled() time.Duration // how long the world takes at most until all see each other again
}

// Accepted is what becomes of a message that is to be broadcast.
type Accepted int

const (
	Refused    Accepted = iota
	Taken               // it has a seq of its own
	Superseded          // the newest one of its name that was accepted before never leaves
)

// Play plays a script, puts everything right at its end, and returns what the cluster did wrong.
func Play(s Script, w World, m *Model) error {
	m.world = w
	for i := range min(s.Members, MaxMembers) {
		w.Start(i)
	}
	w.Wait(s.Retain / 10)
	for _, step := range s.Steps {
		step.play(w, m)
	}
	for _, verb := range []Verb{Loss, Narrow, Clear, Heal} {
		Step{Verb: verb}.play(w, m)
	}
	w.Wait(max(m.thawsAt()-w.Now(), 0))
	// A hole may be known only when all see each other again; it is a gap one retention later.
	w.Wait(w.Settled() + 2*s.Retain + 2*m.settle())
	for waited := time.Duration(0); waited < equalAfter && !m.States.equal(); waited += time.Second {
		w.Wait(time.Second)
	}
	return m.Finish(w.Now())
}

// equalAfter is how long states may take to be equal: the longest pause between two comparisons, that between two questions, and more.
const equalAfter = 3 * time.Minute

func (s Step) play(w World, m *Model) {
	if s.Member < 0 || s.Member >= MaxMembers {
		return
	}
	now := w.Now()
	switch s.Verb {
	case Wait:
		w.Wait(s.For)
	case Send, Confirm:
		for range s.Count {
			m.broadcast(w, s.Member, s.Channel, s.Size, s.Verb == Confirm)
		}
	case Direct:
		for range s.Count {
			m.directs.send(w, s.Member, s.Other, s.Size)
		}
	case Loss:
		if s.Rate > 0 {
			m.note((*troubles).roughen)
		}
		w.Loss(s.Rate)
	case Narrow:
		m.change(now, func(t *troubles) { t.rough = t.rough || s.Size > 0 })
		w.Narrow(s.Size)
	case Cut:
		m.change(now, func(t *troubles) { t.cut(s.Groups) })
		w.Cut(s.Groups)
	case Heal:
		m.change(now, func(t *troubles) { t.cut(nil) })
		w.Cut(nil)
	case Stall:
		m.note(func(t *troubles) { t.stalls[[2]int{s.Member, s.Channel}] += s.For })
		w.Stall(s.Member, s.Channel, s.For)
	case Clear:
		m.change(now, func(t *troubles) { clear(t.blocked) })
		w.Clear()
	default:
		s.playOnMember(w, m, now)
	}
}

// playOnMember plays a step that happens to one member, or between two.
func (s Step) playOnMember(w World, m *Model, now time.Duration) {
	switch s.Verb {
	case Mute:
		if s.Member != s.Other {
			m.note((*troubles).roughen)
			w.Mute(s.Member, s.Other)
		}
	case Block:
		if s.Member != s.Other {
			m.change(now, func(t *troubles) { t.block(s.Member, s.Other) })
			w.Block(s.Member, s.Other)
		}
	case Freeze:
		m.Frozen(s.Member, s.For, now)
		w.Freeze(s.Member, s.For)
	case Flap:
		if s.Member != s.Other {
			m.note((*troubles).roughen)
			w.Flap(s.Member, s.Other, s.For)
		}
	case Crash:
		w.Crash(s.Member)
	case Leave:
		w.Leave(s.Member)
	case Start:
		w.Start(s.Member)
	}
}

// Stretch returns the script with all times multiplied.
func (s Script) Stretch(by int) Script {
	s.Retain *= time.Duration(by)
	steps := make([]Step, len(s.Steps))
	for i, step := range s.Steps {
		step.For *= time.Duration(by)
		steps[i] = step
	}
	s.Steps = steps
	return s
}
