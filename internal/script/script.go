// Package script holds short scripts of broadcasts and faults, and the model that says what a cluster owes its members while
// one is played. A script runs in any World: on bare replicas in an event loop, or on whole clusters in virtual time.
package script

import "time"

// A Script is what happens to a cluster. Steps that make no sense (a broadcast by a member that is down, say) do nothing, so
// any part of a script is a script.
type Script struct {
	Members int           // that are there from the start, numbered from 0
	Seed    uint64        // of all that the world draws: the fate of packets, the delay of failure detection
	Retain  time.Duration // Retention.Age
	Keep    int           // Retention.Bytes; 0: more than any script needs
	Steps   []Step
}

// Verb is what a step does.
type Verb string

// The verbs, with the fields of Step that they use.
const (
	Wait  Verb = "wait"  // For
	Send  Verb = "send"  // Member broadcasts Count messages of Size bytes on Channel
	Loss  Verb = "loss"  // Rate of all packets, from now on
	Cut   Verb = "cut"   // Group is cut off from all others; it replaces an earlier cut
	Heal  Verb = "heal"  // ends the cut
	Mute  Verb = "mute"  // no packet passes between Member and Other, or anybody if Other is Everybody; streams do
	Clear Verb = "clear" // ends every mute
	Crash Verb = "crash" // Member
	Start Verb = "start" // Member, which is down or new
	Stall Verb = "stall" // Member's handler of Channel takes For over its next message
)

// Everybody is a Step.Other.
const Everybody = -1

// MaxMembers bounds the numbers of members.
const MaxMembers = 8

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
	Group   []int
}

// Channel is how a channel is opened.
type Channel struct {
	Key    string
	FIFO   bool
	Stream bool // every message goes by stream
	Even   bool // only members with an even number have it open
}

// Channels are those that every script has.
var Channels = [...]Channel{{Key: "plain"}, {Key: "fifo", FIFO: true}, {Key: "stream", FIFO: true, Stream: true}, {Key: "even", Even: true}}

// OpenOn reports whether a member has the channel open.
func (c Channel) OpenOn(member int) bool { return !c.Even || member%2 == 0 }

// World is what a script is played in. It tells the model who is up, who sees whom, what is handled and what is lost.
type World interface {
	Now() time.Duration // since the beginning
	Wait(time.Duration)
	Broadcast(member, channel int, data []byte) bool // false: not accepted
	Loss(rate float64)
	Cut(group []int) // nil: nobody is cut off
	Mute(a, b int)   // b may be Everybody
	Clear()
	Crash(member int)
	Start(member int)
	Stall(member, channel int, d time.Duration)
	Settled() time.Duration // how long the world takes at most until all see each other again
}

// Play plays a script, puts everything right at its end, and returns what the cluster did wrong.
func Play(s Script, w World, m *Model) error {
	for i := range min(s.Members, MaxMembers) {
		w.Start(i)
	}
	w.Wait(s.Retain / 10)
	for _, step := range s.Steps {
		step.play(w, m)
	}
	w.Loss(0)
	w.Clear()
	Step{Verb: Heal}.play(w, m)
	// A hole may be known only when all see each other again; it is a gap one retention later.
	w.Wait(w.Settled() + 2*s.Retain + 2*m.settle())
	return m.Finish(w.Now())
}

func (s Step) play(w World, m *Model) {
	if s.Member < 0 || s.Member >= MaxMembers {
		return
	}
	switch s.Verb {
	case Wait:
		w.Wait(s.For)
	case Send:
		for range s.Count {
			m.broadcast(w, s.Member, s.Channel, s.Size)
		}
	case Loss:
		m.roughen()
		w.Loss(s.Rate)
	case Cut:
		m.cut(s.Group, w.Now())
		w.Cut(s.Group)
	case Heal:
		m.cut(nil, w.Now())
		w.Cut(nil)
	case Mute:
		if s.Member != s.Other {
			m.roughen()
			w.Mute(s.Member, s.Other)
		}
	case Clear:
		w.Clear()
	case Crash:
		w.Crash(s.Member)
	case Start:
		w.Start(s.Member)
	case Stall:
		m.stall(s.Member, s.Channel, s.For)
		w.Stall(s.Member, s.Channel, s.For)
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
