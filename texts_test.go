package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What a user or an operator reads when something is wrong. Each text says what is wrong, what was given, and what to do. The tests of this
// file are named for what somebody does; others of that kind:
//
//	BindAddr, AdvertiseAddr                              TestConfigFaults
//	seeds that can never work                            TestSeedsAsPeopleWriteThem
//	a seed that is oneself                               TestSeedThatIsOneself
//	the name of a member that has crashed                TestReplacedNameIsTakenOver, TestJoinNamesWhoRefusesTheReplacement
//	no seed answers                                      TestSeedThatNeverAnswersIsInTheLog
//	a member refuses the newcomer                        TestRefusalIsInTheLogOfTheNewcomer
//	a name, label or key that is no UTF-8                TestKeysThatAreNoUTF8
//	times of memberlist's that cannot work               TestTimeoutsThatCannotWork
//	two types on one key                                 TestAnotherTypeOnOneKey
//	a member with a smaller MaxMessageSize               TestMembersWithOtherLimits
//	a state that is too large                            TestLargeStates
//	HTTP, junk and old keys at the port                  TestStrangersAtThePortAreOneLogLine
//	a host with the bridge of a container runtime        TestBridgeIsNotAdvertised
//	a handler that hangs                                 TestHandlerThatHangsIsInTheLog
//	closing while a handler hangs                        TestHandlerThatKeepsLeaveWaitingIsInTheLog

// says fails the test unless err has all of these words, and the package's name once.
func says(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", what, err, w)
		}
	}
	if n := strings.Count(err.Error(), "starling: "); n != 1 {
		t.Errorf("%s: %q has its prefix %d times", what, err, n)
	}
}

// TestTextsOfAConfig: what New refuses.
func TestTextsOfAConfig(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, test := range []struct {
		change func(*starling.Config)
		words  []string
		not    string
	}{
		{func(c *starling.Config) { c.Label = long }, []string{"Label", "300", "limit 255 bytes"}, long},
		{func(c *starling.Config) { c.Name = long }, []string{"Name", "300 bytes", "limit 128"}, ""},
		{func(c *starling.Config) { c.Name = "a\xff" }, []string{"Name", `"a\xff"`, "UTF-8"}, ""},
		{func(c *starling.Config) { c.Label = "a\xff" }, []string{"Label", `"a\xff"`, "UTF-8"}, ""},
		{func(c *starling.Config) { c.Keys = [][]byte{} }, []string{"Keys", "must not mean plaintext", "give nil"}, ""},
		{func(c *starling.Config) { c.Keys = [][]byte{nil} }, []string{"Keys[0]", "16, 24 or 32 bytes"}, ""},
		{func(c *starling.Config) { c.Keys = [][]byte{[]byte("sesame")} }, []string{"Keys[0] = 6", "16, 24 or 32 bytes"}, "sesame"},
		{func(c *starling.Config) { c.Tune = func(m *memberlist.Config) { m.TCPTimeout = 0 } }, []string{"Tune = 0s", "TCPTimeout must be positive"}, ""},
	} {
		cfg := config(t, "a")
		test.change(&cfg)
		c, err := starling.New(cfg)
		if err == nil {
			c.Close()
		}
		says(t, test.words[0], err, test.words...)
		if test.not != "" && strings.Contains(err.Error(), test.not) {
			t.Errorf("%s: the error repeats what was given", test.words[0])
		}
		if len(configFaults(err)) != 1 {
			t.Errorf("%s: %d faults", test.words[0], len(configFaults(err)))
		}
	}
}

