package starlingstatus

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// TestProbeIsRefused: from another site, while another one runs, soon after it, and where there is none.
func TestProbeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := manyMembers(3)
		sent := 0
		f.confirm = func(context.Context) error { sent++; time.Sleep(time.Second); return nil }
		f.send = func(context.Context, starling.Member) error { return nil }
		p := pageOf(f)
		probe := func(code int, headers ...string) {
			t.Helper()
			if w := ask(p, http.MethodPost, "http://here.example/probe", headers...); w.Code != code {
				t.Errorf("%v: %d %s", headers, w.Code, w.Body)
			} else if code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
				t.Error("it does not say when to try again")
			}
		}
		probe(http.StatusForbidden, "Sec-Fetch-Site", "cross-site")
		probe(http.StatusForbidden, "Sec-Fetch-Site", "same-site", "Origin", "http://other.here.example")
		probe(http.StatusForbidden, "Origin", "http://evil.example")
		if sent != 0 {
			t.Fatal("a refused probe was sent")
		}
		go probe(http.StatusOK, "Sec-Fetch-Site", "same-origin")
		time.Sleep(500 * time.Millisecond)
		probe(http.StatusTooManyRequests)
		time.Sleep(time.Second)
		probe(http.StatusTooManyRequests)
		time.Sleep(2 * time.Second)
		probe(http.StatusOK, "Origin", "http://here.example")
		time.Sleep(3 * time.Second)
		probe(http.StatusOK) // no browser
		p.probe.Off = "it is turned off"
		probe(http.StatusServiceUnavailable)
		if sent != 3 {
			t.Errorf("%d were sent", sent)
		}
	})
}

// TestProbeResult: the probe tells who lacks the message and why, and how long members take. Those that hang do not hold up the others.
func TestProbeResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := manyMembers(200)
		f.members[199].ID = 0 // foreign
		f.confirm = func(ctx context.Context) error {
			<-ctx.Done()
			missing := []starling.Missing{{Member: f.members[3], Reason: starling.MissingRefused}}
			for _, m := range f.members[10:110] {
				missing = append(missing, starling.Missing{Member: m, Reason: starling.MissingSilent})
			}
			return &starling.UnconfirmedError{Missing: missing, Err: ctx.Err()}
		}
		f.send = func(ctx context.Context, m starling.Member) error {
			switch i := m.ID >> 32; {
			case ctx.Err() != nil:
				return &starling.SendError{Reason: starling.SendNoAnswer}
			case i >= 10 && i < 110:
				<-ctx.Done()
				return &starling.SendError{Reason: starling.SendNoAnswer}
			case i == 5:
				return &starling.SendError{Reason: starling.SendBusy}
			case i == 6:
				time.Sleep(40 * time.Millisecond)
				return &starling.SendError{Reason: starling.SendNoChannel}
			}
			time.Sleep(2 * time.Millisecond)
			return nil
		}
		p := pageOf(f)
		w := ask(p, http.MethodPost, "/probe", "Accept", "application/json")
		var result Probe
		if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil {
			t.Fatal(err, w.Body)
		}
		if result.Confirmed || result.Took != Duration(DefaultProbeTimeout) || len(result.Answers) != 199 {
			t.Errorf("%v %v, %d answers", result.Confirmed, result.Took, len(result.Answers))
		}
		got := map[string]Answer{}
		for _, a := range result.Answers {
			a.ID = ""
			got[a.Member] = a
		}
		for name, a := range map[string]Answer{
			"price-server-0003": {Lacks: "refused", RTT: Duration(2 * time.Millisecond)},
			"price-server-0005": {Error: starling.SendBusy.String()},
			"price-server-0006": {RTT: Duration(40 * time.Millisecond)},
			"price-server-0020": {Lacks: "silent", Error: starling.SendNoAnswer.String()},
			"price-server-0150": {RTT: Duration(2 * time.Millisecond)},
			"price-server-0199": {Lacks: "foreign"},
		} {
			a.Member = name
			if got[name] != a {
				t.Errorf("%s: %+v", name, got[name])
			}
		}
		if result.Answers[0].Lacks == "" || result.Answers[101].Lacks == "" || result.Answers[102].Member != "price-server-0006" {
			t.Errorf("the order is %+v", result.Answers)
		}
		time.Sleep(time.Minute)
		w = ask(p, http.MethodPost, "/probe")
		if err := want(w.Body.String(), "not confirmed", "lacks it: silent", `width="100.0"`, "Back to the page"); err != nil || w.Body.Len() > maxPage {
			t.Error(w.Body.Len(), err)
		}
		f.confirm = func(context.Context) error { return starling.ErrClosed }
		time.Sleep(time.Minute)
		if err := want(ask(p, http.MethodPost, "/probe").Body.String(), "not sent", starling.ErrClosed.Error()); err != nil {
			t.Error(err)
		}
	})
}

