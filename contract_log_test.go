package starling_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What an operator reads in the log, by default: the lines of WARN and above.

// warnings returns the lines of WARN and above that contain text.
func (l *logCounter) warnings(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// holdsAll fails the test for every word that line lacks.
func holdsAll(t *testing.T, line string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("%q lacks %q", line, w)
		}
	}
}

// Two members start together, and one is the other's seed: that it is not there at once is no news.
func TestSeedThatStartsAtTheSameTimeIsNotInTheLog(t *testing.T) {
	inContract(t, 1, contractOptions{}, func(t *testing.T, c *contract) {
		lines := &logCounter{from: slog.LevelWarn}
		n := c.outside("newcomer", "newcomer", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
		c.Must(c.Net.SetLink("newcomer", "m0", starlingtest.Link{RefuseStreams: true}))
		joined := make(chan error, 1)
		go func() { joined <- n.Join(t.Context(), c.Member("m0").Cluster.Self().Addr.String()) }()
		time.Sleep(400 * time.Millisecond)
		c.Must(c.Net.SetLink("newcomer", "m0", starlingtest.Link{}))
		if err := <-joined; err != nil {
			t.Error(err)
		}
		if found := lines.warnings(""); len(found) > 0 {
			t.Errorf("%q", found)
		}
	})
}

// Nobody lives at the seed. Before: the reason was in the error of Join alone, which a Join without a deadline never returned.
// Right: a line that names the seed and the reason, then others at pauses that double.
func TestSeedThatNeverAnswersIsInTheLog(t *testing.T) {
	inContract(t, 1, contractOptions{}, func(t *testing.T, c *contract) {
		lines := &logCounter{from: slog.LevelWarn}
		n := c.outside("newcomer", "newcomer", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
		nobody := netip.AddrPortFrom(n.Self().Addr.Addr(), 1).String()
		joined := make(chan error, 1)
		ctx, stop := context.WithCancel(context.Background())
		go func() { joined <- n.Join(ctx, nobody) }()
		time.Sleep(8 * time.Second)
		found := lines.warnings("no seed has answered yet; still trying")
		if len(found) != 1 {
			t.Fatalf("%d lines after 8 s, want 1: %q", len(found), found)
		}
		holdsAll(t, found[0], "error="+nobody+": ")
		time.Sleep(6 * time.Minute)
		if n := len(lines.warnings("no seed has answered")); n < 5 || n > 6 {
			t.Errorf("%d lines in 6 minutes, want them after 10 s, 30 s, 70 s, 150 s and 310 s", n)
		}
		stop()
		if err := <-joined; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A member does not admit the newcomer. Before: Join waited in silence. Right: a line that names the member and what it says.
func TestRefusalIsInTheLogOfTheNewcomer(t *testing.T) {
	refuses := contractOptions{config: func(name string, c *starling.Config) {
		c.Admit = func(m starling.Member) error {
			if name == "m1" && m.Name == "newcomer" {
				return errors.New("we want no newcomers")
			}
			return nil
		}
	}}
	inContract(t, 3, refuses, func(t *testing.T, c *contract) {
		lines := &logCounter{from: slog.LevelWarn}
		n := c.outside("newcomer", "newcomer", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
		if err := n.Join(c.timeout(30*time.Second), c.address("m0")); err == nil {
			t.Error("Join returned nil")
		}
		found := lines.warnings("have not taken this one in")
		if len(found) != 1 {
			t.Fatalf("%d lines in 30 s, want 1: %q", len(found), found)
		}
		holdsAll(t, found[0], "m1", "we want no newcomers")
	})
}

// Members come, talk and leave politely. Before: a WARN "dropped … reason=stranger" at nearly every leave. Right: nothing.
func TestPoliteMembersAreNoStrangers(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	o := contractOptions{config: func(_ string, c *starling.Config) { c.Logger = slog.New(lines) }}
	inContract(t, 6, o, func(t *testing.T, c *contract) {
		for i, name := range []string{"m5", "m4", "m3"} {
			for _, r := range c.all() {
				r.broadcast(100)
			}
			c.Leave(name)
			c.all("m0")[0].broadcast(100)
			n := c.outside(name+"again", name+"again", "", func(cfg *starling.Config) { cfg.Logger = slog.New(lines) })
			c.Must(n.Join(c.timeout(time.Minute), c.address("m0")))
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			c.Must(n.Leave(c.timeout(time.Minute)))
		}
		time.Sleep(time.Minute)
		if found := lines.warnings("stranger"); len(found) > 0 {
			t.Errorf("%d lines, such as\n\t%s", len(found), fewLines(found))
		}
	})
}

// A member broadcasts on a channel that another has not opened. Before: the line named no channel, and said error=<nil>.
func TestDroppedNamesTheChannel(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	o := contractOptions{config: func(name string, c *starling.Config) {
		if name == "m0" {
			c.Logger = slog.New(lines)
		}
	}}
	inContract(t, 2, o, func(t *testing.T, c *contract) {
		ch, err := starling.NewChannelOf(c.run("m1").Cluster, "elsewhere", func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
		c.Must(err)
		c.Must(ch.Broadcast(t.Context(), []byte("hello")))
		time.Sleep(time.Second)
		found := lines.warnings("reason=unknown key")
		if len(found) != 1 {
			t.Fatalf("%d lines, want 1: %q", len(found), found)
		}
		holdsAll(t, found[0], "channel=elsewhere")
		if strings.Contains(found[0], "error") {
			t.Errorf("an error that is none: %s", found[0])
		}
	})
}

// The handler of a channel takes no notice that its context has ended. Before: Leave and Close went on for ever without a word.
// Right: a line that names the channel, after 1 s.
func TestHandlerThatKeepsLeaveWaitingIsInTheLog(t *testing.T) {
	for name, end := range map[string]func(*starling.Cluster, *starling.Channel[[]byte]) error{
		"Leave": func(m *starling.Cluster, _ *starling.Channel[[]byte]) error { return m.Leave(context.Background()) },
		"Close": func(m *starling.Cluster, _ *starling.Channel[[]byte]) error { return m.Close() },
		"Close of the channel": func(_ *starling.Cluster, ch *starling.Channel[[]byte]) error {
			ch.Close()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			lines := &logCounter{from: slog.LevelWarn}
			o := contractOptions{config: func(_ string, c *starling.Config) { c.Logger = slog.New(lines) }}
			inContract(t, 1, o, func(t *testing.T, c *contract) {
				release := make(chan struct{})
				hang := func(context.Context, starling.Message[[]byte]) { <-release }
				m := c.run("m0").Cluster
				ch, err := starling.NewChannelOf(m, "hangs", hang, starling.Bytes(), &starling.ChannelOptions[[]byte]{Echo: true})
				c.Must(err)
				c.Must(ch.Broadcast(t.Context(), []byte("hello")))
				time.Sleep(time.Second)
				ended := make(chan error, 1)
				go func() { ended <- end(m, ch) }()
				time.Sleep(900 * time.Millisecond)
				if n, early := lines.taken(); n > 0 {
					t.Errorf("too early: %s", fewLines(early))
				}
				time.Sleep(200 * time.Millisecond)
				if found := lines.warnings("closing waits for the handler of a channel"); len(found) == 1 {
					holdsAll(t, found[0], "channel=hangs", "must return when its context ends", "must not call Close or Leave")
				} else {
					t.Errorf("%d lines, want 1", len(found))
				}
				close(release)
				c.Must(<-ended)
			})
		})
	}
}

// A handler hangs. Before: nobody heard of it until messages were lost, and then Stats still counted those as waiting. Right: one
// line that names the channel and how many wait, while all of them can still be handled; what is lost waits no more.
func TestHandlerThatHangsIsInTheLog(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	const age = 20 * time.Second
	o := contractOptions{config: func(name string, c *starling.Config) {
		c.Retention.Age = age
		if name == "m1" {
			c.Logger = slog.New(lines)
		}
	}}
	inContract(t, 2, o, func(t *testing.T, c *contract) {
		release := make(chan struct{})
		_, err := starling.NewChannelOf(c.run("m1").Cluster, "hangs", func(context.Context, starling.Message[[]byte]) { <-release }, starling.Bytes(), nil)
		c.Must(err)
		ch, err := starling.NewChannelOf(c.run("m0").Cluster, "hangs", func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
		c.Must(err)
		for range 4 {
			c.Must(ch.Broadcast(t.Context(), []byte("hello")))
		}
		time.Sleep(age/2 + 2*time.Second)
		found := lines.warnings("a handler has not returned")
		if len(found) != 1 {
			t.Fatalf("%d lines, want 1: %q", len(found), found)
		}
		holdsAll(t, found[0], "channel=hangs", "waiting=3", "broadcasts are lost")
		if n := c.run("m1").Stats().Channels["hangs"].Inbox; n != 3 {
			t.Errorf("Inbox = %d before anything is lost, want 3", n)
		}
		time.Sleep(2 * time.Minute)
		if n := c.run("m1").Stats().Channels["hangs"].Inbox; n != 0 {
			t.Errorf("Inbox = %d when all is lost", n)
		}
		if found := lines.warnings("a handler has not returned"); len(found) != 1 {
			t.Errorf("%d lines of one call of a handler: %q", len(found), found)
		}
		close(release)
	})
}
