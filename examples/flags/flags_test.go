//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// asService in the environment makes the test's binary the service itself: "main", or "hurried".
const asService = "FLAGS_TEST_AS_SERVICE"

// TestMain lets the test start processes of the service that are built as the test is, for the race detector too.
func TestMain(m *testing.M) {
	if os.Getenv(asService) == "" {
		os.Exit(m.Run())
	}
	go func() { // none outlives the test
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	if os.Getenv(asService) == "main" {
		main()
	} else {
		hurried(os.Args)
	}
}

// hurried is main, but that a failure is noticed after 2 s and not after 5 to 10.
func hurried(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := run(ctx, starling.Config{
		BindAddr: args[4], Seeds: strings.Fields(strings.ReplaceAll(args[6], ",", " ")), MinMembers: 3,
		Tune: func(c *memberlist.Config) {
			c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = 300*time.Millisecond, 150*time.Millisecond, 4
		},
	}, args[2])
	if err != nil {
		slog.Error("flags", "error", err)
		os.Exit(1)
	}
}

// process is one member, which is stopped and started again at the same addresses.
type process struct {
	name   string
	as     string // what asService is
	http   string // where it listens; port 0 until it has started
	bind   string
	cmd    *exec.Cmd
	stdin  io.Closer
	log    strings.Builder // what it has printed; read it when logged is closed
	logged chan struct{}
}

// start starts a process, and waits until it has said where it listens.
func (p *process) start(t *testing.T, seeds ...string) {
	t.Helper()
	p.cmd = exec.Command(os.Args[0], "-http", p.http, "-bind", p.bind, "-seeds", strings.Join(seeds, ","), "-min-members", "3")
	p.cmd.Env = append(os.Environ(), asService+"="+p.as)
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StderrPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.logged = make(chan struct{})
	listens := make(chan [2]string, 1)
	go func() {
		defer close(p.logged)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&p.log, p.name, lines.Text())
			var at [2]string
			for field := range strings.FieldsSeq(lines.Text()) {
				if v, ok := strings.CutPrefix(field, "http="); ok {
					at[0] = v
				} else if v, ok := strings.CutPrefix(field, "cluster="); ok {
					at[1] = v
				}
			}
			if strings.Contains(lines.Text(), "INFO serving") {
				listens <- at
			}
		}
	}()
	select {
	case at := <-listens:
		if p.http != at[0] { // writers read it
			p.http, p.bind = at[0], at[1]
		}
	case <-p.logged:
		t.Fatalf("%s does not start:\n%s", p.name, &p.log)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not start", p.name)
	}
}

// end sends a signal that ends the process, and waits until it has ended.
func (p *process) end(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
	late := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	<-p.logged
	err := p.cmd.Wait()
	if !late.Stop() || s == syscall.SIGTERM && err != nil {
		t.Errorf("%s ended by %v: %v", p.name, s, err)
	}
	p.cmd = nil
}

// kill ends the process whatever state it is in.
func (p *process) kill() {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		<-p.logged
		p.cmd.Wait()
	}
}

// ready waits until /ready says 200.
func (p *process) ready(t *testing.T, limit time.Duration) {
	t.Helper()
	said := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		status, body, err := p.do(t.Context(), http.MethodGet, "/ready", "")
		if status == http.StatusOK {
			return
		}
		said = fmt.Sprint(body, err)
	}
	t.Fatalf("%s is not ready after %v: %s", p.name, limit, said)
}

var client = &http.Client{Timeout: confirmWithin + time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

func (p *process) do(ctx context.Context, method, path, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.http+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// flags returns what a process has.
func (p *process) flags(t *testing.T) (flags map[string]Flag) {
	t.Helper()
	status, body, err := p.do(t.Context(), http.MethodGet, "/flags", "")
	must(t, err)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", p.name, status, body)
	}
	must(t, json.Unmarshal([]byte(body), &flags))
	return flags
}

// ledger is what was written. The writes of a key come one after the other and are numbered from 1; each third deletes the key. A write of
// which it is not known whether it was made may come to be at any time, after later ones too: its key is written no more.
type ledger struct {
	mu        sync.Mutex
	confirmed map[string]int // the last write of a key that was confirmed
	sent      map[string]int // the last one that was sent
	answers   map[string]int // how many writes were answered how
}

func deletes(n int) bool { return n%3 == 0 }

// write writes a key once more by way of p. It says whether the key may be written on.
func (l *ledger) write(ctx context.Context, key string, p *process) bool {
	l.mu.Lock()
	l.sent[key]++
	n := l.sent[key]
	l.mu.Unlock()
	method, body := http.MethodPut, fmt.Sprintf(`{"on":true,"note":"%d"}`, n)
	if deletes(n) {
		method, body = http.MethodDelete, ""
	}
	status, _, err := p.do(ctx, method, "/flags/"+key+"?confirm", body)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case status == http.StatusNoContent:
		l.answers["confirmed"]++
		l.confirmed[key] = n
		return true
	case errors.Is(err, syscall.ECONNREFUSED) || status == http.StatusServiceUnavailable:
		l.answers["not made"]++
		l.sent[key]--
		return true
	case status == http.StatusGatewayTimeout:
		l.answers["made, not confirmed"]++
	case err != nil:
		l.answers["no answer"]++
	default:
		l.answers[strconv.Itoa(status)]++
	}
	return false
}