// TestTextsOfChannelsAndMaps: what is said of a channel says channel, and what is said of a Map says map.
func TestTextsOfChannelsAndMaps(t *testing.T) {
	t.Parallel()
	cfg := config(t, "a")
	cfg.MaxMessageSize = 1000
	c := start(t, cfg)
	openChannel := func(key string, codec starling.Codec[string]) (*starling.Channel[string], error) {
		return starling.NewChannelOf(c, key, func(context.Context, starling.Message[string]) {}, codec, nil)
	}
	openMap := func(key string, codec starling.Codec[string]) (*starling.Map[string], error) {
		return starling.NewMap(c, key, codec, nil)
	}
	ch, err := openChannel("talk", starling.JSON[string]())
	must(t, err)
	m, err := openMap("flags", starling.JSON[string]())
	must(t, err)
	long := strings.Repeat("k", 300)
	for _, test := range []struct {
		what  string
		open  func(key string, codec starling.Codec[string]) error
		key   string
		codec starling.Codec[string]
		words []string
	}{
		{"a channel's key again", both(openChannel), "talk", starling.JSON[string](), []string{`channel "talk" is open already`}},
		{"a channel's key for a Map", both(openMap), "talk", starling.JSON[string](), []string{`channel "talk" is open already`}},
		{"a Map's key again", both(openMap), "flags", starling.JSON[string](), []string{`map "flags" is open already`}},
		{"a Map's key for a channel", both(openChannel), "flags", starling.JSON[string](), []string{`map "flags" is open already`}},
		{"no key", both(openChannel), "", starling.JSON[string](), []string{"channel key is empty"}},
		{"no key of a Map", both(openMap), "", starling.JSON[string](), []string{"map key is empty"}},
		{"a long key", both(openChannel), long, starling.JSON[string](), []string{"channel key of 300 bytes", "limit 255"}},
		{"a long key of a Map", both(openMap), long, starling.JSON[string](), []string{"map key of 300 bytes", "limit 255"}},
		{"no UTF-8", both(openChannel), "\xff", starling.JSON[string](), []string{`channel key "\xff" is no UTF-8`}},
		{"no UTF-8 of a Map", both(openMap), "\xff", starling.JSON[string](), []string{`map key "\xff" is no UTF-8`}},
		{"no codec", both(openChannel), "k", nil, []string{"codec", "a channel needs a codec"}},
		{"no codec of a Map", both(openMap), "k", nil, []string{"codec", "a map needs a codec"}},
		{"a long type", both(openChannel), "k", starling.Named(starling.JSON[string](), long), []string{"codec = 305", "255 bytes"}},
		{"a type that is no UTF-8", both(openMap), "k", starling.Named(starling.JSON[string](), "\xff"), []string{"codec", "UTF-8"}},
	} {
		err := test.open(test.key, test.codec)
		says(t, test.what, err, test.words...)
		if strings.Contains(err.Error(), long) {
			t.Errorf("%s: the error repeats the key", test.what)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	large := strings.Repeat("x", 2000)
	says(t, "a large message", ch.Broadcast(t.Context(), large), `channel "talk": message of 2002 bytes`, "limit of 1000", "Config.MaxMessageSize")
	says(t, "a large entry", m.Set(t.Context(), "key", large), `map "flags": entry of 20`, "limit of 1000", "Config.MaxMessageSize")
	says(t, "an ended context", ch.Broadcast(ended, "x"), `channel "talk": broadcast: context canceled`)
	says(t, "an ended context of a Map", m.Set(ended, "key", "x"), `map "flags": change: context canceled`)
	says(t, "a key of a Map's value", m.Set(t.Context(), strings.Repeat("x", starling.MaxMapKeySize+1), "x"), `map "flags": key of `, "limit")
	for want, err := range map[string]error{
		`starling: map "m": not confirmed by 1 member: b (late)`:                                 &starling.UnconfirmedError{Channel: "m", OfMap: true, Missing: []starling.Missing{{Member: starling.Member{Name: "b"}}}},
		`starling: map "m": 2 changes written off for b`:                                         &starling.FlushError{Channel: "m", OfMap: true, WrittenOff: 2, Members: []starling.Member{{Name: "b"}}},
		`starling: not ready: map "m": it has no first values yet: b may have them`:              &starling.NotReadyError{Reason: starling.NotReadyState, Channel: "m", OfMap: true, Members: []starling.Member{{Name: "b"}}},
		`starling: not ready: map "m": it has no first values yet`:                               &starling.NotReadyError{Reason: starling.NotReadyState, Channel: "m", OfMap: true},
		`starling: map "m" carries "x" here and "y" on b: neither is given the other's messages`: &starling.OtherTypeError{Channel: "m", OfMap: true, Type: "x", Other: "y", Member: "b"},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

func both[T any](open func(string, starling.Codec[string]) (T, error)) func(string, starling.Codec[string]) error {
	return func(key string, codec starling.Codec[string]) error {
		_, err := open(key, codec)
		return err
	}
}

// TestNameOfALiveMember: Join names the name and who has it, and the log does so, in our words.
func TestNameOfALiveMember(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	o := contractOptions{config: func(_ string, c *starling.Config) { c.Logger = slog.New(lines) }}
	inContract(t, 3, o, func(t *testing.T, c *contract) {
		holder := c.run("m1").Self().Addr.String()
		n := c.outside("twin", "m1", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
		err := n.Join(c.timeout(15*time.Second), c.address("m0"))
		if err == nil || !strings.Contains(err.Error(), "the name m1 is that of the member at "+holder) {
			t.Errorf("Join: %v", err)
		}
		found := lines.warnings("have not taken this one in")
		if len(found) != 1 {
			t.Fatalf("%d lines: %q", len(found), found)
		}
		holdsAll(t, found[0], "the name m1 is that of the member at "+holder)
		if found := lines.warnings("is claimed from another address"); len(found) == 0 || len(found) > 4 {
			t.Errorf("%d lines of the conflict: %q", len(found), found)
		}
		lines.errorless(t)
	})
}

// errorless fails the test if there is a line of ERROR.
func (l *logCounter) errorless(t *testing.T) {
	t.Helper()
	for _, line := range l.warnings("") {
		if strings.Contains(line, slog.LevelError.String()) {
			t.Errorf("ERROR: %s", line)
		}
	}
}

// TestWrongKeyAtTheSeeds: one's own address is among them: Join does not end alone, and says that it is the keys.
func TestWrongKeyAtTheSeeds(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	o := contractOptions{config: func(_ string, c *starling.Config) { c.Keys = [][]byte{key} }}
	inContract(t, 2, o, func(t *testing.T, c *contract) {
		lines := &logCounter{from: slog.LevelWarn}
		for name, keys := range map[string][][]byte{"another": {other}, "none": nil} {
			n := c.outside(name, name, "", func(cfg *starling.Config) { cfg.Keys, cfg.Logger = keys, slog.New(lines) })
			err := n.Join(c.timeout(8*time.Second), c.address("m0"), c.address(name))
			if err == nil || !strings.Contains(err.Error(), "give both the same Keys") || !strings.Contains(err.Error(), c.address("m0")) || strings.Contains(err.Error(), "label") {
				t.Errorf("%s: Join: %v", name, err)
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			if err := n.Ready(ctx); err == nil {
				t.Errorf("%s: ready, alone", name)
			}
			stop()
		}
		if found := lines.warnings("no seed has answered yet"); len(found) != 2 || !strings.Contains(found[0], "give both the same Keys") {
			t.Errorf("%q", found)
		}
	})
}

// TestPoliteEnd: members leave, by themselves and together, with traffic: nothing above INFO is said at those that leave and at those that
// stay. In memory and on real sockets.
func TestPoliteEnd(t *testing.T) {
	t.Run("in memory", func(t *testing.T) {
		lines := &logCounter{from: slog.LevelWarn}
		o := contractOptions{config: func(_ string, c *starling.Config) { c.Logger = slog.New(lines) }}
		inContract(t, 6, o, func(t *testing.T, c *contract) {
			for _, name := range []string{"m5", "m4"} {
				for _, r := range c.all() {
					r.broadcast(100)
					r.broadcast(100_000)
				}
				c.Leave(name)
			}
			left := make(chan error, 2)
			for _, r := range c.all("m3", "m2") {
				go func() { left <- r.Leave(c.timeout(time.Minute)) }()
			}
			c.Must(errors.Join(<-left, <-left))
			time.Sleep(30 * time.Second)
			if found := lines.warnings(""); len(found) > 0 {
				t.Errorf("%d lines:\n\t%s", len(found), fewLines(found))
			}
		})
	})
	t.Run("on sockets", func(t *testing.T) {
		lines := &logCounter{from: slog.LevelWarn}
		members := startMembers(t, 4, func(_ int, c *starling.Config) { c.Logger = slog.New(lines) })
		chs, _ := channels(t, members, "ch", nil)
		join(t, members...)
		for i, c := range members {
			must(t, chs[i].Broadcast(soon(t), say(strings.Repeat("x", 100_000))))
			must(t, c.Leave(soon(t)))
		}
		if found := lines.warnings(""); len(found) > 0 {
			t.Errorf("%d lines:\n\t%s", len(found), fewLines(found))
		}
	})
}

// TestRestartAtAnotherPort: a member crashes, and starts at another port by its name: nothing is said at ERROR.
func TestRestartAtAnotherPort(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	o := contractOptions{config: func(_ string, c *starling.Config) { c.Logger = slog.New(lines) }}
	inContract(t, 4, o, func(t *testing.T, c *contract) {
		c.Crash("m2")
		n := c.outside("elsewhere", "m2", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
		c.Must(n.Join(c.timeout(3*time.Minute), c.address("m0")))
		time.Sleep(time.Minute)
		lines.errorless(t)
		if found := lines.warnings("is claimed from another address"); len(found) > 2*3 {
			t.Errorf("%d lines of the conflict at 3 members", len(found))
		}
	})
}

// TestLeaveInAHandler: with the handler's context it is an error at once, and nothing has happened; when the handler has returned, it is
// none.
func TestLeaveInAHandler(t *testing.T) {
	starlingtest.Run(t, 2, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		us := l.Member("m0").Cluster
		said, kept := make(chan error, 1), make(chan context.Context, 1)
		ch, err := starling.NewChannelOf(us, "ch", func(ctx context.Context, _ starling.Message[[]byte]) {
			derived, stop := context.WithTimeout(ctx, time.Minute)
			defer stop()
			said <- us.Leave(derived)
			kept <- ctx
		}, starling.Bytes(), &starling.ChannelOptions[[]byte]{Echo: true})
		l.Must(err)
		l.Must(ch.Broadcast(t.Context(), []byte("hello")))
		if err := <-said; !errors.Is(err, starling.ErrInHandler) {
			t.Errorf("Leave: %v", err)
		} else {
			says(t, "Leave", err, "called in a handler", "another goroutine")
		}
		ctx := <-kept
		time.Sleep(time.Second)
		if err := ch.Broadcast(t.Context(), []byte("still here")); err != nil {
			t.Errorf("it has left: %v", err)
		}
		<-said
		<-kept
		time.Sleep(time.Second)
		if err := us.Leave(ctx); errors.Is(err, starling.ErrInHandler) {
			t.Errorf("after the handler has returned: %v", err)
		}
	})
}

// TestRejoinFailedNamesWhoIsLost: the line has the key "member" once, for who says it.
func TestRejoinFailedNamesWhoIsLost(t *testing.T) {
	var out bytes.Buffer
	lines := make(chan string, 1000)
	o := starlingtest.Options{Config: func(name string) (c starling.Config) {
		if name == "m0" {
			c.Logger = slog.New(slog.NewTextHandler(&lineWriter{&out, lines}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		return c
	}}
	starlingtest.Run(t, 2, o, func(t *testing.T, l *starlingtest.Lab) {
		l.Crash("m1")
		time.Sleep(30 * time.Second)
		found := 0
		for len(lines) > 0 {
			line := <-lines
			if n := strings.Count(line, "member=m"); n > 1 {
				t.Errorf("%d times the key member: %s", n, line)
			}
			if strings.Contains(line, "rejoin failed") {
				found++
				holdsAll(t, line, "member=m0", "with=m1", "error=")
			}
		}
		if found == 0 {
			t.Error("nothing is said")
		}
	})
}

// lineWriter gives each line that is written to a channel.
type lineWriter struct {
	*bytes.Buffer
	lines chan string
}

func (w *lineWriter) Write(b []byte) (int, error) {
	select {
	case w.lines <- string(b):
	default:
	}
	return len(b), nil
}

// TestReadyNamesWhoHasAMap: while a Map has no first values, Ready says whom it waits for.
func TestReadyNamesWhoHasAMap(t *testing.T) {
	open := func(m *starlingtest.Member) error {
		flags, err := starling.NewMap(m.Cluster, "flags", starling.JSON[string](), nil)
		if err == nil && m.Name != "late" {
			err = flags.Set(context.Background(), m.Name, "x")
		}
		return err
	}
	starlingtest.Run(t, 2, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		// Streams do not get through, nor do packets of the comparison: whoever is asked does not answer.
		late := l.StartAlone("late")
		joined := make(chan error, 1)
		go func() { joined <- late.Cluster.Join(t.Context(), l.Member("m0").Cluster.Self().Addr.String()) }()
		var seen []string
		for range 4000 {
			e := late.Cluster.Health().NotReady
			if e != nil && e.Reason == starling.NotReadyState && e.OfMap {
				var names []string
				for _, m := range e.Members {
					names = append(names, m.Name)
				}
				seen = append(seen, fmt.Sprint(e.Channel, names))
			}
			time.Sleep(100 * time.Microsecond)
		}
		l.Must(<-joined)
		if !slices.ContainsFunc(seen, func(s string) bool { return s == "flags[m0 m1]" || s == "flags[m0]" || s == "flags[m1]" }) {
			t.Errorf("it waited for %q", slices.Compact(seen))
		}
	})
}
