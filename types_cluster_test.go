package starling_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// typedLab is members whose channel "key" carries texts, or what kind says: "duration" (another protobuf message), "json", "plain" (a codec
// that tells nothing) or "none" (it opens no channel by itself). Each broadcasts its name and a number.
type typedLab struct {
	*starlingtest.Lab
	t    *testing.T
	kind map[string]string // by member

	mu    sync.Mutex
	runs  map[string]*typedRun
	given map[string]map[string]int // how often a member's handlers, of any type, were given a message, by member and message
	sent  map[string]int            // by member
}

// typedRun is a run of a member.
type typedRun struct {
	*starling.Cluster
	name    string
	log     *logCounter
	events  *watcher
	say     func(ctx context.Context, what string) error
	confirm func(ctx context.Context, what string, handled bool) error
	send    func(ctx context.Context, to, what string) error
	close   func()
}

func inTypedLab(t *testing.T, n int, l *typedLab, link starlingtest.Link, body func(t *testing.T, l *typedLab)) {
	t.Helper()
	l.runs, l.given, l.sent = map[string]*typedRun{}, map[string]map[string]int{}, map[string]int{}
	logs := map[string]*logCounter{}
	o := starlingtest.Options{Link: link, Config: func(name string) starling.Config {
		logs[name] = &logCounter{from: slog.LevelWarn}
		return starling.Config{Logger: slog.New(logs[name])}
	}}
	o.Open = func(m *starlingtest.Member) error {
		r := &typedRun{Cluster: m.Cluster, name: m.Name, log: logs[m.Name], events: watch(l.t, m.Cluster)}
		l.runs[m.Name] = r
		return l.open(r, "key", l.kind[m.Name])
	}
	starlingtest.Run(t, 0, o, func(t *testing.T, lab *starlingtest.Lab) {
		l.Lab, l.t = lab, t
		for i := range n {
			l.Start(fmt.Sprint("m", i))
		}
		l.WaitAll(15 * time.Second)
		body(t, l)
	})
}

// plainCodec makes JSON and tells nothing of it.
type plainCodec struct{}

func (plainCodec) Append(b []byte, v string) ([]byte, error) {
	return starling.JSON[string]().Append(b, v)
}
func (plainCodec) Decode(b []byte) (string, error) { return starling.JSON[string]().Decode(b) }

func (l *typedLab) open(r *typedRun, key, kind string) error {
	switch kind {
	case "none":
		return nil
	case "duration":
		return openTyped(l, r, key, starling.Proto[*durationpb.Duration](), func(what string) *durationpb.Duration {
			return &durationpb.Duration{Seconds: int64(len(what))}
		}, func(d *durationpb.Duration) string { return fmt.Sprint("a duration of ", d.GetSeconds()) })
	case "json":
		return openTyped(l, r, key, starling.JSON[string](), strings.Clone, strings.Clone)
	case "named json":
		return openTyped(l, r, key, starling.Named(starling.JSON[string](), "greetings"), strings.Clone, strings.Clone)
	case "plain":
		return openTyped(l, r, key, plainCodec{}, strings.Clone, strings.Clone)
	}
	return openTyped(l, r, key, starling.Proto[text](), func(what string) text { return wrapperspb.String(what) }, text.GetValue)
}

func openTyped[T any](l *typedLab, r *typedRun, key string, codec starling.Codec[T], to func(string) T, from func(T) string) error {
	ch, err := starling.NewChannelOf(r.Cluster, key, func(_ context.Context, m starling.Message[T]) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.given[r.name] == nil {
			l.given[r.name] = map[string]int{}
		}
		l.given[r.name][from(m.Value)]++
	}, codec, nil)
	if err != nil {
		return err
	}
	r.say = func(ctx context.Context, what string) error { return ch.Broadcast(ctx, to(what)) }
	r.confirm = func(ctx context.Context, what string, handled bool) error {
		return ch.Confirm(ctx, to(what), &starling.ConfirmOptions{Handled: handled})
	}
	r.send = func(ctx context.Context, member, what string) error { return ch.Send(ctx, member, to(what)) }
	r.close = ch.Close
	return nil
}

