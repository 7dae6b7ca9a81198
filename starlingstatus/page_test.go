package starlingstatus

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

const maxPage = 150_000 // bytes of the page, however many members there are

// TestPageSize: the page of a thousand members has all of them, and keeps within its size.
func TestPageSize(t *testing.T) {
	w := ask(pageOf(manyMembers(1000)), http.MethodGet, "/")
	if n := w.Body.Len(); n > maxPage {
		t.Errorf("the page of 1,000 members has %d bytes", n)
	}
	t.Logf("%d bytes", w.Body.Len())
	if n := strings.Count(w.Body.String(), `<tr id="m`); n != 1000 {
		t.Errorf("%d members are in the table", n)
	}
	if err := want(w.Body.String(), `<td class="bad">11s<td>1 undecodable, 3 late`); err != nil { // a handler that hangs
		t.Error(err)
	}
}

// TestHostilePage: what members call themselves is text, and does not make the page larger than it may be. Those with trouble are on it.
func TestHostilePage(t *testing.T) {
	f := manyMembers(5000)
	evil := `</td><script>alert("1")</script><img src=x onerror='alert(1)'>` + strings.Repeat(`"`, 60)
	f.stats.Channels = map[string]starling.ChannelStats{}
	for i := range f.members {
		f.members[i].Name = fmt.Sprint(i, evil)
		f.members[i].Meta = []byte(strings.Repeat(evil, 3))
		f.stats.Channels[fmt.Sprint(i, evil)] = starling.ChannelStats{}
	}
	f.keys = starling.KeyringStatus{Uses: "k", Wants: "w", Lagging: []string{f.members[77].Name, f.members[78].Name}}
	f.health.Silent = f.members[4999:]
	f.health.NotReady = &starling.NotReadyError{Reason: starling.NotReadyState, Channel: evil, Members: f.members}
	p := pageOf(f)
	values := []Value{}
	for range maxValues {
		values = append(values, Value{cut(evil+evil, maxText), cut(evil+evil, maxText)})
	}
	for range 20 {
		p.o.Maps = append(p.o.Maps, Map{func() MapState { return MapState{Key: evil, Values: values} }})
	}
	body := ask(p, http.MethodGet, "/").Body.String()
	if len(body) > maxPage {
		t.Errorf("the page has %d bytes", len(body))
	}
	if n := strings.Count(body, "<script"); n != 1 || strings.Contains(body, "<img") {
		t.Errorf("%d scripts in the page, or an image", n)
	}
	if err := want(body, "<th>4999", "<td>silent", "<th>77", "alive, lags (keys)", "which the JSON has"); err != nil {
		t.Error(err)
	}
	for _, few := range []int{1, 2, 24, 60, 61, 300} {
		f.members = f.members[:max(few, 1)]
		if few == 1 {
			f = manyMembers(300)
			continue
		}
		if n := ask(pageOf(f), http.MethodGet, "/").Body.Len(); n > maxPage {
			t.Errorf("%d members: %d bytes", few, n)
		}
	}
}

// TestJSONShape holds the names and values of the JSON to a file. Whoever changes it on purpose writes it anew: UPDATE=1 go test.
func TestJSONShape(t *testing.T) {
	f := manyMembers(3)
	f.stats.Channels = map[string]starling.ChannelStats{"prices": f.stats.Channels["channel-00"]}
	f.stats.Dropped = map[starling.Drop]uint64{starling.DropStreamFailed: 1, starling.DropTooOld: 2}
	f.health.NotReady = &starling.NotReadyError{Reason: starling.NotReadyState, Channel: "prices", Members: f.members[1:2]}
	f.members[2].ID, f.members[2].Version = 0, 0
	f.keys = starling.KeyringStatus{
		Uses: "aaaa", Wants: "bbbb", Accepts: []string{"bbbb", "aaaa"}, Dropped: []string{"cccc"}, Lagging: []string{f.members[1].Name},
		Members: []starling.MemberKeys{{Name: f.members[1].Name, Uses: "aaaa"}},
	}
	f.contacts = starling.Contacts{
		Label: "eu", Heard: map[string]time.Time{f.members[1].Name: time.Now().Add(-time.Hour)},
		Seeds:   []*starling.SeedError{{Seed: "10.0.0.9:7946", Err: errors.New("refused")}},
		Refused: []starling.Refusal{{Reason: starling.RefusedLabel, Count: 3, From: "10.0.0.8:7946", Last: time.Unix(7, 0).UTC(), Said: "unacceptable label"}},
	}
	p := pageOf(f)
	p.recent.gaps, p.recent.happened = p.recent.gaps[:1], p.recent.happened[:1]
	p.o.Zone = func(m starling.Member) string { return string(m.Meta) }
	p.o.Maps = []Map{{func() MapState {
		return MapState{Key: "flags", Entries: 2, Skew: Duration(1500 * time.Microsecond), Values: []Value{{"dark", "true"}}}
	}}}
	w := ask(p, http.MethodGet, "/", "Accept", "application/json")
	var s Status
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Time.IsZero() || s.Members[1].RTT != Duration(2*time.Microsecond) {
		t.Errorf("read back: %v, %v", s.Time, s.Members[1].RTT)
	}
	if h := &s.Members[1].Heard; *h < Duration(time.Hour) || *h > Duration(2*time.Hour) {
		t.Errorf("heard %v ago", *h)
	} else {
		*h = Duration(time.Hour)
	}
	s.Time = time.Unix(0, 0).UTC()
	for i := range s.Gaps {
		s.Gaps[i].Time, s.Happened[i].Time = s.Time, s.Time
	}
	got, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const golden = "testdata/status.json"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if wanted, err := os.ReadFile(golden); err != nil || string(wanted) != string(got) {
		t.Errorf("the JSON is not that of %s (%v):\n%s", golden, err, got)
	}
}

