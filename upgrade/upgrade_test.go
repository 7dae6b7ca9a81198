package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// earlier are the commits of which members are run beside those of now: one for each release, and one where a feature came.
var earlier = []string{
	"fb4c7c0e858b455c7c5bd874559698d60f3b9902", // the first that this test was run with
}

// TestUpgrade: three members of an earlier commit and three of now are one cluster under traffic, with keys, a state and a Map. The earlier
// ones are upgraded one by one, and then rolled back, one by one. Nothing is lost and nothing comes twice, in both directions.
func TestUpgrade(t *testing.T) {
	now := build(t, ".", "now")
	for _, commit := range earlier {
		t.Run(commit[:min(8, len(commit))], func(t *testing.T) {
			f := &fleet{t: t, old: buildAt(t, commit), now: now}
			for i := range 6 {
				f.start(fmt.Sprint("m", i), i%2 == 1)
			}
			f.mixed()
			for i := 0; i < 6; i += 2 {
				f.restart(fmt.Sprint("m", i), true)
			}
			for i := 0; i < 6; i += 2 {
				f.restart(fmt.Sprint("m", i), false)
			}
			f.mixed()
			f.check()
		})
	}
}

// fleet is the members, and those that there were.
type fleet struct {
	t        *testing.T
	old, now string
	up       []*process
	left     []*process
	runs     int
}

func (f *fleet) start(slot string, late bool) {
	f.t.Helper()
	program := f.old
	if late {
		program = f.now
	}
	f.runs++
	p := launch(f.t, program, slot, f.runs, late) // under a name of its own, as in a Deployment
	var seeds []string
	for _, o := range f.up {
		seeds = append(seeds, o.addr)
	}
	if len(seeds) > 0 {
		p.tell("join", seeds...)
	}
	// What is broadcast from now on is owed to it.
	for _, o := range f.up {
		p.since[o.name] = o.count("mark")
		o.since[p.name] = 0
	}
	f.up = append(f.up, p)
	if late { // the earlier commit's Ready may wait for parts that nobody owes it
		p.tell("ready")
	}
	p.tell("go")
}

func (f *fleet) restart(slot string, late bool) {
	f.t.Helper()
	i := slices.IndexFunc(f.up, func(p *process) bool { return p.slot == slot })
	p := f.up[i]
	f.up = slices.Delete(f.up, i, i+1)
	if r := p.report(); r.Twice != 0 || len(r.Faults) > 0 || r.Lost != 0 {
		f.t.Errorf("%s (late %v), before it leaves: %d twice, %d lost, %q", p.name, p.late, r.Twice, r.Lost, r.Faults)
	}
	p.end()
	f.left = append(f.left, p)
	f.start(slot, late)
}

// mixed lets every member send to every other one, and waits until they are one cluster: who has just left may be a member a little longer to
// somebody that its goodbye has not reached yet.
func (f *fleet) mixed() {
	f.t.Helper()
	for _, p := range f.up {
		for _, o := range f.up {
			if p != o {
				p.tell("send", o.name)
				o.sent[p.name] += 10
			}
		}
	}
	f.eventually(f.parted)
	for _, p := range f.up {
		r := p.report()
		for _, o := range f.up {
			if p != o && r.Direct[o.name] != p.sent[o.name] {
				f.t.Errorf("%s (late %v) has had %d of %d messages that %s (late %v) sent it", p.name, p.late, r.Direct[o.name], p.sent[o.name], o.name, o.late)
			}
		}
	}
}

// parted returns who does not see just the members that are up, or thinks that one of them lags with its keys.
func (f *fleet) parted() (texts []string) {
	f.t.Helper()
	for _, p := range f.up {
		r := p.report()
		if r.Members != len(f.up) || r.Foreign != 0 || len(r.Lagging) != 0 {
			texts = append(texts, fmt.Sprintf("%s (late %v) sees %d members, %d of them foreign; %v lag with their keys", p.name, p.late, r.Members, r.Foreign, r.Lagging))
		}
	}
	return texts
}

// eventually waits until nothing is wrong any more.
func (f *fleet) eventually(wrong func() []string) {
	f.t.Helper()
	texts := wrong()
	for deadline := time.Now().Add(patience / 2); len(texts) > 0 && time.Now().Before(deadline); texts = wrong() {
		time.Sleep(50 * time.Millisecond)
	}
	for _, text := range texts {
		f.t.Error(text)
	}
}

// check ends the traffic and waits until all have what they are owed.
func (f *fleet) check() {
	f.t.Helper()
	for _, p := range f.up {
		// Flush tells, too, of whom left while messages were on their way. Who is here is looked at below.
		p.tell("stop")
		p.last = p.count("mark")
	}
	f.eventually(f.wrong)
}

// wrong returns what members lack, or should not have.
func (f *fleet) wrong() (texts []string) {
	f.t.Helper()
	var table map[string]int
	var runs []string
	for _, p := range slices.Concat(f.left, f.up) {
		runs = append(runs, p.name)
	}
	slices.Sort(runs)
	for _, p := range f.up {
		r := p.report()
		note := func(format string, args ...any) {
			texts = append(texts, fmt.Sprintf("%s (late %v): ", p.name, p.late)+fmt.Sprintf(format, args...))
		}
		for _, o := range slices.Concat(f.left, f.up) {
			since, owed := p.since[o.name]
			if n := r.lacks(o.name, since+1, o.last); owed && n > 0 {
				note("lacks number %d of %s (late %v), from %d to %d; has %v", n, o.name, o.late, since+1, o.last, r.Seen[o.name])
			}
		}
		if r.Twice != 0 || r.Lost != 0 || len(r.Faults) > 0 {
			note("%d twice, %d lost, %q", r.Twice, r.Lost, r.Faults)
		}
		if !slices.Equal(r.State, runs) {
			note("the state is of %v, want %v", r.State, runs)
		}
		if table == nil {
			table = r.Table
		}
		if !maps.Equal(r.Table, table) || r.Table[p.name] != p.last/10*10 && r.Table[p.name] != (p.last-1)/10*10 {
			note("the map is %v, and another's %v", r.Table, table)
		}
		if n := r.Dropped["malformed"] + r.Dropped["undecodable"] + r.Dropped["later version"]; n > 0 {
			note("dropped %v", r.Dropped)
		}
	}
	return texts
}
