package starling

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// testNode is a memberlist node of ours with that id; id 0 makes it foreign.
func testNode(name string, id uint64, port uint16, meta string) *memberlist.Node {
	n := &memberlist.Node{Name: name, Addr: net.IPv4(127, 0, 0, 1), Port: port, Meta: []byte(meta)}
	if id != 0 {
		n.Meta = wire.EncodeMeta(id, wire.OwnFeatures, []byte(meta))
	}
	return n
}

// news pulls all that r has to be told, as text.
func news(t *membership, r *reader) []string {
	var texts []string
	for e, ok, _ := t.pull(r); ok; e, ok, _ = t.pull(r) {
		text := fmt.Sprintf("%v %s/%d %s", e.Kind, e.Member.Name, e.Member.ID, e.Member.Meta)
		if e.Kind == EventConflict {
			text = fmt.Sprintf("%v %s %d %d", e.Kind, e.Member.Name, e.Member.Addr.Port(), e.Other.Addr.Port())
		}
		texts = append(texts, text)
	}
	return texts
}

// TestEvents tells a reader what it has to know, whatever happened while it did not read.
func TestEvents(t *testing.T) {
	a1, a1meta, a2, a3 := testNode("a", 11, 1, "m"), testNode("a", 11, 1, "n"), testNode("a", 12, 2, "m"), testNode("a", 13, 3, "m")
	for _, tt := range []struct {
		name   string
		before func(*membership) // has happened when the reader comes
		unread func(*membership) // happens while it has read what there was, and reads no more
		want   []string          // what it is told then
	}{
		{"joined", nil, func(t *membership) { t.NotifyJoin(a1) }, []string{"joined a/11 m"}},
		{"joined and updated", nil, func(t *membership) { t.NotifyJoin(a1); t.NotifyUpdate(a1meta) }, []string{"joined a/11 n"}},
		{"came and went", nil, func(t *membership) { t.NotifyJoin(a1); t.NotifyLeave(a1) }, nil},
		{"updated", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a1meta) }, []string{"updated a/11 n"}},
		{"updated and back", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a1meta); t.NotifyUpdate(a1) }, nil},
		{"the same again", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a1); t.NotifyJoin(a1) }, nil},
		{"round trip", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.setRTT("a", time.Second) }, nil},
		{"failed", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyLeave(a1) }, []string{"failed a/11 m"}},
		{"left", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.goodbye(11, false); t.NotifyLeave(a1) }, []string{"left a/11 m"}},
		{"updated and left", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a1meta); t.goodbye(11, false); t.NotifyLeave(a1) }, []string{"left a/11 n"}},
		{"goodbye of a stranger", func(t *membership) { t.goodbye(11, false); t.NotifyJoin(a1) }, func(t *membership) { t.NotifyLeave(a1) }, []string{"failed a/11 m"}},
		{"goodbye counts once", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) {
			t.goodbye(11, false)
			t.NotifyLeave(a1)
			t.NotifyJoin(a1)
			t.NotifyLeave(a1)
		}, []string{"failed a/11 m"}},
		{"left and back", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.goodbye(11, false); t.NotifyLeave(a1); t.NotifyJoin(a2) }, []string{"left a/11 m", "joined a/12 m"}},
		{"restart in place", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a2) }, []string{"failed a/11 m", "joined a/12 m"}},
		{"restart after goodbye", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.goodbye(11, false); t.NotifyUpdate(a2) }, []string{"left a/11 m", "joined a/12 m"}},
		{"restarts", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a2); t.NotifyUpdate(a3) }, []string{"failed a/11 m", "joined a/13 m"}},
		{"restart and end", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyUpdate(a2); t.goodbye(12, false); t.NotifyLeave(a2) }, []string{"failed a/11 m"}},
		{"conflict", func(t *membership) { t.NotifyJoin(a1) }, func(t *membership) { t.NotifyConflict(a1, a2); t.NotifyConflict(a1, a3) }, []string{"conflict a 1 3"}},
		{"foreign", nil, func(t *membership) { t.NotifyJoin(testNode("f", 0, 9, "theirs")) }, []string{"joined f/0 theirs"}},
		{"foreign fails", func(t *membership) { t.NotifyJoin(testNode("f", 0, 9, "theirs")) }, func(t *membership) { t.goodbye(0, false); t.NotifyLeave(testNode("f", 0, 9, "")) }, []string{"failed f/0 theirs"}},
		{"in order", nil, func(t *membership) { t.NotifyJoin(testNode("z", 1, 1, "")); t.NotifyJoin(a1) }, []string{"joined z/1 ", "joined a/11 m"}},
		{"unknown leaves", nil, func(t *membership) { t.NotifyLeave(a1) }, nil},
		{"self never leaves", nil, func(t *membership) { t.NotifyLeave(testNode("self", 10, 1, "")) }, nil},
	} {
		table := newMembership("self", nil)
		table.NotifyJoin(testNode("self", 10, 1, ""))
		if tt.before != nil {
			tt.before(table)
		}
		r := table.subscribe()
		if first := news(table, r); first[0] != "joined self/10 " {
			t.Errorf("%s: first told %q", tt.name, first)
		}
		tt.unread(table)
		if got := news(table, r); !slices.Equal(got, tt.want) {
			t.Errorf("%s: told %q, want %q", tt.name, got, tt.want)
		}
		if got := news(table, r); len(got) > 0 {
			t.Errorf("%s: told again %q", tt.name, got)
		}
	}
}

