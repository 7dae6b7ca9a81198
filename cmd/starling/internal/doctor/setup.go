package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/starling-go/starling/starlingstatus"
)

// sameNames finds members of one name: by their own pages, or by one who refuses the second.
func (e *examination) sameNames() {
	for i := range e.views {
		for j := range i {
			a, b := e.views[j].self(), e.views[i].self()
			if a.Name != b.Name {
				continue
			}
			e.part(i, j)
			if !e.named[a.Name] {
				e.nameTaken(a.Name, a.Addr, b.Addr, fmt.Sprintf("%s and %s are different runs (%s, %s) of that name",
					e.views[j].At, e.views[i].At, a.ID, b.ID))
			}
		}
	}
	for _, v := range e.views {
		for _, ev := range v.Status.Happened {
			if ev.Kind == "conflict" && v.since(ev.Time, conflictsFor) && !e.named[ev.Member] {
				addr := ""
				for _, m := range v.Status.Members {
					if m.Name == ev.Member {
						addr = m.Addr
					}
				}
				e.nameTaken(ev.Member, addr, "", v.Status.Self+" says: "+ev.Text)
			}
		}
	}
}

func (e *examination) nameTaken(name, first, second, why string) {
	e.pairs(func(i, j int, a, b *View) {
		_, sees := a.sees(b)
		if !sees && (a.Status.Self == name || b.Status.Self == name) {
			e.part(i, j)
		}
	})
	what := "two members are called " + name
	if first != "" && second != "" {
		what += fmt.Sprintf(": one at %s, one at %s", first, second)
	}
	e.find(Finding{Fault: SameName, Members: []string{name}, What: what, Because: []string{why},
		Do: "give each member a name of its own (Config.Name; left empty, it is one); the others let the second in when the first is gone"})
}

func (e *examination) labels() {
	groups := e.groups(func(a, b *View) bool { return a.Status.Label == b.Status.Label })
	if len(groups) < 2 {
		return
	}
	all, names := e.partAll(groups)
	var because []string
	for i, g := range groups {
		because = append(because, fmt.Sprintf("the label of %s is %q", names[i], e.views[g[0]].Status.Label))
	}
	e.find(Finding{Fault: OtherLabel, Members: all, What: "members have different labels, so they do not hear each other", Because: because,
		Do: "give all members the same Config.Label, if they are to be one cluster"})
}

func (e *examination) keys() {
	groups := e.groups(func(a, b *View) bool {
		_, sees := a.sees(b)
		_, seen := b.sees(a)
		return a.Status.Label != b.Status.Label || sees && seen || reads(a, b) && reads(b, a)
	})
	if len(groups) < 2 {
		return
	}
	all, names := e.partAll(groups)
	var because []string
	for i, g := range groups {
		if k := e.views[g[0]].Status.Keys; k == nil {
			because = append(because, names[i]+" does not encrypt")
		} else {
			because = append(because, fmt.Sprintf("%s sends by the key %s and reads %s", names[i], k.Uses, list(k.Accepts)))
		}
	}
	e.find(Finding{Fault: OtherKeys, Members: all, What: "members have no key in common, so they do not understand each other", Because: because,
		Do: "give all members the same Config.Keys; to replace a key, first give every member both (see starling.Keyring)"})
}

// reads reports whether a's keys open what b sends.
func reads(a, b *View) bool {
	ours, theirs := a.Status.Keys, b.Status.Keys
	if ours == nil || theirs == nil {
		return ours == theirs
	}
	return slices.Contains(ours.Accepts, theirs.Uses) || slices.Contains(ours.Dropped, theirs.Uses)
}

// versions finds members that speak a version of Starling that others do not understand. Who speaks no Starling at all is no fault.
func (e *examination) versions() {
	speakers := map[int]map[string]bool{}
	note := func(m starlingstatus.Member) {
		if speakers[m.Version] == nil {
			speakers[m.Version] = map[string]bool{}
		}
		speakers[m.Version][m.Name] = true
	}
	var because []string
	for i := range e.views {
		v := &e.views[i]
		for _, m := range v.Status.Members {
			if m.State == starlingstatus.StateForeign && m.Version != 0 {
				note(m)
				note(v.self())
				because = append(because, fmt.Sprintf("%s is foreign to %s: it speaks version %d, and %s version %d",
					m.Name, v.Status.Self, m.Version, v.Status.Self, v.self().Version))
			}
		}
		for j := range e.views {
			if m, ok := v.sees(&e.views[j]); ok && m.State == starlingstatus.StateForeign {
				e.part(i, j)
			}
		}
	}
	if len(speakers) == 0 {
		return
	}
	var all []string
	for _, names := range speakers {
		all = slices.AppendSeq(all, maps.Keys(names))
	}
	e.find(Finding{Fault: OtherVersion, Members: all, What: "members speak versions of Starling that do not understand each other: they give each other plain messages, " +
		"without repair", Because: because, Do: "bring all members to releases that understand each other, as docs/upgrading.md says"})
}

