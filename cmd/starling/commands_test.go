package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingstatus"
	"github.com/starling-go/starling/starlingtest"
)

// observe runs a subcommand of an observer that joins m0, and returns what it prints.
func (w *pagedLab) observe(code int, name string, change func(*options)) string {
	w.t.Helper()
	return w.observeOn(false, code, name, change)
}

// observeOn is observe on a terminal or not.
func (w *pagedLab) observeOn(terminal bool, code int, name string, change func(*options)) string {
	w.t.Helper()
	tr, err := w.Net.Transport("observer")
	w.Must(err)
	o := &options{seeds: list{w.Member("m0").Cluster.Self().Addr.String()}, timeout: 10 * time.Second}
	o.observer.profile, o.observer.transport = "lan", tr
	if change != nil {
		change(o)
	}
	var out bytes.Buffer
	got, err := commands[name].run(context.Background(), o, screen{out: &out, err: &out, live: terminal})
	if got != code || err != nil {
		w.t.Errorf("%s: exit code %d, %v: %s", name, got, err, out.String())
	}
	w.WaitAll(time.Second) // it has left
	return out.String()
}

// says fails the test unless text contains all of the texts.
func says(t *testing.T, text string, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
}

// TestObserver: subcommands of a process that joins, and leaves when it is done.
func TestObserver(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		says(w.t, w.observe(exitFine, "members", nil), "sees 4 members, ready", "NAME", "m0 ", "10.0.0.3:7946", "observer-")
		says(w.t, w.observe(exitFine, "members", func(o *options) { o.json = true }), `"name": "m2"`)
		says(w.t, w.observe(exitFine, "probe", nil), "confirmed by 3 other members after", "m1", "█")
		says(w.t, w.observe(exitFine, "doctor", nil), "nothing is wrong, as far as 1 member can tell")
		out := w.observe(exitNot, "doctor", func(o *options) { o.seeds, o.json = append(o.seeds, "10.9.9.9:7946"), true })
		var r report
		if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Findings) != 1 || r.Findings[0].Fault != "seed" {
			w.t.Errorf("%v: %s", err, out)
		}
		crashed := make(chan struct{})
		go func() {
			defer close(crashed)
			time.Sleep(5 * time.Second)
			w.Crash("m2")
		}()
		out = w.observe(exitFine, "watch", func(o *options) { o.lasts = 30 * time.Second })
		says(w.t, out, "sees     observer-", "sees 4 members", "m2 failed")
		<-crashed
		w.Start("m2")
		out = w.observe(exitFine, "watch", func(o *options) { o.lasts, o.json = 10*time.Second, true })
		var n note
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&n); err != nil || n.Kind != kindSees {
			w.t.Errorf("%v: %s", err, out)
		}
	})
}

// at returns the page of a member.
func (w *pagedLab) at(name string) *source {
	s, err := pageAt(name)
	w.Must(err)
	s.do = inProcess{http.StripPrefix("/status", w.pages[name])}
	return s
}