// talk has each of the members broadcast a text.
func (l *typedLab) talk(names ...string) {
	l.t.Helper()
	for _, name := range names {
		l.sent[name]++
		l.Must(l.runs[name].say(context.Background(), fmt.Sprint(name, " says ", l.sent[name])))
	}
}

// of returns how many messages of a member another one's handlers were given.
func (l *typedLab) of(from, to string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, times := range l.given[to] {
		if strings.HasPrefix(what, from+" ") {
			n += times
		}
	}
	return n
}

// otherTypes returns the errors of the events of a run that tell of other types.
func (r *typedRun) otherTypes() (found []*starling.OtherTypeError) {
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	for _, e := range r.events.events {
		var other *starling.OtherTypeError
		if e.Kind == starling.EventOtherType && errors.As(e.Err, &other) {
			found = append(found, other)
		}
	}
	return found
}

// talksAlone fails the test unless the newcomer and the others have given nothing of each other to a handler, all of the others have
// heard each other, and everybody was told once.
func (l *typedLab) talksAlone(newcomer, theirs, ours string, others ...string) {
	l.t.Helper()
	for _, a := range others {
		for _, b := range others {
			if a != b {
				l.Within(10*time.Second, func() error {
					if n := l.of(a, b); n != l.sent[a] {
						return fmt.Errorf("%s was given %d of the %d messages of %s", b, n, l.sent[a], a)
					}
					return nil
				})
			}
		}
		if n, m := l.of(a, newcomer), l.of(newcomer, a); n+m > 0 {
			l.t.Errorf("%s was given %d messages of %s, and %d the other way", newcomer, n, a, m)
		}
		told := l.runs[a].otherTypes()
		if len(told) != 1 || *told[0] != (starling.OtherTypeError{Channel: "key", Type: ours, Member: newcomer, Other: theirs}) {
			l.t.Errorf("%s was told %v", a, told)
		}
		lines := l.runs[a].log.warnings("carries another type")
		if len(lines) != 1 {
			l.t.Fatalf("%s: %d lines: %q", a, len(lines), lines)
		}
		holdsAll(l.t, lines[0], "channel=key", "type="+ours, "from="+newcomer, "other="+theirs)
		if n := l.runs[a].Stats().Dropped[starling.DropOtherType]; n != uint64(l.sent[newcomer]) {
			l.t.Errorf("%s counts %d messages of another type, want %d", a, n, l.sent[newcomer])
		}
	}
	if told := l.runs[newcomer].otherTypes(); len(told) != len(others) {
		l.t.Errorf("%s was told %v", newcomer, told)
	}
	if lines := l.runs[newcomer].log.warnings("carries another type"); len(lines) != 1 { // of one kind: the others are counted
		l.t.Errorf("%s: %q", newcomer, lines)
	}
}

const (
	textType     = "protobuf:google.protobuf.StringValue"
	durationType = "protobuf:google.protobuf.Duration"
)

// TestAnotherTypeOnOneKey: a member comes whose channel carries another protobuf message. The messages that it broadcasts as soon as its
// Join has returned, and those of the others while it joins, are given to no handler of the other type; all are told once; and a restart
// with the right type heals it. In spite of losses.
func TestAnotherTypeOnOneKey(t *testing.T) {
	link := starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.1}
	inTypedLab(t, 3, &typedLab{kind: map[string]string{"new": "duration"}}, link, func(t *testing.T, l *typedLab) {
		stop, stopped := make(chan struct{}), make(chan struct{})
		var said int
		m0 := l.runs["m0"]
		go func() { // while the newcomer joins
			defer close(stopped)
			for ; ; time.Sleep(3 * time.Millisecond) {
				select {
				case <-stop:
					return
				default:
				}
				said++
				l.Must(m0.say(context.Background(), fmt.Sprint("m0 says ", said)))
			}
		}()
		l.Start("new")
		l.talk("new", "new")
		time.Sleep(time.Second)
		close(stop)
		<-stopped
		l.sent["m0"] = said
		l.talk("m1", "m2", "new")
		l.WaitAll(15 * time.Second)
		time.Sleep(5 * time.Second)
		l.talksAlone("new", durationType, textType, "m0", "m1", "m2")

		l.kind["new"] = ""
		l.Leave("new")
		l.Start("new")
		l.WaitAll(15 * time.Second)
		before := l.of("m0", "new")
		l.sent["new"] = 100
		l.talk("new", "m0")
		l.Within(10*time.Second, func() error {
			if a, b := l.of("new", "m1"), l.of("m0", "new")-before; a != 1 || b != 1 {
				return fmt.Errorf("after the restart with the right type: %d, %d", a, b)
			}
			return nil
		})
		if told := l.runs["new"].otherTypes(); len(told) > 0 {
			t.Errorf("after the restart with the right type: %v", told)
		}
	})
}