// TestEventsFirst: a new reader is told of everybody, self first, then by name.
func TestEventsFirst(t *testing.T) {
	table := newMembership("m", nil)
	for i, name := range []string{"z", "m", "a", "k"} {
		table.NotifyJoin(testNode(name, uint64(i+1), 1, ""))
	}
	want := []string{"joined m/2 ", "joined a/3 ", "joined k/4 ", "joined z/1 "}
	for range 2 {
		if got := news(table, table.subscribe()); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

// TestEventsUnread: a reader that never reads holds one record per name at most, and forgets those that came and went.
func TestEventsUnread(t *testing.T) {
	table := newMembership("self", nil)
	r := table.subscribe()
	for i := range 10_000 {
		n := testNode(fmt.Sprint("m", i%10), uint64(i+1), 1, fmt.Sprint(i))
		table.NotifyJoin(n)
		table.NotifyUpdate(testNode(n.Name, uint64(i+1), 1, "updated"))
		table.NotifyConflict(n, n)
		table.NotifyLeave(n)
	}
	if len(r.told) > 10 || len(r.queue) > 10 || cap(r.queue) > 1000 {
		t.Errorf("%d records, %d in the queue with room for %d", len(r.told), len(r.queue), cap(r.queue))
	}
	news(table, r)
	if len(r.told) != 0 || len(r.queue) != 0 {
		t.Errorf("%d records and %d names are left of nobody", len(r.told), len(r.queue))
	}
	// Names that never come back cost nothing either, once read.
	for i := range 1000 {
		n := testNode(fmt.Sprint("once", i), uint64(i+1), 1, "")
		table.NotifyJoin(n)
		news(table, r)
		table.NotifyLeave(n)
		news(table, r)
	}
	if len(r.told) != 0 {
		t.Errorf("%d records of nobody", len(r.told))
	}
	if len(table.gone.byID) > rememberGone || len(table.gone.ids) > rememberGone || len(table.names) != 0 || len(table.members) != 0 {
		t.Errorf("the table remembers %d gone, %d ids, %d names, %d members", len(table.gone.byID), len(table.gone.ids), len(table.names), len(table.members))
	}
}

// TestEventsAreTheReadersOwn: what a reader writes to metadata that it was told, no other reader and no list sees.
func TestEventsAreTheReadersOwn(t *testing.T) {
	table := newMembership("self", nil)
	table.NotifyJoin(testNode("a", 11, 1, "meta"))
	table.NotifyJoin(testNode("b", 12, 2, "meta"))
	readers := []*reader{table.subscribe(), table.subscribe()}
	table.NotifyConflict(testNode("a", 11, 1, "meta"), testNode("a", 13, 3, "meta"))
	table.gap(Gap{Origin: table.origin(11), First: 1, Last: 2})
	table.NotifyLeave(testNode("b", 12, 2, ""))
	table.gap(Gap{Origin: table.origin(12), First: 1, Last: 2})
	readers = append(readers, table.subscribe())
	for i, r := range readers {
		kinds := map[EventKind]int{}
		for e, ok, _ := table.pull(r); ok; e, ok, _ = table.pull(r) {
			kinds[e.Kind]++
			told := map[string][]byte{"Member": e.Member.Meta}
			switch e.Kind {
			case EventConflict:
				told["Other"] = e.Other.Meta
			case EventGap:
				told["Gap.Origin"] = e.Gap.Origin.Meta
			}
			for field, meta := range told {
				if string(meta) != "meta" {
					t.Errorf("reader %d: %v: %s has metadata %q", i, e.Kind, field, meta)
				}
				clear(meta)
			}
		}
		if i < 2 && (kinds[EventConflict] != 1 || kinds[EventGap] != 2) {
			t.Errorf("reader %d was told %v", i, kinds)
		}
	}
	for _, m := range append(table.list(), table.origin(11), table.origin(12)) {
		if string(m.Meta) != "meta" {
			t.Errorf("%s has metadata %q", m.Name, m.Meta)
		}
	}
}

// TestEventsLoop: the loop ends with the context, with the table, and with its body; each is a subscription of its own.
func TestEventsLoop(t *testing.T) {
	table := newMembership("self", nil)
	table.NotifyJoin(testNode("self", 1, 1, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := table.events(ctx)
	for range 2 {
		for e := range events {
			if e.Kind != EventJoined || e.Member.Name != "self" {
				t.Errorf("event %+v", e)
			}
			break
		}
	}
	seen := 0
	for range events {
		seen++
		cancel()
	}
	if seen != 1 {
		t.Errorf("%d events before the context ended", seen)
	}
	for range table.events(t.Context()) {
		table.close()
	}
	for e := range table.events(t.Context()) {
		t.Errorf("event of a closed table: %+v", e)
	}
	if len(table.readers) != 0 {
		t.Errorf("%d readers are left", len(table.readers))
	}
	table.NotifyJoin(testNode("late", 2, 1, ""))
	table.NotifyUpdate(testNode("self", 3, 1, ""))
	table.NotifyLeave(testNode("self", 3, 1, ""))
	if got := table.list(); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("the last picture changed: %+v", got)
	}
}

// TestEventsWake: a reader that waits hears of what comes.
func TestEventsWake(t *testing.T) {
	table := newMembership("self", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waits, heard := make(chan struct{}), make(chan string)
	go func() {
		defer close(heard)
		for e := range table.events(ctx) {
			if e.Member.Name == "first" {
				close(waits)
				continue
			}
			heard <- e.Member.Name
			cancel()
		}
	}()
	table.NotifyJoin(testNode("first", 1, 1, ""))
	<-waits
	table.NotifyJoin(testNode("second", 2, 1, ""))
	if name := <-heard; name != "second" {
		t.Errorf("heard of %q", name)
	}
	if _, more := <-heard; more {
		t.Error("the loop went on")
	}
}

// TestOrigin: the origin of a message has its name as long as it is remembered.
func TestOrigin(t *testing.T) {
	var changes []string
	table := newMembership("self", func(was, is Member) {
		changes = append(changes, fmt.Sprintf("%s %v > %s", was.Name, was.Status, is.Name))
	})
	if m := table.origin(5); m.ID != 5 || m.Name != "" || m.Status != StatusFailed {
		t.Errorf("never seen: %+v", m)
	}
	a := testNode("a", 5, 1, "meta")
	table.NotifyJoin(a)
	if m := table.origin(5); m.Name != "a" || m.Status != StatusAlive || !table.knows(5) {
		t.Errorf("alive: %+v", m)
	}
	table.goodbye(5, false)
	table.NotifyLeave(a)
	if m := table.origin(5); m.Name != "a" || m.Status != StatusLeft || string(m.Meta) != "meta" || table.knows(5) {
		t.Errorf("gone: %+v", m)
	}
	for i := range uint64(rememberGone) {
		n := testNode("b", 1000+i, 1, "")
		table.NotifyJoin(n)
		table.NotifyLeave(n)
	}
	if m := table.origin(5); m.Name != "" {
		t.Errorf("long gone: %+v", m)
	}
	if want := []string{" alive > a", "a left > ", " alive > b", "b failed > "}; !slices.Equal(changes[:4], want) {
		t.Errorf("changes %q, want %q", changes[:4], want)
	}
}

// TestTableCounts: alive and foreign members are counted through every change.
func TestTableCounts(t *testing.T) {
	table := newMembership("self", nil)
	expect := func(what string, alive, foreign int64) {
		t.Helper()
		if table.alive.Load() != alive || table.foreign.Load() != foreign {
			t.Errorf("%s: %d alive, %d foreign, want %d and %d", what, table.alive.Load(), table.foreign.Load(), alive, foreign)
		}
	}
	table.NotifyJoin(testNode("self", 1, 1, ""))
	table.NotifyJoin(testNode("f", 0, 2, ""))
	expect("joined", 2, 1)
	table.NotifyUpdate(testNode("f", 0, 2, "meta"))
	expect("updated", 2, 1)
	table.NotifyUpdate(testNode("f", 9, 2, ""))
	expect("became one of ours", 2, 0)
	table.NotifyUpdate(testNode("f", 0, 2, ""))
	expect("and foreign again", 2, 1)
	table.NotifyLeave(testNode("f", 0, 2, ""))
	expect("left", 1, 0)
}
