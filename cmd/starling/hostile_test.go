package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/cmd/starling/internal/doctor"
	"github.com/starling-go/starling/starlingstatus"
)

// answering is a page in memory: what it answers to a path, nil for nothing until the asker gives up.
type answering map[string]func() (kind string, body io.Reader)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := a[r.URL.Path]
	if answer == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	kind, body := answer()
	from, to := io.Pipe()
	stop := context.AfterFunc(r.Context(), func() { to.CloseWithError(r.Context().Err()) })
	go func() {
		io.Copy(to, body)
		<-r.Context().Done() // the connection stays open
	}()
	end := func() {
		stop()
		from.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {kind}}, Body: pipedBody{from, end}}, nil
}

func says200(kind, body string) func() (string, io.Reader) {
	return func() (string, io.Reader) { return kind, strings.NewReader(body) }
}

func (a answering) page(t *testing.T) *source {
	s, err := pageAt("page")
	if err != nil {
		t.Fatal(err)
	}
	s.do = a
	return s
}

// A page that hangs holds up a probe, and doctor, no longer than its time.
func TestProbeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		if _, err := (answering{}).page(t).probe(ctx, time.Second); err == nil || time.Since(begun) != probeTakes+time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		begun = time.Now()
		views, failed := look(ctx, &options{timeout: time.Second, observer: observerOptions{transport: noTransport{}}}, []*source{(answering{}).page(t)})
		if len(views) > 0 || len(failed) != 1 || time.Since(begun) > time.Minute {
			t.Errorf("%v, %v after %v", views, failed, time.Since(begun))
		}
	})
}

// A page that is followed and hangs, before it says a word or after, is said to be silent, and asked again.
func TestFollowHangs(t *testing.T) {
	for name, page := range map[string]answering{
		"at once": {},
		"later":   {"/status/events": says200("text/event-stream", "data: {\"self\":\"a\"}\n\n")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				var silent, told int
				for _, err := range page.page(t).follow(ctx) {
					if errors.Is(err, errSilent) {
						silent++
					} else if err == nil {
						told++
					} else {
						t.Errorf("%v", err)
					}
				}
				if silent != 3 || told > 0 != (len(page) > 0) {
					t.Errorf("silent %d times, told %d", silent, told)
				}
			})
		})
	}
}

// A page that lives is not taken for silent.
func TestFollowLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second) // not while the page says something
		defer cancel()
		slow := func() (string, io.Reader) {
			r, w := io.Pipe()
			go func() {
				fmt.Fprint(w, "data: {\"self\":\"a\"}\n\n")
				defer w.Close()
				for {
					select {
					case <-time.After(15 * time.Second):
						fmt.Fprint(w, ": alive\n\n")
					case <-ctx.Done():
						return
					}
				}
			}()
			return "text/event-stream", r
		}
		told := 0
		for _, err := range (answering{"/status/events": slow}).page(t).follow(ctx) {
			if told++; err != nil {
				t.Error(err)
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

// escapes would move the cursor, set a title, and so on, each in its own way.
const escapes = "\x1b[2J\x1b]0;owned\x07\u009b2J\x7f\u202e"

// Whatever a page says, nothing of it moves the cursor.
func TestEscapes(t *testing.T) {
	n := note{Kind: escapes, Member: escapes, Channel: escapes, Text: escapes}
	var out bytes.Buffer
	for _, asJSON := range []bool{false, true} {
		if err := show(screen{out: &out}, asJSON, n); err != nil {
			t.Error(err)
		}
	}
	if err := writeJSON(&out, n); err != nil {
		t.Error(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07\u009b\x7f\u202e") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	n.Text += "😀\U000e0001"
	if err := writeLine(&out, n); err != nil {
		t.Error(err)
	}
	var back note
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != n || strings.Contains(out.String(), "\U000e0001") {
		t.Errorf("%v: %q", err, out.String())
	}
}

// A page may say what it likes of its own addresses: one of them is dialled.
func TestDialsOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(dialled)
				return
			}
			conn.Close()
			dialled <- struct{}{}
		}
	}()
	var members []starlingstatus.Member
	for range 50 {
		members = append(members, starlingstatus.Member{Self: true, Addr: l.Addr().String()})
	}
	views := []doctor.View{{Status: &starlingstatus.Status{Self: "a", Members: members}}}
	dialAll(t.Context(), views)
	<-dialled
	l.Close()
	for range dialled {
		t.Fatal("dialled twice")
	}
	if views[0].Undialled != "" {
		t.Error(views[0].Undialled)
	}
}

// An answer that is too large is an error, and so is a secret that shows.
func TestTooLarge(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"self":"a","members":[{}`)
		for range 20 << 10 {
			fmt.Fprint(w, strings.Repeat(",{}", 1<<10))
		}
		fmt.Fprint(w, `]}`)
	}))
	defer server.Close()
	at := strings.Replace(server.URL, "://", "://user:secret@", 1)
	for args, want := range map[string]string{
		"members -at " + at:                          "unexpected EOF",
		"doctor -no-probe -json -at " + at:           "user:xxxxx@",
		"top -rows -1 -every 1ns -n 1 -at " + at:     "-rows is -1",
		"members -at http://user:secret@127.0.0.1:1": "user:xxxxx@",
	} {
		var out bytes.Buffer
		code := run(t.Context(), strings.Fields(args), screen{out: &out, err: &out})
		if code != exitFailed || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "secret") {
			t.Errorf("%s: %d: %s", args, code, out.String())
		}
	}
}