// TestMap: an observer sees the values of a Map whose type it does not know, and is no trouble to those who do; a page shows what it was told to.
func TestMap(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		set := func(key string, value bool) { w.Must(w.flags["m1"].Set(context.Background(), key, value)) }
		set("checkout", true)
		set("dark", false)
		get := func(code int, args ...string) string {
			return w.observe(code, "map", func(o *options) { o.args, o.tombstones = args, starling.DefaultMapTombstones })
		}
		says(w.t, get(exitFine, "get", "flags"), "KEY       VALUE\ncheckout  true\ndark      false\n")
		says(w.t, get(exitFine, "get", "flags", "dark"), "false\n")
		get(exitNot, "get", "flags", "light")
		says(w.t, get(exitFine, "get", "flag"), "no member has an entry in a Map \"flag\"")
		changing := make(chan struct{})
		go func() {
			defer close(changing)
			time.Sleep(5 * time.Second)
			set("dark", true)
			_ = w.flags["m1"].Delete(context.Background(), "checkout")
		}()
		out := w.observe(exitFine, "map", func(o *options) {
			o.args, o.tombstones, o.lasts = []string{"watch", "flags"}, starling.DefaultMapTombstones, 10*time.Second
		})
		says(w.t, out, "put      checkout = true  (m1)", "synced", "put      dark = true  (m1)", "delete   checkout")
		<-changing
		for name := range w.pages {
			var s starlingstatus.Status
			w.Must(w.at(name).askJSON(context.Background(), http.MethodGet, "/", &s))
			for _, e := range s.Happened {
				if e.Kind == "other type" {
					w.t.Errorf("%s: %s", name, e.Text)
				}
			}
			if s.Maps[0].Entries != 1 {
				w.t.Errorf("%s has %+v", name, s.Maps)
			}
		}
		shown := &shownMap{s: w.at("m0"), key: "flags", timeout: time.Second}
		entries, err := shown.all(context.Background())
		if err != nil || fmt.Sprint(entries) != "[{dark true false}]" {
			w.t.Errorf("%v %v", entries, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		time.AfterFunc(3*time.Second, func() { set("light", true) })
		time.AfterFunc(6*time.Second, func() { _ = w.flags["m1"].Delete(ctx, "dark") })
		var got []string
		w.Must(shown.watch(ctx, "", func(c change) error {
			got = append(got, c.Kind+" "+c.Key+" "+c.Value)
			return nil
		}))
		if fmt.Sprint(got) != "[put dark true put light true delete dark ]" {
			w.t.Errorf("%q", got)
		}
		shown.key = "nothing"
		if _, err := shown.all(ctx); err == nil {
			w.t.Error("a Map that the page does not show")
		}
		shown.key = "flags"
		if _, _, err := shown.in(&starlingstatus.Status{Maps: []starlingstatus.MapState{{Key: "flags", Entries: 3}}}); err == nil {
			w.t.Error("a Map whose values are not shown")
		}
	})
}

// TestMapOfManyEntries: a page shows the first entries of a large Map. One that is pushed out by others is not deleted, and is put again when it
// is back: it may have changed.
func TestMapOfManyEntries(t *testing.T) {
	known := map[string]string{}
	shown := func(keys ...string) (entries []entry) {
		for _, key := range keys {
			entries = append(entries, entry{Key: key})
		}
		return entries
	}
	for i, step := range []struct {
		entries []entry
		whole   bool
		want    string
	}{
		{shown("c", "d", "e"), false, "[put c put d put e]"},
		{shown("a", "c", "d"), false, "[put a]"},
		{shown("a", "d", "e"), false, "[delete c put e]"},
		{shown("a", "d"), true, "[delete e]"},
	} {
		got := []string{}
		for _, c := range changes(known, step.entries, step.whole, "", time.Time{}) {
			got = append(got, c.Kind+" "+c.Key)
		}
		if fmt.Sprint(got) != step.want {
			t.Errorf("step %d: %v, want %s", i, got, step.want)
		}
	}
}

