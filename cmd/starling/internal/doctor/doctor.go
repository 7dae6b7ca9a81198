// Package doctor finds what is wrong with a cluster in what its members say of it. It is given a [View] of each member that could be asked, and
// holds them against each other. It asks nobody itself.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

// A View is what one member sees, and how it was asked.
type View struct {
	At              string                 // whom we asked: an address, or "this observer"
	Asked, Answered time.Time              // when, by our clock
	Status          *starlingstatus.Status // never nil
	// Probed is when the member was told to send a packet to each other one, by our clock; zero: it was not, or could not.
	Probed time.Time
	// Probe is what became of that; nil like Probed.
	Probe *starlingstatus.Probe
	// Undialled is why we could not dial the address that the member advertises; empty: we could, or have not tried.
	Undialled string
}

// A Finding is one thing that is wrong.
type Finding struct {
	Fault   Fault    `json:"fault"`
	Members []string `json:"members"` // whom it is about, by name
	What    string   `json:"what"`
	Because []string `json:"because"` // how that is known
	Do      string   `json:"do"`
}

// A Fault is a kind of Finding.
type Fault string

const (
	SameName     Fault = "name"          // two members of one name
	OtherLabel   Fault = "label"         // members of another label
	OtherKeys    Fault = "keys"          // members without a common key
	LabelOrKeys  Fault = "label-or-keys" // another label, or other keys: who refuses does not say which
	OtherVersion Fault = "version"       // members of releases that do not understand each other
	StaleSeed    Fault = "seed"          // nobody lives at a seed
	BadAddress   Fault = "address"       // the address that a member advertises is out of reach
	NoPackets    Fault = "packets"       // streams pass between two members, and packets do not
	WrongClock   Fault = "clock"
	OtherType    Fault = "type"   // channels of one key carry different types
	Silent       Fault = "silent" // a member answers nothing
	Strangers    Fault = "apart"  // members do not know each other, and nothing tells why
	Failed       Fault = "failed" // a member has failed, and is not back
	Flaps        Fault = "flaps"  // a member fails and comes back, again and again
	Lost         Fault = "lost"   // messages were lost
	Unready      Fault = "ready"
)

const (
	lately       = 5 * time.Minute  // what happened before is over
	conflictsFor = 2 * time.Minute  // a member whose last claim to a name is older has given it up
	clockMost    = 2 * time.Second  // how far clocks may differ. A Map logs 5 s, but less may already let an older write win
	quietLeast   = 20 * time.Second // without a probe, a shorter silence says nothing
)

// Examine returns what is wrong. Checks that know a cause come before those that know a symptom alone, which say nothing of whom a cause was
// found for.
func Examine(views []View) []Finding {
	e := &examination{findings: []Finding{}, apart: map[[2]int]bool{}, named: map[string]bool{}}
	known := map[string]bool{}
	for _, v := range views {
		if self := v.self(); !known[self.ID] {
			known[self.ID] = true
			e.views = append(e.views, v)
		}
	}
	for _, check := range []func(){
		e.sameNames, e.labels, e.keys, e.versions, e.refused, e.seeds, e.addresses, e.packets, e.clocks,
		e.types, e.silent, e.strangers, e.failures, e.lost, e.unready,
	} {
		check()
	}
	return e.findings
}

// examination is what was found so far.
type examination struct {
	views    []View // one for each member
	findings []Finding
	apart    map[[2]int]bool // pairs of views, the lower first, of which it is known why they are not of one cluster, or do not reach each other
	named    map[string]bool // members that a cause was found for
}

func (e *examination) find(f Finding) {
	slices.Sort(f.Members)
	f.Members = slices.Compact(f.Members)
	e.findings = append(e.findings, f)
	for _, name := range f.Members {
		e.named[name] = true
	}
}

func (e *examination) part(i, j int) { e.apart[[2]int{min(i, j), max(i, j)}] = true }

func (e *examination) parted(i, j int) bool { return e.apart[[2]int{min(i, j), max(i, j)}] }

// pairs calls f for each ordered pair of views of which it is not known why they are apart.
func (e *examination) pairs(f func(i, j int, a, b *View)) {
	for i := range e.views {
		for j := range e.views {
			if i != j && !e.parted(i, j) {
				f(i, j, &e.views[i], &e.views[j])
			}
		}
	}
}

func (v *View) self() starlingstatus.Member {
	for _, m := range v.Status.Members {
		if m.Self {
			return m
		}
	}
	return starlingstatus.Member{Name: v.Status.Self}
}

// sees returns the member of another view as this one sees it.
func (v *View) sees(other *View) (starlingstatus.Member, bool) {
	of := other.self()
	for _, m := range v.Status.Members {
		if m.Name == of.Name && (m.ID == of.ID || m.State == starlingstatus.StateForeign) {
			return m, true
		}
	}
	return starlingstatus.Member{}, false
}

// since reports whether a time, by the member's clock, is less than d before its picture.
func (v *View) since(at time.Time, d time.Duration) bool { return v.Status.Time.Sub(at) < d }

// failedLately reports whether the member has taken another one for failed lately.
func (v *View) failedLately(other *View) bool {
	return slices.ContainsFunc(v.Status.Happened, func(ev starlingstatus.Event) bool {
		return ev.Kind == "failed" && ev.Member == other.Status.Self && v.since(ev.Time, lately)
	})
}

// last returns the kind of the last event of a member's coming or going; empty: none is remembered.
func (v *View) last(name string) string {
	for _, ev := range v.Status.Happened { // the newest is the first
		if ev.Member == name && slices.Contains([]string{"joined", "left", "failed"}, ev.Kind) {
			return ev.Kind
		}
	}
	return ""
}

// answer returns what the member's probe has learnt of another one.
func (v *View) answer(other *View) (starlingstatus.Answer, bool) {
	if v.Probe == nil {
		return starlingstatus.Answer{}, false
	}
	i := slices.IndexFunc(v.Probe.Answers, func(a starlingstatus.Answer) bool { return a.ID == other.self().ID })
	if i < 0 {
		return starlingstatus.Answer{}, false
	}
	return v.Probe.Answers[i], true
}

// groups sorts views into groups that belong together, the largest first.
func (e *examination) groups(together func(a, b *View) bool) (groups [][]int) {
	of := map[int]int{} // index of a view: of its group
	var join func(i, group int)
	join = func(i, group int) {
		of[i] = group
		groups[group] = append(groups[group], i)
		for j := range e.views {
			if _, done := of[j]; !done && together(&e.views[i], &e.views[j]) {
				join(j, group)
			}
		}
	}
	for i := range e.views {
		if _, done := of[i]; !done {
			groups = append(groups, nil)
			join(i, len(groups)-1)
		}
	}
	slices.SortStableFunc(groups, func(a, b []int) int { return cmp.Compare(len(b), len(a)) })
	return groups
}

// partAll notes that the views of different groups are apart, and returns the names of all, and of each group.
func (e *examination) partAll(groups [][]int) (all []string, of []string) {
	for i, group := range groups {
		var names []string
		for _, a := range group {
			names = append(names, e.views[a].Status.Self)
			for _, others := range groups[i+1:] {
				for _, b := range others {
					e.part(a, b)
				}
			}
		}
		all, of = append(all, names...), append(of, list(names))
	}
	return all, of
}

// list writes names for people.
func list(names []string) string {
	const most = 8
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
