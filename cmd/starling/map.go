package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingstatus"
)

func mapFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.owned, "owned", false, "with -seed: the Map has MapOptions.Owned; say it if it has, and only then")
	fs.DurationVar(&o.tombstones, "tombstones", starling.DefaultMapTombstones, "with -seed: the Map's MapOptions.Tombstones, as all members must have it")
	fs.DurationVar(&o.lasts, "for", 0, "watch: how long; 0: until it is interrupted")
}

// entry is a value of a Map.
type entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`         // as the page shows it; of an observer: as it is encoded, if that is text, else in hex
	Hex   bool   `json:"hex,omitempty"` // it is in hex
}

// change is what has become of an entry.
type change struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // as starling.ChangeKind says it; of a page "put", "delete" or kindAway
	entry
	From  string `json:"from,omitempty"`  // name of the member that has set it, if it is known
	Error string `json:"error,omitempty"` // of kindAway: why the page does not answer
}

func mapCommand(ctx context.Context, o *options, s screen) (int, error) {
	if len(o.args) < 2 || len(o.args) > 3 || o.args[0] != "get" && o.args[0] != "watch" {
		return exitFailed, errors.New("what of which Map? map get MAP [KEY], or map watch MAP [PREFIX]")
	}
	key, of := o.args[1], ""
	if len(o.args) == 3 {
		of = o.args[2]
	}
	m, end, err := o.openMap(ctx, key)
	if err != nil {
		return exitFailed, err
	}
	defer end()
	if o.args[0] == "watch" {
		if o.lasts > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.lasts)
			defer cancel()
		}
		return exitFine, m.watch(ctx, of, func(c change) error { return showChange(s, o.json, c) })
	}
	entries, err := m.all(ctx)
	if err != nil {
		return exitFailed, err
	}
	if len(o.args) == 3 {
		entries = slices.DeleteFunc(entries, func(e entry) bool { return e.Key != of })
	}
	if err := showEntries(s, o, entries); err != nil {
		return exitFailed, err
	}
	switch {
	case len(entries) > 0:
	case len(o.args) == 3:
		return exitNot, nil
	case !o.json && len(o.seeds) > 0: // of a page the Map would be an error
		fmt.Fprintf(s.err, "starling map: no member has an entry in a Map %q; who has no Map of that name says so in its log, as an unknown key\n", key)
	}
	return exitFine, nil
}

func showEntries(s screen, o *options, entries []entry) error {
	switch {
	case o.json:
		return writeJSON(s.out, entries)
	case len(o.args) == 3:
		for _, e := range entries {
			if s.live {
				e.Value = clean(e.Value)
			}
			fmt.Fprintln(s.out, e.Value)
		}
		return nil
	}
	rows := [][]string{{"KEY", "VALUE"}}
	for _, e := range entries {
		rows = append(rows, []string{e.Key, e.Value})
	}
	return table(s.out, rows)
}

func showChange(s screen, asJSON bool, c change) error {
	if asJSON {
		return writeLine(s.out, c)
	}
	text := fmt.Sprintf("%s  %-8s %s%s", clock(c.Time), c.Kind, c.Key, c.Error)
	if c.Kind == starling.ChangePut.String() {
		text += " = " + c.Value
	}
	if c.From != "" {
		text += "  (" + c.From + ")"
	}
	_, err := fmt.Fprintln(s.out, oneLine(text))
	return err
}

// openedMap is a Map to look at.
type openedMap interface {
	all(ctx context.Context) ([]entry, error)
	watch(ctx context.Context, prefix string, tell func(change) error) error
}

// openMap opens a Map: what a page shows of it, or as an observer's own. Whoever gets it calls end.
func (o *options) openMap(ctx context.Context, key string) (m openedMap, end func() error, err error) {
	if len(o.seeds) == 0 {
		s, end, err := o.open(ctx, observerNeeds{})
		return &shownMap{s, key, o.timeout}, end, err
	}
	own := new(ownMap)
	ob, err := o.observe(ctx, observerNeeds{open: func(c *starling.Cluster) (err error) {
		own.m, err = starling.NewMap(c, key, asItIs{}, &starling.MapOptions[[]byte]{Owned: o.owned, Tombstones: o.tombstones})
		return err
	}})
	if err != nil {
		return nil, nil, err
	}
	return own, ob.leave, nil
}

// asItIs is a codec that leaves values encoded. It says nothing of their type, so that a Map of any type is heard.
type asItIs struct{}

func (asItIs) Append(b, v []byte) ([]byte, error) { return append(b, v...), nil }
func (asItIs) Decode(b []byte) ([]byte, error)    { return b, nil }

// ownMap is a Map of an observer.
type ownMap struct{ m *starling.Map[[]byte] }

func (o *ownMap) all(context.Context) (entries []entry, err error) {
	entries = []entry{}
	for key, v := range o.m.All() {
		entries = append(entries, entryOf(key, v))
	}
	return entries, nil
}

func (o *ownMap) watch(ctx context.Context, prefix string, tell func(change) error) error {
	for c := range o.m.Watch(ctx, prefix) {
		if err := tell(change{Time: time.Now(), Kind: c.Kind.String(), entry: entryOf(c.Key, c.Value), From: c.From.Name}); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(key string, v []byte) entry {
	text := string(v)
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		return entry{Key: key, Value: text}
	}
	return entry{Key: key, Value: hex.EncodeToString(v), Hex: true}
}

// shownMap is what a page shows of a Map: its first 100 values, if it was told to show values.
type shownMap struct {
	s       *source
	key     string
	timeout time.Duration
}

func (m *shownMap) all(ctx context.Context) ([]entry, error) {
	status, err := m.s.status(ctx, m.timeout)
	if err != nil {
		return nil, err
	}
	entries, _, err := m.in(status)
	return entries, err
}

// in returns the entries of the Map in what the page shows, and whether these are all.
func (m *shownMap) in(s *starlingstatus.Status) (entries []entry, whole bool, err error) {
	entries = []entry{}
	var of *starlingstatus.MapState
	for i := range s.Maps {
		if shown := &s.Maps[i]; shown.Key == m.key && (of == nil || len(shown.Values) > len(of.Values)) {
			of = shown
		}
	}
	switch {
	case of == nil:
		return nil, false, fmt.Errorf("%s: the page does not show a Map %q (starlingstatus.Options.Maps); -seed joins, and opens it", m.s.at, m.key)
	case len(of.Values) == 0 && of.Entries > 0:
		return nil, false, fmt.Errorf("%s: the page shows the size of the Map %q, and no values (starlingstatus.Values); -seed joins, and opens it", m.s.at, m.key)
	}
	for _, v := range of.Values {
		entries = append(entries, entry{Key: v.Key, Value: v.Text})
	}
	return entries, of.Entries <= len(of.Values), nil
}

// watch tells what changes on the page, and once when the page does not answer any more: it is asked again then.
func (m *shownMap) watch(ctx context.Context, prefix string, tell func(change) error) error {
	known := map[string]string{}
	away := ""
	for status, err := range m.s.follow(ctx) {
		var told []change
		switch {
		case err == nil:
			entries, whole, err := m.in(status)
			if err != nil {
				return err
			}
			away, told = "", changes(known, entries, whole, prefix, status.Time)
		case err.Error() != away:
			away = err.Error()
			told = []change{{Time: time.Now(), Kind: kindAway, Error: away}}
		}
		for _, c := range told {
			if err := tell(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// changes returns what has changed since known, and brings known up to date. Where entries are not the whole Map but its first ones, it forgets
// those behind them: nobody knows what becomes of these.
func changes(known map[string]string, entries []entry, whole bool, prefix string, now time.Time) (all []change) {
	there := map[string]bool{}
	last := ""
	for _, e := range entries {
		there[e.Key] = true
		last = max(last, e.Key)
		if was, ok := known[e.Key]; strings.HasPrefix(e.Key, prefix) && (!ok || was != e.Value) {
			known[e.Key] = e.Value
			all = append(all, change{Time: now, Kind: starling.ChangePut.String(), entry: e})
		}
	}
	for key := range known {
		if there[key] {
			continue
		}
		delete(known, key)
		if whole || key < last {
			all = append(all, change{Time: now, Kind: starling.ChangeDelete.String(), entry: entry{Key: key}})
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
