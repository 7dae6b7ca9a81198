package starlingstatus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"
)

const (
	listenEvery = time.Second      // at most one event in so long
	listenAlive = 15 * time.Second // after so long without one a comment is sent, so that a dead connection is noticed
	writeWithin = 10 * time.Second // a listener that takes nothing for so long is given up
)

// shared is a picture that all listeners have in common, so that many cost no more than one. Safe for concurrent use.
type shared struct {
	mu      sync.Mutex
	status  *Status
	picture *picture // of status; nil until a page asks for it
}

// look returns the status as it was a second ago at most.
func (p *page) look() *Status {
	p.shared.mu.Lock()
	defer p.shared.mu.Unlock()
	if s := p.shared.status; s == nil || time.Since(s.Time) >= listenEvery {
		p.shared.status, p.shared.picture = p.status(), nil
	}
	return p.shared.status
}

// lookAt is look, with the page's elements.
func (p *page) lookAt() (*Status, *picture) {
	p.look()
	p.shared.mu.Lock()
	defer p.shared.mu.Unlock()
	if p.shared.picture == nil {
		drawn := draw(p.shared.status)
		p.shared.picture = &drawn
	}
	return p.shared.status, p.shared.picture
}

// serveEvents tells a program what changes.
func (p *page) serveEvents(w http.ResponseWriter, r *http.Request) {
	var told *Status
	p.listen(w, r, func() (*Status, string, any) {
		s := p.look()
		before := told
		told = s
		switch {
		case before == nil:
			return s, "status", s
		case before == s || same(before, s):
			return s, "", nil
		}
		return s, "change", change(before, s)
	})
}

// serveFragments gives the page the elements that have changed: all of them at first, for it may have been away.
func (p *page) serveFragments(w http.ResponseWriter, r *http.Request) {
	told := &picture{}
	p.listen(w, r, func() (*Status, string, any) {
		s, drawn := p.lookAt()
		news := drawn.since(told)
		told = drawn
		if len(news) == 0 {
			return s, "", nil
		}
		return s, "parts", news
	})
}

// listen sends what next returns, again and again, until the request ends, the listener takes nothing any more, or the cluster is closed.
func (p *page) listen(w http.ResponseWriter, r *http.Request, next func() (s *Status, event string, data any)) {
	select {
	case p.listeners <- struct{}{}:
		defer func() { <-p.listeners }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d listen already", cap(p.listeners)), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	if r.Method == http.MethodHead {
		return
	}
	ticks := time.NewTicker(listenEvery)
	defer ticks.Stop()
	for quiet := time.Now(); ; {
		s, event, data := next()
		switch {
		case event != "":
			if send(w, event, data) != nil {
				return
			}
			quiet = time.Now()
		case time.Since(quiet) >= listenAlive:
			if write(w, []byte(": alive\n\n")) != nil {
				return
			}
			quiet = time.Now()
		}
		if s.NotReady != nil && s.NotReady.Reason == "closed" {
			return
		}
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		}
	}
}

// send writes one event.
func send(w http.ResponseWriter, event string, data any) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: ", event)
	if err := json.NewEncoder(&b).Encode(data); err != nil { // one line
		return err
	}
	b.WriteByte('\n')
	return write(w, b.Bytes())
}

// write writes to a listener, which must take it soon. Where w knows no deadlines, that of the server holds.
func write(w http.ResponseWriter, b []byte) error {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := w.Write(b); err != nil {
		return err
	}
	return rc.Flush()
}

// same tells whether nothing has changed but the time.
func same(a, b *Status) bool {
	x, y := *a, *b
	x.Time, x.Queue.Oldest, x.Members = y.Time, y.Queue.Oldest, y.Members
	return slices.EqualFunc(a.Members, b.Members, sameMember) && reflect.DeepEqual(x, y)
}

// sameMember tells whether a member has not changed, but for when it was heard.
func sameMember(a, b Member) bool {
	a.Heard = b.Heard
	return a == b
}

// change returns what is new in b.
func change(a, b *Status) *Change {
	before := map[string]Member{}
	for _, m := range a.Members {
		before[m.Name] = m
	}
	c := &Change{Status: *b}
	c.Members = []Member{}
	for _, m := range b.Members {
		if was, ok := before[m.Name]; !ok || !sameMember(was, m) {
			c.Members = append(c.Members, m)
		}
		delete(before, m.Name)
	}
	for _, m := range a.Members {
		if _, gone := before[m.Name]; gone {
			c.Gone = append(c.Gone, m.Name)
		}
	}
	return c
}

// since returns the elements, by id, that a page lacks to which old was told.
func (p *picture) since(old *picture) map[string]string {
	if p == old {
		return nil
	}
	before := map[string]string{}
	for _, f := range append(old.sections[:len(old.sections):len(old.sections)], old.rows...) {
		before[f.id] = f.html
	}
	news := map[string]string{}
	for _, f := range p.sections {
		rowsDo := f.id == "members" && p.order == old.order && len(old.rows) > 0
		if !rowsDo && before[f.id] != f.html {
			news[f.id] = f.html
		}
	}
	if _, all := news["members"]; all {
		return news
	}
	for _, f := range p.rows {
		if before[f.id] != f.html {
			news[f.id] = f.html
		}
	}
	return news
}