// TestMapWatchOutlivesPage: while the page does not answer it is asked again, and what has changed meanwhile is told.
func TestMapWatchOutlivesPage(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		set := func(value bool) { w.Must(w.flags["m1"].Set(context.Background(), "dark", value)) }
		set(true)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		page := w.at("m0")
		answers := page.do
		var down atomic.Bool
		page.do = roundTrip(func(r *http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, errors.New("the page is down")
			}
			requested, cut := context.WithTimeout(r.Context(), 5*time.Second) // each answer ends after a while
			context.AfterFunc(requested, cut)
			return answers.RoundTrip(r.WithContext(requested))
		})
		time.AfterFunc(3*time.Second, func() { down.Store(true) })
		time.AfterFunc(12*time.Second, func() { set(false); down.Store(false) })
		var got []string
		w.Must((&shownMap{s: page, key: "flags"}).watch(ctx, "", func(c change) error {
			if c.Kind != kindAway || strings.Contains(c.Error, "the page is down") {
				got = append(got, c.Kind+" "+c.Value)
			}
			return nil
		}))
		if fmt.Sprint(got) != "[put true away  put false]" {
			t.Errorf("%q", got)
		}
	})
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestMapUndecodable: bytes that are no text are shown in hex.
func TestMapUndecodable(t *testing.T) {
	for in, want := range map[string]entry{"{\"a\":1}\n": {"k", "{\"a\":1}\n", false}, "\x1b[2J": {"k", "1b5b324a", true}, "\xff": {"k", "ff", true}} {
		if got := entryOf("k", []byte(in)); got != want {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

// TestTop: rates, one picture in the place of the other on a terminal, whose screen is given back; without escape sequences where there is none.
func TestTop(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		out := w.observe(exitFine, "top", func(o *options) { o.every, o.frames, o.rows = 2*time.Second, 2, 3 })
		says(w.t, out, "sees 4 members", "a second: ", "NAME", "m0", "and 1 more")
		if strings.Contains(out, "\x1b") {
			w.t.Errorf("escapes where there is no terminal: %q", out)
		}
		out = w.observeOn(true, exitFine, "top", func(o *options) { o.every, o.frames, o.rows = 2*time.Second, 2, 3 })
		if !strings.HasPrefix(out, otherScreen+clearScreen) || strings.Count(out, clearScreen) != 2 || !strings.HasSuffix(out, ownScreen) {
			w.t.Errorf("on a terminal: %q", out)
		}
		out = w.observe(exitFine, "top", func(o *options) { o.every, o.frames, o.json = 2*time.Second, 1, true })
		var r rates
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Members != 4 {
			w.t.Errorf("%v: %s", err, out)
		}
	})
	s := &starlingstatus.Status{Time: time.Unix(0, 0), Self: "a"}
	from := &starlingstatus.Status{Time: time.Unix(-2, 0), Self: "a", Relayed: 7}
	s.Traffic.PacketsSent = 10
	s.Channels = []starlingstatus.Channel{{Key: "idle"}, {Key: "busy", Delivered: 4, HandlerTime: starlingstatus.Duration(time.Second)}}
	r := ratesOf(from, s)
	if r.PacketsSent != 5 || r.Relayed != 0 || r.Channels[0].Key != "busy" || r.Channels[0].Delivered != 2 || r.Channels[0].Busy != 0.5 {
		t.Errorf("%+v", r)
	}
}

// TestObserverJoinsNobody: it says why, and does not hang.
func TestObserverJoinsNobody(t *testing.T) {
	starlingtest.Run(t, 1, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		for _, seed := range []string{"10.9.9.9:7946", "dns+"} {
			tr, err := l.Net.Transport("observer")
			l.Must(err)
			o := &options{seeds: list{seed}, timeout: 3 * time.Second}
			o.observer.profile, o.observer.transport = "lan", tr
			code, err := members(context.Background(), o, screen{})
			if code != exitFailed || err == nil || !strings.Contains(err.Error(), seed) {
				t.Errorf("%d, %v", code, err)
			}
		}
	})
}

