package spread

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// The names in the table that hopState's comment has.
var (
	stateLetters = [hopStates]string{"A", "H", "L", "a", "h", "l", "E"}
	eventNames   = [hopEvents]string{"reportHeld", "reportAgrees", "reportDiffers", "reportLists", "dueBehind",
		"dueBehindReleased", "dueRetry", "dueRetryReleased", "dueSpent", "dueGiveUp", "peerLost"}
	actionNames = map[hopAction]string{impossible: "-", nothing: "nothing", askLater: "askLater", askList: "askList",
		finish: "finish", serveUnnamed: "serveUnnamed", postpone: "postpone",
		postponeHandOn: "postponeHandOn", retry: "retry", handOn: "handOn",
		giveUp: "giveUp", takeOver: "takeOver"}
)

func (tr transition) String() string {
	if tr.do == impossible {
		return "-"
	}
	return stateLetters[tr.to] + " " + actionNames[tr.do]
}

// documentedTable returns the cells of the table in hopState's comment, by event and state.
func documentedTable(t *testing.T) map[string]map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "hopstate.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE || g.Specs[0].(*ast.TypeSpec).Name.Name != "hopState" {
			continue
		}
		for _, line := range strings.Split(g.Doc.Text(), "\n") {
			words := strings.Fields(strings.TrimPrefix(line, "\t"))
			if !strings.HasPrefix(line, "\t") || words[0] == "event" {
				continue
			}
			cells, rest := map[string]string{}, words[1:]
			for _, state := range stateLetters {
				if rest[0] == "-" {
					cells[state], rest = "-", rest[1:]
				} else {
					cells[state], rest = rest[0]+" "+rest[1], rest[2:]
				}
			}
			table[words[0]] = cells
		}
	}
	return table
}

// TestTableIsDocumented: the table in the comment is the one that the code follows.
func TestTableIsDocumented(t *testing.T) {
	table := documentedTable(t)
	if len(table) != int(hopEvents) {
		t.Errorf("the comment has %d events, not %d", len(table), hopEvents)
	}
	for ev, name := range eventNames {
		for st, letter := range stateLetters {
			if got, want := fmt.Sprint(hopTable[ev][st]), table[name][letter]; got != want {
				t.Errorf("%s in state %s: the code has %q, the comment %q", name, letter, got, want)
			}
		}
	}
}

// scripts lead a scene to a state. A pair of a state and an event that needs a script of its own is in pairs. If the event is
// that the hop is due, time passes after the script until the hop is due for that reason.
var (
	scripts = map[string]string{
		"A": "start", "H": "start held", "L": "start differs", "a": "start a", "h": "start a held", "l": "start a differs",
	}
	pairs = map[string]string{
		"A dueBehind": "other start", "H dueBehind": "other start held", "L dueBehind": "other start differs",
		"a dueBehind": "start a heard other", "h dueBehind": "start a held other", "l dueBehind": "start a differs other",

		"A dueBehindReleased": "other start", "a dueBehindReleased": "other start",
		"H dueBehindReleased": "other start held", "h dueBehindReleased": "other start held",
		"L dueBehindReleased": "other start differs", "l dueBehindReleased": "other start differs",

		"A dueRetryReleased": "alone start",
		"H dueRetryReleased": "alone start held",
		"L dueRetryReleased": "alone start differs",

		"a dueRetry": "other start a answered", // a hop that comes to state a by itself has spent these tries
		"h dueSpent": "other start held h answered", "l dueSpent": "other start held h answered differs",
	}
)

// TestWalkTable makes each event come to a hop in each state, by nothing but what members send and the time. It compares with
// the table of the comment which state follows and what is done: what is sent, when the hop is due next, what the batch
// counts, and what is noted of the member.
func TestWalkTable(t *testing.T) {
	table := documentedTable(t)
	walked := 0
	for st := range hopEnded {
		for ev := range hopEvents {
			pair := stateLetters[st] + " " + eventNames[ev]
			want := table[eventNames[ev]][stateLetters[st]]
			if want == "-" {
				continue
			}
			walked++
			t.Run(pair, func(t *testing.T) {
				script, special := pairs[pair]
				if !special {
					script = scripts[stateLetters[st]]
				}
				if ev == dueGiveUp {
					script += " silence"
				}
				c := newScene(t, script)
				if ev >= dueBehind && ev <= dueGiveUp {
					c.passUntilDue(st, ev)
				}
				if c.hop.state != st {
					t.Fatalf("the script leads to state %s", stateLetters[c.hop.state])
				}
				before := c.before()
				c.let(ev)
				to, action, _ := strings.Cut(want, " ")
				if got := stateLetters[c.hop.state]; got != to {
					t.Errorf("state %s follows, not %s", got, to)
				}
				c.compare(c.expect(before, st, ev, action))
			})
		}
	}
	if want := int(hopEnded)*int(hopEvents) - 1; walked != want {
		t.Errorf("%d pairs were walked, not %d", walked, want)
	}
}

// TestImpossibleEvents: nothing that comes in finds an ended hop; and an event that cannot come changes nothing, and is counted.
func TestImpossibleEvents(t *testing.T) {
	for ev := range hopEvents {
		c := newScene(t, "start")
		c.let(reportLists) // the hop has ended, and the batch has not
		before := c.before()
		for ev := range reportLists + 1 {
			c.s.Report(c.hop.To.ID, c.report(ev), c.now)
		}
		c.lose(c.s.self, c.hop.To.ID)
		for h := c.s.due.pop(c.now.Add(time.Hour)); h != nil; h = c.s.due.pop(c.now.Add(time.Hour)) {
			if h == c.hop {
				t.Error("an ended hop is due")
			}
		}
		if c.s.Impossible != 0 {
			t.Error("something found an ended hop")
		}
		c.s.step(c.hop, ev, c.report(reportHeld), c.now)
		if c.s.Impossible != 1 {
			t.Errorf("%s of an ended hop is not counted", eventNames[ev])
		}
		c.compare(before)
	}
	c := newScene(t, "start a")
	before := c.before()
	c.s.step(c.hop, dueSpent, wire.Report{}, c.now)
	if c.s.Impossible != 1 {
		t.Error("a hop for one member that is to be handed on is not counted")
	}
	c.compare(before)
}
