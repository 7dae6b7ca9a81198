package doctor

import (
	"fmt"
	"slices"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

// addresses finds members that reach the others, by streams at least, while nobody gets an answer from the address that they advertise.
func (e *examination) addresses() {
	type blame struct{ who, because []string }
	blamed := map[int]*blame{}
	e.pairs(func(i, j int, x, b *View) {
		name, why := x.Status.Self, unreached(b, x)
		refused := x.Status.NotReady != nil && x.Status.NotReady.Reason == "join"
		if _, sees := x.sees(b); !sees || x.failedLately(b) || why == "" || heardLately(b, x) || !refused && !b.failedLately(x) {
			return
		}
		if blamed[i] == nil {
			blamed[i] = &blame{}
			if refused {
				blamed[i].because = append(blamed[i].because, name+" is not ready: "+x.Status.NotReady.Text)
			}
		}
		blamed[i].who = append(blamed[i].who, b.Status.Self)
		blamed[i].because = append(blamed[i].because, why, fmt.Sprintf("%s has %s as a member all the time, so it reaches it", name, b.Status.Self))
	})
	for i := range e.views {
		t, v := blamed[i], &e.views[i]
		if t == nil {
			continue
		}
		if v.Undialled != "" {
			t.because = append(t.because, fmt.Sprintf("from here it cannot be dialled either: %s", v.Undialled))
		}
		for j := range e.views {
			e.part(i, j)
		}
		e.find(Finding{Fault: BadAddress, Members: []string{v.Status.Self}, Because: t.because,
			What: fmt.Sprintf("%s advertises %s, where %s cannot reach it", v.Status.Self, v.self().Addr, list(t.who)),
			Do:   "set its Config.AdvertiseAddr to an address that the others reach, with the port, or let them through to this one: UDP and TCP"})
	}
}

// unreached tells how b fails to get answers from x; empty: it does not fail.
func unreached(b, x *View) string {
	name := x.Status.Self
	if _, ok := b.sees(x); !ok {
		return fmt.Sprintf("%s does not have %s as a member", b.Status.Self, name)
	}
	a, asked := b.answer(x)
	if asked && a.Error != "" {
		return fmt.Sprintf("%s got no answer to its probe from %s: %s", b.Status.Self, name, a.Error)
	}
	if _, knew := x.answer(b); !asked && knew && b.Probe != nil {
		return fmt.Sprintf("%s did not have %s as a member when it probed, while %s had it", b.Status.Self, name, name)
	}
	return ""
}

// heardLately reports whether packets of x have come to b from x's address lately.
func heardLately(b, x *View) bool {
	m, ok := b.sees(x)
	return ok && m.Heard != 0 && time.Duration(m.Heard) <= quiet(b, x)
}

// quiet is how long nothing may come to b from x: since x was told to send something, or, if it was not, until memberlist's next ping.
func quiet(b, x *View) time.Duration {
	if !x.Probed.IsZero() && x.Probe != nil && x.Probe.Error == "" {
		return b.Answered.Sub(x.Probed) + time.Second
	}
	return max(quietLeast, time.Duration(3*len(b.Status.Members))*time.Second)
}

// packets finds pairs of members between which streams pass, for they are members to each other, and packets do not.
func (e *examination) packets() {
	type way struct{ from, to int }
	lost := map[way]bool{}
	e.pairs(func(i, j int, from, to *View) {
		m, sees := from.sees(to)
		_, seen := to.sees(from)
		if sees && seen && m.State != starlingstatus.StateForeign && answers(from, to) && !heardLately(to, from) && !newTo(to, from) && !newTo(from, to) {
			lost[way{i, j}] = true
		}
	})
	for i := range e.views {
		for j := range e.views {
			if lost[way{i, j}] && (i < j || !lost[way{j, i}]) {
				e.noPackets(&e.views[i], &e.views[j], lost[way{j, i}])
				e.part(i, j)
			}
		}
	}
}

// answers reports whether one of two members got an answer from the other when it probed, or none has probed.
func answers(a, b *View) bool {
	there, asked := a.answer(b)
	back, askedBack := b.answer(a)
	return a.Probe == nil && b.Probe == nil || asked && there.Error == "" || askedBack && back.Error == ""
}

// newTo reports whether a member has come to another one so lately that nothing need have come of it.
func newTo(to, from *View) bool {
	return slices.ContainsFunc(to.Status.Happened, func(ev starlingstatus.Event) bool {
		return ev.Kind == "joined" && ev.Member == from.Status.Self && from.Probed.IsZero() && to.since(ev.Time, quiet(to, from))
	})
}

func (e *examination) noPackets(from, to *View, both bool) {
	a, b := from.Status.Self, to.Status.Self
	what := fmt.Sprintf("packets from %s do not reach %s, and those from %s reach %s: UDP is blocked one way", a, b, b, a)
	because := []string{came(to, from), came(from, to), fmt.Sprintf("streams pass: %s and %s are members to each other", a, b)}
	if both {
		what = fmt.Sprintf("no packets pass between %s and %s, in neither direction: UDP is blocked", a, b)
	}
	e.find(Finding{Fault: NoPackets, Members: []string{a, b}, What: what, Because: because,
		Do: fmt.Sprintf("let UDP through from %s to %s, as TCP is (a firewall, a security group)", from.self().Addr, to.self().Addr)})
}

// came tells when a packet came to one member from another.
func came(to, from *View) string {
	m, _ := to.sees(from)
	if m.Heard == 0 {
		return fmt.Sprintf("no packet of %s has come to %s", from.Status.Self, to.Status.Self)
	}
	return fmt.Sprintf("the last packet of %s came to %s %v ago", from.Status.Self, to.Status.Self, m.Heard)
}

// silent finds members that answer nothing, without a known cause.
func (e *examination) silent() {
	who := map[string][]string{}
	for _, v := range e.views {
		for _, m := range v.Status.Members {
			if m.State == starlingstatus.StateSilent && !e.named[m.Name] && !e.named[v.Status.Self] {
				who[m.Name] = append(who[m.Name], v.Status.Self)
			}
		}
	}
	for _, name := range sorted(who) {
		e.find(Finding{Fault: Silent, Members: []string{name}, What: fmt.Sprintf("%s answers nothing", name),
			Because: []string{fmt.Sprintf("%s has waited for its answers for long; it is not known to have failed", list(who[name]))},
			Do:      "see whether the process hangs, or packets to and from it are lost; ask its own page too"})
	}
}

// strangers finds members that do not have each other as members, without a known cause.
func (e *examination) strangers() {
	for i := range e.views {
		for j := range i {
			a, b := &e.views[j], &e.views[i]
			_, sees := a.sees(b)
			_, seen := b.sees(a)
			if e.parted(i, j) || sees && seen {
				continue
			}
			var because []string
			if !sees {
				because = append(because, fmt.Sprintf("%s does not have %s as a member", a.Status.Self, b.Status.Self))
			}
			if !seen {
				because = append(because, fmt.Sprintf("%s does not have %s as a member", b.Status.Self, a.Status.Self))
			}
			e.find(Finding{Fault: Strangers, Members: []string{a.Status.Self, b.Status.Self}, Because: because,
				What: fmt.Sprintf("%s and %s are not of one cluster", a.Status.Self, b.Status.Self),
				Do:   "give them a seed in common, and see that streams and packets pass both ways between their addresses"})
		}
	}
}

// failures finds members that have failed lately and are not back, and those that fail and come back, without a known cause.
func (e *examination) failures() {
	for _, v := range e.views {
		failed := map[string][]string{}
		for _, ev := range v.Status.Happened {
			if ev.Kind == "failed" && v.since(ev.Time, lately) && !e.named[ev.Member] {
				failed[ev.Member] = append(failed[ev.Member], ev.Time.Format(time.TimeOnly))
			}
		}
		for _, name := range sorted(failed) {
			f := Finding{Members: []string{name}, Because: []string{fmt.Sprintf("%s took it for failed at %s", v.Status.Self, list(failed[name]))}}
			switch {
			case v.last(name) == "failed":
				f.Fault, f.What = Failed, name+" has failed, and is not back"
				f.Do = "see whether its process or machine has ended; one that is stopped on purpose should call Leave"
			case len(failed[name]) > 1:
				f.Fault, f.What = Flaps, name+" fails and comes back, again and again"
				f.Do = "see whether it is started again and again, is too slow, or advertises an address that the others do not reach; ask its own page too"
			default:
				continue
			}
			e.find(f)
		}
	}
}

// lost finds messages that are lost, but for those between members of which it is known that they do not reach or understand others.
func (e *examination) lost() {
	cut := map[string]bool{}
	for _, f := range e.findings {
		if slices.Contains([]Fault{SameName, OtherLabel, OtherKeys, LabelOrKeys, OtherVersion, BadAddress, NoPackets}, f.Fault) {
			for _, name := range f.Members {
				cut[name] = true
			}
		}
	}
	for _, v := range e.views {
		for _, g := range v.Status.Gaps {
			if v.since(g.Time, lately) && !cut[v.Status.Self] && !cut[g.Origin] {
				e.find(Finding{Fault: Lost, Members: []string{v.Status.Self}, What: fmt.Sprintf("messages were lost to %s", v.Status.Self),
					Because: []string{fmt.Sprintf("%s was owed messages %d to %d of %s, and nobody has them any more", v.Status.Self, g.First, g.Last, g.Origin)},
					Do:      "if it was cut off for longer than Config.Retention, raise that; else keep state in a Map or behind a Snapshot"})
				break
			}
		}
	}
}

// unready finds members that are not ready, without a known cause.
func (e *examination) unready() {
	for _, v := range e.views {
		if n := v.Status.NotReady; n != nil && n.Reason != "unsettled" && !e.named[v.Status.Self] {
			e.find(Finding{Fault: Unready, Members: []string{v.Status.Self}, What: v.Status.Self + " is not ready", Because: []string{n.Text},
				Do: "wait; if it does not become ready, look at those that it waits for"})
		}
	}
}
