package starling_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// hangingHandler is a slog.Handler that calls hang on the first line of which an attribute contains text.
type hangingHandler struct {
	slog.Handler
	text   string
	hang   func()
	hanged *atomic.Bool
}

func (h hangingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h hangingHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), h.text) && !h.hanged.Swap(true) {
			h.hang()
		}
		return true
	})
	return nil
}

func (h hangingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// TestLogHandlerHangs: memberlist says under its lock that it ignores a member. A handler of that line may call whatever it
// likes, and hold up nothing: members come and go, and messages arrive, while it hangs.
func TestLogHandlerHangs(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var logger atomic.Pointer[starling.Cluster]
	hanging := hangingHandler{text: "unwanted", hanged: new(atomic.Bool), hang: func() {
		c := logger.Load()
		if len(c.Members()) == 0 || c.Self().Name != "m00" || c.Stats().Members == 0 {
			t.Errorf("in the handler of a log line: %v", c.Members())
		}
		c.Position()
		if err := c.SetMeta(soon(t), []byte("meta")); err != nil {
			t.Errorf("SetMeta in the handler of a log line: %v", err)
		}
		close(entered)
		<-release
	}}
	members := flock(t, 3, func(i int, c *starling.Config) {
		if i == 0 {
			c.Logger = slog.New(hanging)
			c.Admit = func(m starling.Member) error {
				if m.Name == "unwanted" {
					return errors.New("not you")
				}
				return nil
			}
		}
	})
	defer close(release)
	logger.Store(members[0])
	chs, rs := channels(t, members, "ch", nil)
	join(t, members[:2]...)
	unwanted := start(t, config(t, "unwanted"))
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_ = unwanted.Join(ctx, addr(members[0])) // in vain: the first never takes it in
	arrives(t, "the handler is called, and what it calls returns", entered)

	if err := members[2].Join(soon(t), addr(members[0])); err != nil {
		t.Fatal(err)
	}
	for _, c := range members {
		eventually(t, "all three are seen", func() bool {
			return !slices.ContainsFunc([]string{"m00", "m01", "m02"}, func(name string) bool { return !slices.Contains(names(c), name) })
		})
	}
	if err := errors.Join(chs[0].Broadcast(soon(t), say("from who hangs")), chs[2].Broadcast(soon(t), say("to who hangs"))); err != nil {
		t.Fatal(err)
	}
	hears(t, "m00", rs[0], "to who hangs")
	hears(t, "m02", rs[2], "from who hangs")
	if err := members[1].Leave(soon(t)); err != nil {
		t.Error(err)
	}
	eventually(t, "who has left is gone", func() bool { return !slices.Contains(names(members[0]), "m01") })
}

// askingHandler is a slog.Handler that asks when it is given attributes.
type askingHandler struct {
	slog.Handler
	ask func()
}

func (h askingHandler) WithAttrs([]slog.Attr) slog.Handler {
	h.ask()
	return h
}

// TestLogHandlerAsksInNewMap: a Map's lines have its key, which the handler is given while the Map is opened. A handler may ask the cluster then.
func TestLogHandlerAsksInNewMap(t *testing.T) {
	t.Parallel()
	var c *starling.Cluster
	handler := askingHandler{slog.DiscardHandler, func() {
		if c != nil { // New gives attributes too
			c.Stats()
		}
	}}
	var err error
	c, err = starling.New(starling.Config{BindAddr: "127.0.0.1:0", Logger: slog.New(handler)})
	must(t, err)
	opened := make(chan error)
	go func() {
		_, err := starling.NewMap(c, "map", starling.JSON[int](), nil)
		opened <- err
	}()
	select {
	case err := <-opened:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("NewMap hangs while the handler of the log asks the cluster") // and so would Close
	}
	must(t, c.Close())
}