// TestTypeOfALateChannel: the channel with another type is opened long after its member has joined, and its messages follow at once; then it is
// closed, and opened with the right type.
func TestTypeOfALateChannel(t *testing.T) {
	inTypedLab(t, 3, &typedLab{kind: map[string]string{"m2": "none"}}, labLink, func(t *testing.T, l *typedLab) {
		time.Sleep(5 * time.Second)
		l.Must(l.open(l.runs["m2"], "key", "json"))
		l.talk("m2", "m2", "m0", "m1")
		time.Sleep(5 * time.Second)
		l.talksAlone("m2", "json", textType, "m0", "m1")
		l.runs["m2"].close()
		l.Must(l.open(l.runs["m2"], "key", ""))
		time.Sleep(time.Second) // a message may overtake the word of another type
		l.talk("m2")
		time.Sleep(5 * time.Second)
		if a, b := l.of("m2", "m0"), l.of("m2", "m1"); a != 1 || b != 1 {
			t.Errorf("opened anew with the right type: %d, %d", a, b)
		}
	})
}

// TestTypeOfASendAndAConfirm: Send and Confirm name what is wrong, Confirm whether it waits for handlers or not.
func TestTypeOfASendAndAConfirm(t *testing.T) {
	inTypedLab(t, 3, &typedLab{kind: map[string]string{"m2": "json"}}, labLink, func(t *testing.T, l *typedLab) {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		var refused *starling.SendError
		if err := l.runs["m0"].send(ctx, "m2", "hello"); !errors.As(err, &refused) || refused.Reason != starling.SendOtherType {
			t.Errorf("Send: %v", err)
		}
		l.Must(l.runs["m0"].send(ctx, "m1", "hello"))
		for _, handled := range []bool{false, true} {
			var missing *starling.UnconfirmedError
			err := l.runs["m0"].confirm(ctx, "hello", handled)
			if !errors.As(err, &missing) || len(missing.Missing) != 1 || missing.Missing[0].Member.Name != "m2" ||
				missing.Missing[0].Reason != starling.MissingOtherType {
				t.Errorf("Confirm (handled %v): %v", handled, err)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.given["m2"] != nil {
			t.Errorf("given to the handler of another type: %v", l.given["m2"])
		}
	})
}

// TestTypesThatAreNotTold: a codec that tells nothing hears and is heard by all, as before; and JSON with a name goes with JSON without.
func TestTypesThatAreNotTold(t *testing.T) {
	for _, kinds := range [][2]string{{"json", "plain"}, {"json", "named json"}} {
		inTypedLab(t, 2, &typedLab{kind: map[string]string{"m0": kinds[0], "m1": kinds[1]}}, labLink, func(t *testing.T, l *typedLab) {
			l.talk("m0", "m1")
			time.Sleep(5 * time.Second)
			if n, m := l.of("m0", "m1"), l.of("m1", "m0"); m != 1 || n != 1 {
				t.Errorf("%q: given %d and %d messages", kinds, n, m)
			}
			if a, b := l.runs["m0"].otherTypes(), l.runs["m1"].otherTypes(); len(a)+len(b) > 0 {
				t.Errorf("%q: told %v, %v", kinds, a, b)
			}
		})
	}
}

// TestTypesOfStatesAndMaps: the state of a channel is not given to, nor taken from, one of another type; nor are the entries of a Map. Those
// of the same type become equal all the same, and everybody is ready.
func TestTypesOfStatesAndMaps(t *testing.T) {
	type run struct {
		entries *starling.Map[string]
		state   *joined
	}
	runs := map[string]*run{}
	open := func(m *starlingtest.Member) error {
		r := &run{state: &joined{texts: map[string]bool{m.Name: true}}}
		runs[m.Name] = r
		var err error
		if m.Name == "m2" {
			_, err = starling.NewState(m.Cluster, "state", counted{r.state})
			other, err2 := starling.NewMap(m.Cluster, "map", starling.Named(starling.JSON[int](), "counts"), nil)
			if err2 == nil {
				err2 = other.Set(context.Background(), "m2", 2)
			}
			return errors.Join(err, err2)
		}
		if _, err = starling.NewState(m.Cluster, "state", named{r.state}); err == nil {
			r.entries, err = starling.NewMap(m.Cluster, "map", starling.Named(starling.JSON[string](), "names"), nil)
		}
		if err == nil {
			err = r.entries.Set(context.Background(), m.Name, "is here")
		}
		return err
	}
	starlingtest.Run(t, 4, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		for _, m := range l.Members() {
			l.Must(m.Cluster.Ready(ctx))
		}
		time.Sleep(time.Minute)
		if n := runs["m2"].state.len(); n != 1 {
			t.Errorf("the state of another type has the states of %d", n)
		}
		for _, name := range []string{"m0", "m1", "m3"} {
			if n := runs[name].entries.Len(); n != 3 {
				t.Errorf("%s has %d entries", name, n)
			}
			if n := runs[name].state.len(); n != 3 {
				t.Errorf("%s has the states of %d", name, n)
			}
		}
	})
}

// joined is a State that is the union of texts.
type joined struct {
	mu    sync.Mutex
	texts map[string]bool
}

// counted is a State of another type.
type counted struct{ *joined }

func (counted) ContentType() string { return "counts" }

// named is a State that says what it is.
type named struct{ *joined }

func (named) ContentType() string { return "names" }

func (j *joined) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.texts)
}