// TestCluster: the pages of three real members. One crashes under a probe, and one has no page.
func TestCluster(t *testing.T) {
	pages := map[string]http.Handler{}
	maps := map[string]*starling.Map[bool]{}
	open := func(m *starlingtest.Member) (err error) {
		maps[m.Name], err = starling.NewMap(m.Cluster, "flags", starling.JSON[bool](), nil)
		if m.Name != "m2" && err == nil {
			pages[m.Name] = Handler(m.Cluster, &Options{Maps: []Map{Values(maps[m.Name], nil), Sizes(maps[m.Name])}})
		}
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		l.Must(maps["m2"].Set(t.Context(), "dark", true))
		time.Sleep(5 * time.Second)
		status := func() (s Status) {
			l.Must(json.Unmarshal(ask(pages["m0"], http.MethodGet, "/", "Accept", "application/json").Body.Bytes(), &s))
			return s
		}
		s := status()
		if !s.Ready || s.Self != "m0" || len(s.Members) != 3 || !s.Members[0].Self || s.Members[1].State != StateAlive {
			t.Errorf("%+v", s)
		}
		if len(s.Maps) != 2 || s.Maps[0].Entries != 1 || s.Maps[0].Values[0] != (Value{"dark", "true"}) || s.Maps[1].Values != nil {
			t.Errorf("maps: %+v", s.Maps)
		}
		if len(s.Happened) != 2 || s.Happened[0].Kind != "joined" { // by the others; it was there itself
			t.Errorf("happened: %+v", s.Happened)
		}
		probe := func() (result Probe) {
			time.Sleep(3 * time.Second)
			l.Must(json.Unmarshal(ask(pages["m0"], http.MethodPost, "/probe", "Accept", "application/json").Body.Bytes(), &result))
			return result
		}
		result := probe()
		if !result.Confirmed || len(result.Answers) != 2 || result.Answers[0].RTT == 0 || result.Answers[1].RTT == 0 {
			t.Errorf("%+v", result)
		}
		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2"}))
		result = probe()
		if a := result.Answers[0]; result.Confirmed || a.Member != "m2" || a.Lacks == "" || a.Error == "" || result.Answers[1].RTT == 0 {
			t.Errorf("cut off: %+v", result)
		}
		l.Net.Heal()
		listening := listenTo(pages["m0"], "/events")
		l.Crash("m2")
		time.Sleep(30 * time.Second)
		if s = status(); len(s.Members) != 2 || s.Happened[0].Kind != "failed" || s.Happened[0].Member != "m2" {
			t.Errorf("after a crash: %+v", s.Happened)
		}
		if again := Handler(l.Member("m0").Cluster, nil); ask(again, http.MethodPost, "/probe").Code != http.StatusServiceUnavailable {
			t.Error("a second page has a probe of the same key")
		}
		l.Crash("m0")
		<-listening.ended
		if err := want(ask(pages["m0"], http.MethodGet, "/").Body.String(), "not ready: closed"); err != nil {
			t.Error(err)
		}
	})
}
