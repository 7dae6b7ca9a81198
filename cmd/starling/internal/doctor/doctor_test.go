package doctor

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// viewsOf are those of members that work.
func viewsOf(names ...string) (views []View) {
	for _, self := range names {
		s := &starlingstatus.Status{Time: noon, Self: self, Ready: true}
		for _, name := range names {
			s.Members = append(s.Members, starlingstatus.Member{
				Name: name, ID: "id of " + name, Addr: name + ":7946", State: starlingstatus.StateAlive, Self: name == self, Version: 2,
				RTT: starlingstatus.Duration(time.Millisecond), Heard: starlingstatus.Duration(time.Second),
			})
		}
		views = append(views, View{At: self, Asked: noon, Answered: noon, Status: s})
	}
	return views
}

// TestSymptoms: what has no cause that is known is told as it looks, once.
func TestSymptoms(t *testing.T) {
	event := func(kind, member string, ago time.Duration) starlingstatus.Event {
		return starlingstatus.Event{Time: noon.Add(-ago), Kind: kind, Member: member, Channel: "k", Text: kind}
	}
	for name, c := range map[string]struct {
		fault   Fault // empty: there is none
		members []string
		plant   func(views []View)
	}{
		"nothing": {"", nil, func([]View) {}},
		"silent":  {Silent, []string{"c"}, func(v []View) { v[0].Status.Members[2].State, v[1].Status.Members[2].State = "silent", "silent" }},
		"failed":  {Failed, []string{"d"}, func(v []View) { v[0].Status.Happened = []starlingstatus.Event{event("failed", "d", time.Minute)} }},
		"failed once": {"", nil, func(v []View) {
			v[0].Status.Happened = []starlingstatus.Event{event("joined", "c", 0), event("failed", "c", time.Minute)}
		}},
		"failed an hour ago": {"", nil, func(v []View) { v[0].Status.Happened = []starlingstatus.Event{event("failed", "d", time.Hour)} }},
		"flaps": {Flaps, []string{"c"}, func(v []View) {
			v[0].Status.Happened = []starlingstatus.Event{event("joined", "c", 0), event("failed", "c", time.Second), event("failed", "c", time.Minute)}
		}},
		"other type": {OtherType, []string{"a", "c"}, func(v []View) { v[0].Status.Happened = []starlingstatus.Event{event("other type", "c", time.Hour)} }},
		"other type, left since": {"", nil, func(v []View) {
			v[0].Status.Happened = []starlingstatus.Event{event("left", "c", time.Minute), event("other type", "c", time.Hour)}
		}},
		"lost": {Lost, []string{"b"}, func(v []View) { v[1].Status.Gaps = []starlingstatus.Gap{{Time: noon, Origin: "a", First: 1, Last: 2}} }},
		"lost, of one that is not reached": {SameName, []string{"c"}, func(v []View) {
			v[0].Status.Happened = []starlingstatus.Event{event("conflict", "c", 0)}
			v[1].Status.Gaps = []starlingstatus.Gap{{Time: noon, Origin: "c", First: 1, Last: 2}}
		}},
		"not ready":    {Unready, []string{"b"}, func(v []View) { v[1].Status.NotReady = &starlingstatus.NotReady{Reason: "state", Text: "waits"} }},
		"a moment ago": {"", nil, func(v []View) { v[1].Status.NotReady = &starlingstatus.NotReady{Reason: "unsettled"} }},
		"skew of a Map": {WrongClock, []string{"b"}, func(v []View) {
			v[1].Status.Maps = []starlingstatus.MapState{{Key: "m", Skew: starlingstatus.Duration(10 * time.Second)}}
		}},
		"a slow answer": {"", nil, func(v []View) { v[1].Answered = noon.Add(9 * time.Second) }},
		"our own clock": {WrongClock, []string{}, func(v []View) {
			for i := range v {
				v[i].Status.Time = noon.Add(time.Minute)
			}
		}},
		"asked twice": {"", nil, func(v []View) { v[1] = v[0] }},
		"refused long ago": {"", nil, func(v []View) {
			v[0].Status.Refused = []starlingstatus.Refusal{{Reason: "label", Count: 9, From: "x:1", Last: noon.Add(-time.Hour)}}
		}},
		"of another protocol": {"", nil, func(v []View) {
			v[0].Status.Refused = []starlingstatus.Refusal{{Reason: "other", Count: 9, From: "x:1", Last: noon}}
		}},
		"in plain text": {OtherKeys, []string{"a", "b", "c"}, func(v []View) {
			v[0].Status.Keys = &starlingstatus.Keys{Uses: "k", Accepts: []string{"k"}}
			v[0].Status.Members, v[1].Status.Members = v[0].Status.Members[:1], v[1].Status.Members[1:]
			v[2].Status.Members = v[2].Status.Members[1:]
		}},
	} {
		t.Run(name, func(t *testing.T) {
			views := viewsOf("a", "b", "c")
			c.plant(views)
			found := Examine(views)
			text, _ := json.Marshal(found)
			if c.fault == "" && len(found) > 0 || c.fault != "" && (len(found) != 1 || found[0].Fault != c.fault || !slices.Equal(found[0].Members, c.members)) {
				t.Errorf("want %q of %v, found %s", c.fault, c.members, text)
			}
		})
	}
}

// TestNonsense: whatever a page says, the doctor only finds something or not.
func TestNonsense(t *testing.T) {
	Examine(nil)
	Examine([]View{{Status: &starlingstatus.Status{}}, {Status: &starlingstatus.Status{Self: "a"}}})
	views := viewsOf("a", "b")
	views[0].Status.Members = nil
	views[1].Status.Happened = []starlingstatus.Event{{Kind: "conflict"}, {Kind: "other type"}, {Kind: "failed"}}
	views[1].Status.Seeds = []starlingstatus.Seed{{}}
	views[1].Status.Refused = []starlingstatus.Refusal{{Reason: "label"}, {}}
	Examine(views)
}