func (j *joined) MarshalBinary() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b []byte
	for name := range j.texts {
		b = append(append(b, name...), ' ')
	}
	return b, nil
}

func (j *joined) Merge(b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name := range strings.FieldsSeq(string(b)) {
		j.texts[name] = true
	}
	return nil
}

// TestSendToUnmet: members of two clusters that become one had nothing to ask each other when they met, and have told each other nothing of
// their types. The first Send from one to the other is taken at once all the same.
func TestSendToUnmet(t *testing.T) {
	link := starlingtest.Link{Latency: time.Millisecond}
	inTypedLab(t, 0, new(typedLab), link, func(t *testing.T, l *typedLab) {
		const half = 5
		for i := range 2 * half {
			m := l.StartAlone(fmt.Sprint("m", i))
			if first := i / half * half; i > first {
				l.Must(m.Cluster.Join(t.Context(), addr(l.runs[fmt.Sprint("m", first)].Cluster)))
			}
		}
		time.Sleep(10 * time.Second)
		l.Must(l.runs["m0"].Join(t.Context(), addr(l.runs[fmt.Sprint("m", half)].Cluster)))
		l.WaitAll(time.Minute)
		slowest := time.Duration(0)
		for from := range 2 * half {
			for to := range 2 * half {
				if from != to {
					began := time.Now()
					l.Must(l.runs[fmt.Sprint("m", from)].send(t.Context(), fmt.Sprint("m", to), fmt.Sprint("from ", from)))
					slowest = max(slowest, time.Since(began))
				}
			}
		}
		if t.Logf("the slowest took %v", slowest); slowest > 4*time.Millisecond { // a round trip is 2 ms
			t.Errorf("a Send took %v", slowest)
		}
	})
}