// TestPaths: what is asked for, and how, decides the answer.
func TestPaths(t *testing.T) {
	p := pageOf(manyMembers(3))
	mounted := http.StripPrefix("/a/b", p)
	for _, c := range []struct {
		method, path, accept string
		code                 int
		kind                 string
	}{
		{"GET", "/a/b/", "", 200, "text/html; charset=utf-8"},
		{"GET", "/a/b/", "*/*", 200, "text/html; charset=utf-8"},
		{"GET", "/a/b/", "text/html,application/xhtml+xml,*/*;q=0.8", 200, "text/html; charset=utf-8"},
		{"GET", "/a/b/", "text/html;q=0.5, application/json", 200, "application/json"},
		{"GET", "/a/b/", "application/json;q=0.5, text/html", 200, "text/html; charset=utf-8"},
		{"HEAD", "/a/b/", "", 200, "text/html; charset=utf-8"},
		{"GET", "/a/b/style.css", "", 200, "text/css; charset=utf-8"},
		{"GET", "/a/b/page.js", "", 200, "text/javascript; charset=utf-8"},
		{"GET", "/a/b/page/page.html", "", 404, "text/plain; charset=utf-8"},
		{"GET", "/a/b", "", 307, ""},
		{"GET", "/a/b/probe", "", 405, "text/plain; charset=utf-8"},
		{"POST", "/a/b/", "", 405, "text/plain; charset=utf-8"},
	} {
		w := ask(mounted, c.method, c.path, "Accept", c.accept)
		if kind := w.Header().Get("Content-Type"); w.Code != c.code || kind != c.kind {
			t.Errorf("%s %s (%s): %d %s", c.method, c.path, c.accept, w.Code, kind)
		}
		if err := want(w.Header().Get("Content-Security-Policy"), "default-src 'none'", "script-src 'self'"); err != nil {
			t.Error(err)
		}
	}
	for path, to := range map[string]string{"/a/b": "./b/", "/a/b?x=//evil": "./b/"} {
		if at := ask(mounted, "GET", path).Header().Get("Location"); at != to {
			t.Errorf("%s is redirected to %s", path, at)
		}
	}
	body := ask(mounted, "GET", "/a/b/").Body.String()
	for _, no := range []string{"<style", "style=", "onclick", "onload", `="/`, "http:", "https:"} {
		if strings.Contains(body, no) {
			t.Errorf("the page has %s", no)
		}
	}
}

// TestMetadata: metadata that is no text is shown in hex.
func TestMetadata(t *testing.T) {
	for meta, shown := range map[string]string{"zone-a": "zone-a", "\x00\x01": "0001", "a\nb": "610a62", "\xff": "ff", "": ""} {
		if s := metaText(starling.Member{Meta: []byte(meta)}); s != shown {
			t.Errorf("%q is shown as %q", meta, s)
		}
	}
}

// BenchmarkPage makes the page of a thousand members.
func BenchmarkPage(b *testing.B) {
	p := pageOf(manyMembers(1000))
	b.ReportAllocs()
	for b.Loop() {
		ask(p, http.MethodGet, "/")
	}
}
