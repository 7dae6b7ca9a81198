package starlingstatus

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
)

// listener is a browser or a program that waits for events.
type listener struct {
	*httptest.ResponseRecorder
	mu     sync.Mutex
	stop   context.CancelFunc
	ended  chan struct{}
	stalls bool // it takes nothing
}

func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalls {
		return 0, context.DeadlineExceeded // what a connection says when its deadline is over
	}
	return l.ResponseRecorder.Write(b)
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Body.String()
}

func listenTo(h http.Handler, path string) *listener {
	ctx, stop := context.WithCancel(context.Background())
	l := &listener{ResponseRecorder: httptest.NewRecorder(), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		h.ServeHTTP(l, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	}()
	return l
}

// TestEvents: a listener is told all at first, then what changes, once a second at most; nothing while nothing changes but a sign of life; and
// its place is free when it ends.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := manyMembers(5)
		p := pageOf(f)
		l := listenTo(p, "/events")
		time.Sleep(100 * time.Millisecond)
		for range 100 {
			f.set(func() { f.stats.Lost++ })
			time.Sleep(time.Millisecond)
		}
		f.set(func() { f.members, f.members[1].Version = f.members[:4], 9 })
		time.Sleep(10 * time.Second)
		text := l.text()
		if n := strings.Count(text, "event: "); n != 2 {
			t.Fatalf("%d events:\n%s", n, text)
		}
		_, data, _ := strings.Cut(text, "event: change\ndata: ")
		var c Change
		if err := json.NewDecoder(strings.NewReader(data)).Decode(&c); err != nil {
			t.Fatal(err)
		}
		if len(c.Members) != 1 || c.Members[0].Version != 9 || len(c.Gone) != 1 || c.Gone[0] != "price-server-0004" || c.Lost != 102 {
			t.Errorf("the change is %+v", c)
		}
		time.Sleep(20 * time.Second)
		if n := strings.Count(l.text(), ": alive\n\n"); n != 1 && n != 2 {
			t.Errorf("%d signs of life in 30 s", n)
		}
		l.stop()
		<-l.ended
		if n := len(p.listeners); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}

// TestFragments: the page is given all elements, and then those alone that change: of members their rows.
func TestFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := manyMembers(5)
		l := listenTo(pageOf(f), "/fragments")
		parts := func() map[string]string {
			time.Sleep(1500 * time.Millisecond)
			l.mu.Lock()
			defer l.mu.Unlock()
			var m map[string]string
			if _, data, ok := strings.Cut(l.Body.String(), "data: "); ok {
				if err := json.NewDecoder(strings.NewReader(data)).Decode(&m); err != nil {
					t.Fatal(err)
				}
			}
			l.Body.Reset()
			return m
		}
		if m := parts(); len(m) != 9 || !strings.Contains(m["members"], "price-server-0003") {
			t.Errorf("at first: %v", m)
		}
		if m := parts(); m != nil {
			t.Errorf("nothing has changed: %v", m)
		}
		f.set(func() { f.members[4].RTT = 88 * time.Millisecond })
		if m := parts(); len(m) != 1 || !strings.Contains(m["m4"], "88ms") {
			t.Errorf("a round trip: %v", m)
		}
		f.set(func() { f.members = f.members[:4] })
		if m := parts(); len(m) != 3 || strings.Contains(m["members"], "price-server-0004") || m["ring"] == "" || m["head"] == "" {
			t.Errorf("one has gone: %v", m)
		}
		l.stop()
		<-l.ended
	})
}

// TestListenersAreBounded: beyond their number they are refused; one that takes nothing loses its place; all end with the cluster.
func TestListenersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := manyMembers(2)
		o := withDefaults(&Options{Listeners: 2})
		p := newPage(f, o, ProbeOptions{})
		a, b := listenTo(p, "/events"), listenTo(p, "/fragments")
		synctest.Wait()
		if w := ask(p, http.MethodGet, "/events"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("the third: %d", w.Code)
		}
		a.mu.Lock()
		a.stalls = true
		a.mu.Unlock()
		f.set(func() { f.stats.Lost++ })
		<-a.ended
		c := listenTo(p, "/events")
		synctest.Wait()
		f.set(func() { f.health.NotReady = &starling.NotReadyError{Reason: starling.NotReadyClosed} })
		<-b.ended
		<-c.ended
		if err := want(c.text(), `"reason":"closed"`); err != nil {
			t.Error(err)
		}
	})
}