// TestPage: subcommands over HTTP, on a member that is alone.
func TestPage(t *testing.T) {
	c, err := starling.New(starling.Config{Name: "m\x1b[2Jx", BindAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mux := http.NewServeMux()
	mux.Handle("/status/", http.StripPrefix("/status", starlingstatus.Handler(c, nil)))
	mux.HandleFunc("/null/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, "null")
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer server.CloseClientConnections()
	at := strings.TrimPrefix(server.URL, "http://")
	for _, test := range []struct {
		code  int
		args  string
		texts []string
	}{
		{exitFine, "members -at 127.0.0.1:1," + at, []string{"m�[2Jx sees 1 member, ready", "alive, asked"}},
		{exitFine, "members -json -at " + server.URL + "/status", []string{`"self": true`}},
		{exitFine, "probe -at " + at, []string{"confirmed by 0 other members"}},
		{exitFine, "watch -for 1ns -at " + at, nil},
		{exitFailed, "members -at 127.0.0.1:1", []string{"starling members: 127.0.0.1:1: dial tcp"}},
		{exitFailed, "members -at " + c.Self().Addr.String(), []string{"is that the port of the HTTP server that has the page, and not the cluster's?"}},
		{exitFailed, "members -at " + at + "/nothing", []string{"404 Not Found"}},
		{exitFailed, "members -at " + at + "/null", []string{"it is no page of package starlingstatus"}},
		{exitFailed, "members -at ftp://x", []string{"no host:port"}},
		{exitFailed, "doctor -no-probe -at 127.0.0.1:1", []string{"127.0.0.1:1"}},
		{exitFailed, "members", []string{"whom shall it ask?"}},
		{exitFailed, "members -at x -seed y", []string{"either -at or -seed"}},
		{exitFailed, "members x -at y", []string{"no argument"}},
		{exitFailed, "members -key-file /nowhere -seed 127.0.0.1:1", []string{"-key-file /nowhere"}},
		{exitFailed, "members -tls-ca /nowhere -seed 127.0.0.1:1", []string{"-tls-cert"}},
		{exitFailed, "members -profile moon -seed 127.0.0.1:1", []string{"moon"}},
		{exitFailed, "frobnicate", []string{"COMMAND -at"}},
		{exitFine, "help", []string{"COMMAND -at", "doctor"}},
		{exitFine, "probe -h", []string{"-seed"}},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), screen{out: &out, err: &out}); code != test.code {
			t.Errorf("%s: exit code %d: %s", test.args, code, out.String())
		}
		says(t, out.String(), test.texts...)
		if strings.ContainsRune(out.String(), '\x1b') {
			t.Errorf("%s: what a member calls itself moves the cursor: %q", test.args, out.String())
		}
	}
}

// TestNews: each change is told once, oldest first.
func TestNews(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	a := &starlingstatus.Status{Time: at(10), Self: "a", Members: []starlingstatus.Member{{Name: "b", ID: "1", State: "alive"}}, Happened: []starlingstatus.Event{
		{Time: at(9), Kind: "joined", Member: "b", Text: "b joined"}}, Drops: []starlingstatus.Drop{{Reason: "late", Direction: "inbound", Count: 3}}}
	b := &starlingstatus.Status{Time: at(20), Self: "a", Members: []starlingstatus.Member{{Name: "b", ID: "1", State: "silent"}}, Happened: []starlingstatus.Event{
		{Time: at(12), Kind: "failed", Member: "d", Text: "d failed"}, {Time: at(11), Kind: "joined", Member: "d", Text: "d joined"}, a.Happened[0]},
		Drops:    []starlingstatus.Drop{{Reason: "late", Direction: "inbound", Count: 5}},
		Gaps:     []starlingstatus.Gap{{Time: at(13), Origin: "d", First: 1, Last: 2}},
		NotReady: &starlingstatus.NotReady{Text: "alone"}, Seeds: []starlingstatus.Seed{{Seed: "s", Error: "refused"}},
		Refused: []starlingstatus.Refusal{{Reason: "label", Count: 2, From: "x"}}}
	var got []string
	for _, n := range news(a, b) {
		got = append(got, n.Kind+": "+n.Text)
	}
	want := []string{"joined: d joined", "failed: d failed", "gap: messages 1 to 2 of d are lost to a", "state: b is silent, and was alive",
		"drop: 2 dropped, inbound: late", "ready: alone", "seed: no member answers at the seed s: refused", "refused: refused 2 times what came, the last time from x (label): "}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if n := news(b, b); len(n) > 0 {
		t.Errorf("again: %v", n)
	}
}

// TestWhole: changes put together are what the page shows.
func TestWhole(t *testing.T) {
	m := func(name, state string) starlingstatus.Member { return starlingstatus.Member{Name: name, State: state} }
	s := whole(nil, starlingstatus.Change{Status: starlingstatus.Status{Members: []starlingstatus.Member{m("a", "alive"), m("c", "alive"), m("d", "alive")}}})
	s = whole(s, starlingstatus.Change{Status: starlingstatus.Status{Lost: 7, Members: []starlingstatus.Member{m("b", "alive"), m("d", "silent")}}, Gone: []string{"c"}})
	var got []string
	for _, m := range s.Members {
		got = append(got, m.Name+" "+m.State)
	}
	if fmt.Sprint(got) != "[a alive b alive d silent]" || s.Lost != 7 {
		t.Errorf("%v", got)
	}
}
