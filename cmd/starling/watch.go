package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

// note is one thing that happened.
type note struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // as starling.EventKind says it, or one of those below
	Member  string    `json:"member,omitempty"`
	Channel string    `json:"channel,omitempty"`
	Text    string    `json:"text"`
}

// Kinds of notes that no event of Starling is.
const (
	kindSees    = "sees" // the first, and whenever the page answers again
	kindGap     = "gap"
	kindDrop    = "drop"
	kindState   = "state" // of a member: alive, silent, foreign
	kindReady   = "ready"
	kindSeed    = "seed"
	kindRefused = "refused"
	kindKeys    = "keys"
	kindAway    = "away" // the page does not answer
)

func watchFlags(fs *flag.FlagSet, o *options) {
	fs.DurationVar(&o.lasts, "for", 0, "how long to watch; 0: until it is interrupted")
}

// watch shows what happens until ctx ends.
func watch(ctx context.Context, o *options, s screen) (int, error) {
	from, end, err := o.open(ctx, observerNeeds{})
	if err != nil {
		return exitFailed, err
	}
	defer end()
	if o.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.lasts)
		defer cancel()
	}
	var before *starlingstatus.Status
	away := ""
	for status, err := range from.follow(ctx) {
		var notes []note
		switch {
		case err != nil:
			if away != err.Error() {
				notes = []note{{time.Now(), kindAway, "", "", err.Error()}}
			}
			away, before = err.Error(), nil
		default:
			away, notes, before = "", news(before, status), status
		}
		for _, n := range notes {
			if err = show(s, o.json, n); err != nil {
				return exitFailed, err
			}
		}
	}
	return exitFine, nil
}

func show(s screen, asJSON bool, n note) error {
	if asJSON {
		return writeLine(s.out, n)
	}
	_, err := fmt.Fprintf(s.out, "%s  %-8s %s\n", clock(n.Time), oneLine(n.Kind), oneLine(n.Text))
	return err
}

// news returns what has happened between two pictures of one member, oldest first; before may be nil.
func news(before, s *starlingstatus.Status) (notes []note) {
	add := func(kind, member, channel, format string, args ...any) {
		notes = append(notes, note{s.Time, kind, member, channel, fmt.Sprintf(format, args...)})
	}
	if before == nil || before.Self != s.Self {
		add(kindSees, s.Self, "", "%s", summary(s))
		return notes
	}
	for i := len(s.Happened) - 1; i >= 0; i-- { // the newest is the first
		if e := s.Happened[i]; newer(e.Time, len(before.Happened), func(j int) time.Time { return before.Happened[j].Time }) {
			notes = append(notes, note{e.Time, e.Kind, e.Member, e.Channel, e.Text})
		}
	}
	for i := len(s.Gaps) - 1; i >= 0; i-- {
		if g := s.Gaps[i]; newer(g.Time, len(before.Gaps), func(j int) time.Time { return before.Gaps[j].Time }) {
			notes = append(notes, note{g.Time, kindGap, g.Origin, "", fmt.Sprintf("messages %d to %d of %s are lost to %s", g.First, g.Last, g.Origin, s.Self)})
		}
	}
	was := map[string]string{}
	for _, m := range before.Members {
		was[m.Name+m.ID] = m.State
	}
	for _, m := range s.Members {
		if state, known := was[m.Name+m.ID]; known && state != m.State {
			add(kindState, m.Name, "", "%s is %s, and was %s", m.Name, m.State, state)
		}
	}
	dropped := map[[2]string]uint64{}
	for _, d := range before.Drops {
		dropped[[2]string{d.Reason, d.Direction}] = d.Count
	}
	for _, d := range s.Drops {
		if n := d.Count - min(d.Count, dropped[[2]string{d.Reason, d.Direction}]); n > 0 {
			add(kindDrop, "", "", "%d dropped, %s: %s", n, d.Direction, d.Reason)
		}
	}
	return append(notes, newTrouble(before, s)...)
}

// newTrouble returns what has changed in how the member is doing.
func newTrouble(before, s *starlingstatus.Status) (notes []note) {
	add := func(kind, format string, args ...any) {
		notes = append(notes, note{s.Time, kind, s.Self, "", fmt.Sprintf(format, args...)})
	}
	switch {
	case s.NotReady != nil && (before.NotReady == nil || before.NotReady.Text != s.NotReady.Text):
		add(kindReady, "%s", s.NotReady.Text)
	case s.NotReady == nil && before.NotReady != nil:
		add(kindReady, "%s is ready", s.Self)
	}
	seeds := map[string]bool{}
	for _, seed := range before.Seeds {
		seeds[seed.Seed] = true
	}
	for _, seed := range s.Seeds {
		if !seeds[seed.Seed] {
			add(kindSeed, "no member answers at the seed %s: %s", seed.Seed, seed.Error)
		}
	}
	refused := map[string]uint64{}
	for _, r := range before.Refused {
		refused[r.Reason] = r.Count
	}
	for _, r := range s.Refused {
		if n := r.Count - min(r.Count, refused[r.Reason]); n > 0 {
			add(kindRefused, "refused %d times what came, the last time from %s (%s): %s", n, r.From, r.Reason, r.Said)
		}
	}
	if a, b := before.Keys, s.Keys; a != nil && b != nil && a.Uses != b.Uses {
		add(kindKeys, "%s sends by the key %s, and sent by %s", s.Self, b.Uses, a.Uses)
	}
	return notes
}

// newer reports whether t is after all of n times. at returns the i-th of them; the first is the latest.
func newer(t time.Time, n int, at func(int) time.Time) bool { return n == 0 || t.After(at(0)) }