// refused finds members that nobody shows us, by what others refuse of them.
func (e *examination) refused() {
	for _, v := range e.views {
		for _, r := range v.Status.Refused {
			fault, known := map[string]Fault{"label": OtherLabel, "keys": OtherKeys}[r.Reason]
			if !known || !v.since(r.Last, lately) || e.explains(fault, hostOf(r.From)) {
				continue
			}
			what, do := "another label", "give it the Config.Label of the others, or let it not find them (its seeds)"
			if fault == OtherKeys {
				what, do = "keys that are not those of "+v.Status.Self, "give it the Config.Keys of the others, or let it not find them (its seeds)"
			}
			e.find(Finding{Fault: fault, Members: []string{v.Status.Self}, What: fmt.Sprintf("somebody at %s sends with %s", hostOf(r.From), what), Do: do,
				Because: []string{fmt.Sprintf("%s has refused %d times what came, the last time from %s: %s", v.Status.Self, r.Count, r.From, r.Said)}})
		}
	}
}

// explains reports whether a fault was found for a member at a host.
func (e *examination) explains(fault Fault, host string) bool {
	for _, f := range e.findings {
		if f.Fault != fault {
			continue
		}
		if strings.Contains(f.What, "somebody at "+host+" ") {
			return true
		}
		for _, v := range e.views {
			if slices.Contains(f.Members, v.Status.Self) && hostOf(v.self().Addr) == host {
				return true
			}
		}
	}
	return false
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// seeds finds seeds at which no member answers, and those that refuse.
func (e *examination) seeds() {
	type trouble struct {
		who   []string
		error string
	}
	found := map[string]*trouble{}
	for _, v := range e.views {
		for _, s := range v.Status.Seeds {
			if found[s.Seed] == nil {
				found[s.Seed] = &trouble{error: s.Error}
			}
			found[s.Seed].who = append(found[s.Seed].who, v.Status.Self)
		}
	}
	for _, seed := range slices.Sorted(maps.Keys(found)) {
		t := found[seed]
		fault, what, do := judgeSeed(t.error)
		if fault != StaleSeed && (e.explains(OtherLabel, hostOf(seed)) || e.explains(OtherKeys, hostOf(seed))) {
			continue
		}
		slices.Sort(t.who)
		e.find(Finding{Fault: fault, Members: t.who, What: fmt.Sprintf("at the seed %s of %s %s", seed, list(t.who), what), Do: do,
			Because: []string{"the last try ended with: " + t.error}})
	}
}

// judgeSeed tells by the error of a seed what is wrong with it. The texts are those of Join.
func judgeSeed(text string) (fault Fault, what, do string) {
	switch {
	case strings.Contains(text, "another label, other keys"):
		return LabelOrKeys, "somebody answers with another label, or other keys", "give both the same Config.Label, Config.Keys and Config.TLS; ask that member's page too, to know which it is"
	case strings.Contains(text, "give both the same Keys"):
		return OtherKeys, "somebody answers who has other keys", "give both the same Config.Keys"
	}
	return StaleSeed, "no member answers", "start a member there, or take the seed out of Config.Seeds"
}

// types finds channels that carry something else on another member that is still there.
func (e *examination) types() {
	told := map[string]bool{}
	for _, v := range e.views {
		since := map[string]bool{} // who has come or gone since
		for _, ev := range v.Status.Happened {
			since[ev.Member] = since[ev.Member] || ev.Kind == "left" || ev.Kind == "failed"
			if ev.Kind != "other type" || told[ev.Channel] || since[ev.Member] {
				continue
			}
			told[ev.Channel] = true
			e.find(Finding{Fault: OtherType, Members: []string{v.Status.Self, cmp.Or(ev.Member, v.Status.Self)},
				What: fmt.Sprintf("%q carries another type on %s than on %s", ev.Channel, ev.Member, v.Status.Self), Because: []string{ev.Text},
				Do: "give every member the same type, or the new type a key of its own"})
		}
	}
}