// writeOn writes key after key by way of any process until ctx ends. Few writes for each: what is overwritten may be lost unseen.
func (l *ledger) writeOn(ctx context.Context, writer int, ps []*process) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%d-%d", writer, i)
		for range 1 + rand.N(4) {
			if ctx.Err() != nil || !l.write(ctx, key, ps[rand.N(len(ps))]) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (l *ledger) snapshot() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.confirmed)
}

// check says what of the writes up to confirmed a member that has flags lacks.
func (l *ledger) check(flags map[string]Flag, confirmed map[string]int) (faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(l.sent)) {
		n, sent := confirmed[key], l.sent[key]
		f, ok := flags[key]
		switch got, _ := strconv.Atoi(f.Note); {
		case ok && (got < n || got > sent || deletes(got)):
			faults = append(faults, fmt.Sprintf("%s: write %d, though %d was confirmed", key, got, n))
		case !ok && n > 0 && !deletes(n) && !(deletes(n+1) && sent > n) && !(deletes(n+2) && sent > n+1):
			faults = append(faults, fmt.Sprintf("%s: nothing, though write %d was confirmed", key, n))
		}
	}
	return faults
}

// TestService takes five processes through all that happens to a service, while writes go on: no write that was confirmed is lost, a process that
// is ready has all that was confirmed before it started, and in the end all have the same. The whole of it, in a minute, is
//
//	FLAGS_STOPPED=30s go test -count=1 -v -run TestService ./examples/flags
//
// where one is stopped for so long that the others give it up. Else it is stopped for 2 s, while one that was killed comes back, and failures
// are noticed sooner.
func TestService(t *testing.T) {
	stopped, as := 2*time.Second, "hurried"
	text, whole := os.LookupEnv("FLAGS_STOPPED")
	if whole {
		var err error
		stopped, err = time.ParseDuration(text)
		must(t, err)
		as = "main"
	}
	var ps []*process
	for i := range 5 {
		p := &process{name: fmt.Sprint("p", i), as: as, http: "127.0.0.1:0", bind: "127.0.0.1:0"}
		ps = append(ps, p)
		t.Cleanup(func() {
			if p.kill(); t.Failed() {
				t.Logf("%s", &p.log)
			}
		})
	}
	began := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%6.2f s  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	others := func(p *process) (seeds []string) {
		for _, o := range ps {
			if o != p && o.cmd != nil {
				seeds = append(seeds, o.bind)
			}
		}
		return seeds
	}

	for _, p := range ps {
		p.start(t, others(p)...)
	}
	for i, p := range ps {
		if p.ready(t, 10*time.Second); i == 2 || i == 4 {
			say("%d are ready", i+1)
		}
	}

	l := &ledger{confirmed: map[string]int{}, sent: map[string]int{}, answers: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for w := range 4 {
		writers.Go(func() { l.writeOn(ctx, w, ps) })
	}
	again := func(p *process) {
		t.Helper()
		before, at := l.snapshot(), time.Now()
		p.start(t, others(p)...)
		p.ready(t, 30*time.Second)
		took := time.Since(at)
		if faults := l.check(p.flags(t), before); len(faults) > 0 {
			t.Errorf("%s is ready and lacks %d of %d keys:\n%s", p.name, len(faults), len(before), strings.Join(faults[:min(len(faults), 10)], "\n"))
		}
		say("%s was ready again after %.2f s", p.name, took.Seconds())
	}
	for _, p := range ps {
		at := time.Now()
		p.end(t, syscall.SIGTERM)
		say("%s has left after %.2f s", p.name, time.Since(at).Seconds())
		again(p)
	}
	pause := func() {
		err := ps[4].cmd.Process.Signal(syscall.SIGSTOP)
		say("%s is stopped", ps[4].name)
		time.Sleep(stopped)
		err = errors.Join(err, ps[4].cmd.Process.Signal(syscall.SIGCONT))
		if say("%s goes on", ps[4].name); err != nil {
			t.Error(err)
		}
	}
	ps[3].end(t, syscall.SIGKILL)
	say("%s was killed", ps[3].name)
	var beside sync.WaitGroup
	defer beside.Wait()
	if !whole {
		beside.Go(pause)
	}
	again(ps[3])
	if whole {
		pause()
	}
	beside.Wait()
	time.Sleep(stopped / 10)
	stop()
	writers.Wait()
	at := time.Now()
	if say("answers to writes: %v", l.answers); l.answers["confirmed"] < 500 {
		t.Error("too few were confirmed to say anything")
	}

	var all []map[string]Flag
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all = nil
		equal := true
		for _, p := range ps {
			all = append(all, p.flags(t))
			equal = equal && maps.Equal(all[0], all[len(all)-1])
		}
		if equal {
			say("all have the same %d flags %.2f s after the last write", len(all[0]), time.Since(at).Seconds())
			break
		}
		if time.Now().After(deadline) {
			t.Error("they do not agree")
			break
		}
	}
	confirmed := l.snapshot()
	for i, p := range ps {
		if faults := l.check(all[i], confirmed); len(faults) > 0 {
			t.Errorf("%s lacks %d of %d keys:\n%s", p.name, len(faults), len(confirmed), strings.Join(faults[:min(len(faults), 10)], "\n"))
		}
	}
	if !t.Failed() {
		say("of %d keys with confirmed writes none is lost", len(confirmed))
	}
	for _, p := range ps {
		p.ready(t, time.Second)
	}
	client.CloseIdleConnections() // for one that was never used Shutdown would wait 5 s
	var leaving sync.WaitGroup
	for _, p := range ps {
		leaving.Go(func() { p.end(t, syscall.SIGTERM) })
	}
	leaving.Wait()
	say("all have left")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
