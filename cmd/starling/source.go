package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

// maxAnswer is the most that is read of one answer, or event, of a page. That of 1,000 members has some 200 KB. What a page makes up becomes a
// hundred times as large in memory.
const maxAnswer = 8 << 20

// source is the page of a member: over HTTP, or that of an observer in this process.
type source struct {
	at   string // for people
	base *url.URL
	do   http.RoundTripper
}

// pageAt returns the page at an address as -at has it.
func pageAt(at string) (*source, error) {
	text := at
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no host:port, and no URL of a page", at)
	}
	if u.Path == "" {
		u.Path = "/status/"
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	u.RawQuery, u.Fragment = "", ""
	if _, secret := u.User.Password(); secret {
		at = u.Redacted() // it is in every error, and in what doctor prints
	}
	return &source{at: at, base: u, do: http.DefaultTransport}, nil
}

// open returns what the options tell to ask: the first page that answers, or an observer. Whoever gets it calls end.
func (o *options) open(ctx context.Context, need observerNeeds) (s *source, end func() error, err error) {
	if len(o.seeds) > 0 {
		ob, err := o.observe(ctx, need)
		if err != nil {
			return nil, nil, err
		}
		return ob.source(), ob.leave, nil
	}
	var errs []error
	for _, at := range o.at {
		s, err := pageAt(at)
		if err == nil {
			_, err = s.status(ctx, o.timeout)
		}
		if err == nil {
			return s, func() error { return nil }, nil
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// ask returns the answer to a request, whose body the caller closes.
func (s *source) ask(ctx context.Context, method, path, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	if u := s.base.User; u != nil {
		password, _ := u.Password()
		r.SetBasicAuth(u.Username(), password)
	}
	w, err := s.do.RoundTrip(r)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: it does not answer HTTP (%w): is that the port of the HTTP server that has the page, and not the cluster's?", s.at, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.at, err)
	}
	kind, _, _ := strings.Cut(w.Header.Get("Content-Type"), ";")
	if w.StatusCode == http.StatusOK && kind == accept {
		return w, nil
	}
	defer w.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(w.Body, 200))
	if w.StatusCode == http.StatusOK {
		return nil, fmt.Errorf("%s: it has answered with %q, so %s is no page of package starlingstatus", s.at, kind, s.base.Path)
	}
	return nil, fmt.Errorf("%s: %s: %s", s.at, w.Status, strings.TrimSpace(string(said)))
}

func (s *source) askJSON(ctx context.Context, method, path string, v any) error {
	w, err := s.ask(ctx, method, path, "application/json")
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if err := json.NewDecoder(io.LimitReader(w.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("%s: %w", s.at, err)
	}
	return nil
}

// status returns what the member sees now.
func (s *source) status(ctx context.Context, timeout time.Duration) (*starlingstatus.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status := new(starlingstatus.Status)
	err := s.askJSON(ctx, http.MethodGet, "/", status)
	if err == nil && status.Self == "" {
		err = fmt.Errorf("%s: its answer names no member: it is no page of package starlingstatus", s.at)
	}
	return status, err
}

// probeTakes is how long a page probes, unless it was told otherwise.
const probeTakes = 2 * starlingstatus.DefaultProbeTimeout

// probe has the member ask all others.
func (s *source) probe(ctx context.Context, timeout time.Duration) (*starlingstatus.Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTakes+timeout)
	defer cancel()
	p := new(starlingstatus.Probe)
	return p, s.askJSON(ctx, http.MethodPost, "/probe", p)
}

const (
	followAgain = 2 * time.Second
	// silentFor is how long a page may say nothing while it is followed: three times as long as one does that lives.
	silentFor = 45 * time.Second
)

// follow yields what the member sees, and again whenever it changes, until ctx ends. Where the member does not answer, it yields the error, and
// asks again. Each value is another one.
func (s *source) follow(ctx context.Context) iter.Seq2[*starlingstatus.Status, error] {
	return func(yield func(*starlingstatus.Status, error) bool) {
		for ctx.Err() == nil {
			err := s.listen(ctx, func(status *starlingstatus.Status) bool { return yield(status, nil) })
			if errors.Is(err, errEnough) || ctx.Err() != nil || !yield(nil, err) {
				return
			}
			select {
			case <-time.After(followAgain):
			case <-ctx.Done():
			}
		}
	}
}

var (
	errEnough = errors.New("nobody wants more")
	errEnded  = errors.New("it tells nothing any more: the member is closed, or starts again")
	errSilent = fmt.Errorf("it has said nothing for %v: the member hangs, or the network is cut", silentFor)
)

// listen calls tell with what the member sees, whenever that changes, until tell returns false, or the page is silent for too long.
func (s *source) listen(ctx context.Context, tell func(*starlingstatus.Status) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silentFor, func() { cancel(errSilent) })
	defer silence.Stop()
	w, err := s.ask(ctx, http.MethodGet, "/events", "text/event-stream")
	if err == nil {
		defer w.Body.Close()
		err = s.hear(heard{w.Body, silence}, tell)
	}
	if context.Cause(ctx) == errSilent {
		return fmt.Errorf("%s: %w", s.at, errSilent)
	}
	return err
}

// heard is what a page says, which puts off the end of a silence.
type heard struct {
	io.Reader
	silence *time.Timer
}

func (h heard) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	h.silence.Reset(silentFor)
	return n, err
}

// hear is listen from the beginning of the answer on.
func (s *source) hear(from io.Reader, tell func(*starlingstatus.Status) bool) error {
	var status *starlingstatus.Status
	for data, err := range eventsIn(from) {
		if err != nil {
			return fmt.Errorf("%s: %w", s.at, err)
		}
		var c starlingstatus.Change
		if err := json.Unmarshal(data, &c); err != nil {
			return fmt.Errorf("%s: %w", s.at, err)
		}
		if status = whole(status, c); !tell(status) {
			return errEnough
		}
	}
	return fmt.Errorf("%s: %w", s.at, errEnded)
}

// eventsIn yields the data of Server-Sent Events. The bytes are good until the next ones are asked for.
func eventsIn(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxAnswer)
		for lines.Scan() {
			if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok && !yield(data, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// whole puts a change to what was seen before; nil: nothing was.
func whole(before *starlingstatus.Status, c starlingstatus.Change) *starlingstatus.Status {
	s := c.Status
	if before == nil {
		return &s
	}
	news := map[string]*starlingstatus.Member{}
	for i := range c.Members {
		news[c.Members[i].Name] = &c.Members[i]
	}
	for _, name := range c.Gone {
		news[name] = nil
	}
	s.Members = nil
	for _, m := range before.Members {
		if _, changed := news[m.Name]; !changed {
			s.Members = append(s.Members, m)
		}
	}
	s.Members = append(s.Members, c.Members...)
	sortMembers(s.Members)
	return &s
}
