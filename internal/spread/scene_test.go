package spread

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// scene is the root of a batch, and one hop of it that is looked at: to the head of a slice of three members, steps 1 to 3
// after the root, or of a slice of one. The head does what the script says, and all other members answer at once.
type scene struct {
	*testing.T
	*testNet
	s     *Spread
	hop   *Hop // the one that is looked at
	other *Hop // of another batch, to the same member
}

// newScene follows a script of words.
func newScene(t *testing.T, script string) *scene {
	n := 25 // eight slices of three
	script, alone := strings.CutPrefix(script, "alone ")
	if alone {
		n = 9
	}
	c := &scene{T: t, testNet: newTestNet(n, nil)}
	c.s = c.root()
	for _, word := range strings.Fields(script) {
		c.do(word)
	}
	return c
}

func (c *scene) do(word string) {
	switch word {
	case "start": // the batch that is looked at
		c.hop = c.open()
	case "other": // another batch, so that the head has two hops
		c.other = c.open()
	case "answered": // the other batch, by the head
		c.s.Report(c.other.To.ID, honest(c.other), c.now)
	case "heard": // something else from the head
		c.s.Report(c.hop.To.ID, wire.Report{ID: wire.BatchID{Root: 7, N: 7}}, c.now)
	case "held":
		c.let(reportHeld)
	case "differs":
		c.let(reportDiffers)
	case "silence":
		c.now = c.now.Add(max(silentMin, heldMost))
	case "a", "h":
		for range 1000 {
			if stateLetters[c.hop.state] == word {
				return
			}
			c.s.timeout(c.nextDue(), c.now)
			c.answerOthers()
		}
		c.Fatalf("the hop stays in state %s", stateLetters[c.hop.state])
	default:
		c.Fatalf("%q means nothing", word)
	}
}

// open starts a batch, and returns the hop to the head.
func (c *scene) open() *Hop {
	c.now = c.now.Add(time.Millisecond)
	b := c.startBatch()
	c.answerOthers()
	return b.Hops[0]
}

func (c *scene) answerOthers() {
	for _, b := range c.s.ordered() {
		for _, h := range slices.Clone(b.Hops) {
			if h.To.ID != c.s.Ring.at(1).Member.ID && h.state != hopEnded {
				c.s.Report(h.To.ID, honest(h), c.now)
			}
		}
	}
}

// nextDue lets time pass until a hop is due, and returns it.
func (c *scene) nextDue() *Hop {
	next, again := c.s.Next()
	if !again {
		c.Fatal("nothing is due any more")
	}
	if next.After(c.now) {
		c.now = next
	}
	return c.s.due.pop(c.now)
}

// passUntilDue lets time pass until the hop is due in a state for a reason, and takes it out: it is to be given that event.
func (c *scene) passUntilDue(st hopState, ev hopEvent) {
	for range 1000 {
		h := c.nextDue()
		if h == c.hop && h.state == st && h.timeoutEvent(c.peer(), c.now) == ev {
			return
		}
		c.s.timeout(h, c.now)
		c.answerOthers()
	}
	c.Fatalf("it does not come to that: the hop is in state %s", stateLetters[c.hop.state])
}

func (c *scene) peer() *Peer { return c.peers[c.s.self].get(c.hop.To.ID) }

// report returns a report of the head that amounts to an event.
func (c *scene) report(ev hopEvent) wire.Report {
	r := honest(c.hop)
	switch last := c.s.Ring.at(c.hop.View.to - 1).Pos; {
	case ev == reportHeld:
		return wire.Report{ID: r.ID}
	case ev == reportDiffers:
		r.Count += 7
	case ev == reportLists:
		r.Count, r.List = r.Count+7, []uint64{c.hop.View.first().Pos}
	case c.hop.View.Len() > 1: // it agrees, and has given up a member
		r.Count, r.Sum, r.Gone = r.Count-1, r.Sum^last, []uint64{last}
	}
	return r
}

// let makes an event come to the hop: by a report, by the loss of the head, or, where it was passed to, by the time.
func (c *scene) let(ev hopEvent) {
	switch {
	case ev <= reportLists:
		r := c.report(ev)
		if got := c.hop.reportEvent(r); got != ev {
			c.Fatalf("the report amounts to %s", eventNames[got])
		}
		c.s.Report(c.hop.To.ID, r, c.now)
	case ev == peerLost:
		c.lose(c.s.self, c.hop.To.ID)
	default:
		c.s.timeout(c.hop, c.now)
	}
}

// look is what can be seen of a scene.
type look struct {
	sends      []string
	view       string
	due        time.Duration // from now
	unanswered int
	gone       int  // members that the batch is given up for
	halved     bool // the window was halved now

	// Of the head:
	leaf, gaveUp, silent bool // demoted now, given up now
	owes                 bool
	retried              *Hop
}

func (c *scene) look() look {
	p, f := c.peer(), c.s.Flow
	l := look{
		view: view(c.hop), due: c.hop.due.Sub(c.now), unanswered: c.hop.unanswered, gone: len(c.hop.Batch.Gone),
		halved: f.halvedAt.Equal(c.now), owes: !p.owesSince.IsZero(), retried: p.retried,
		leaf: p.leafUntil.Equal(c.now.Add(leafFor)), gaveUp: p.gaveUpAt.Equal(c.now), silent: p.silent,
	}
	for _, send := range c.s.Sends {
		text := view(send.Hop)
		if send.Query {
			text += " query"
		}
		if send.List {
			text += " list"
		}
		if send.Stream {
			text += " stream"
		}
		l.sends = append(l.sends, text)
	}
	c.s.Sends = nil
	return l
}

// before is what a scene looks like before an event.
func (c *scene) before() look {
	l := c.look()
	l.sends = nil
	return l
}

// view tells the steps of a hop's slice, and where it ends.
func view(h *Hop) string {
	end := "elsewhere"
	switch h.End {
	case h.View.ring.at(h.View.to).Pos:
		end = "at the next"
	case h.View.first().Pos + 1:
		end = "at once"
	}
	return fmt.Sprintf("[%d,%d) ends %s", h.View.from, h.View.to, end)
}

// expectNoted tells what a scene should look like after an event of a hop in a state, whatever the parent does about it.
func expectNoted(before look, st hopState, ev hopEvent) look {
	want := before
	due := ev >= dueBehind && ev <= dueGiveUp
	behind := ev == dueBehind || ev == dueBehindReleased
	want.halved = before.halved || due && !behind && strings.Contains("AHL", stateLetters[st])
	switch {
	case ev <= reportLists: // the head lives
		want.unanswered, want.owes, want.gaveUp, want.retried = 0, false, false, nil
	case ev == peerLost: // and its record is a new one
		want.leaf, want.gaveUp, want.silent, want.owes, want.retried = false, false, false, false, nil
	}
	return want
}

// expect tells what a scene should look like after an event of a hop in a state that makes the parent do something.
func (c *scene) expect(before look, st hopState, ev hopEvent, action string) look {
	want := expectNoted(before, st, ev)
	isSlice := strings.HasPrefix(before.view, "[1,4)")
	handOn := func() {
		if isSlice {
			want.sends = append(want.sends, "[2,4) ends at the next")
			want.view = "[1,2) ends at the next"
		}
	}
	switch action {
	case "askLater":
		want.due = heldRTOs * RTOFirst
	case "askList", "retry":
		c.expectTry(&want, action)
	case "finish":
		want.gone += len(c.report(ev).Gone)
	case "serveUnnamed":
		if isSlice {
			want.sends = []string{"[2,3) ends at once", "[3,4) ends at once"}
		}
	case "postpone":
		want.due = max(c.other.due.Sub(c.now), RTOFirst)
	case "postponeHandOn":
		want.due = max(c.other.due.Sub(c.now), RTOFirst)
		handOn()
	case "handOn":
		want.leaf = true
		handOn()
		c.expectTry(&want, action)
	case "giveUp":
		want.leaf, want.gaveUp, want.silent = true, true, want.owes // if it owes no answer, it has held for too long
		fallthrough
	case "takeOver":
		want.gone++
		if handOn(); isSlice {
			want.view = before.view
		}
	}
	return want
}

// expectTry adds to what is expected that the hop is sent again.
func (c *scene) expectTry(want *look, action string) {
	waits := []time.Duration{1, 1, 1, 2, 4, 8} // RTOs, by the tries before that were not answered
	text := want.view
	want.due = waits[min(want.unanswered, len(waits)-1)] * RTOFirst
	switch to := stateLetters[c.hop.state]; {
	case strings.Contains("Ll", to):
		text += " query list"
		want.due = heldRTOs * RTOFirst
	case strings.Contains("Hh", to):
		text += " query"
		want.due = heldRTOs * RTOFirst
	}
	want.sends = append(want.sends, text)
	if want.unanswered%3 == 2 {
		want.sends = append(want.sends, text+" stream")
	}
	want.unanswered++
	want.owes = true
	if action == "retry" {
		want.retried = c.hop
	}
}

// compare compares what a scene looks like with what it should.
func (c *scene) compare(want look) {
	c.Helper()
	got := c.look()
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		c.Errorf("it looks like\n%+v, not like\n%+v", got, want)
	}
	if wrong := c.hop.Batch.wrongCount(); wrong != "" {
		c.Error(wrong)
	}
	inWindow := 0
	for _, b := range c.s.Batches {
		if !b.refunded {
			inWindow += b.Size
		}
	}
	if c.s.Flow.Sent != inWindow {
		c.Errorf("%d bytes are in the window, not %d", c.s.Flow.Sent, inWindow)
	}
}
