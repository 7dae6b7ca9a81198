// Command demo serves the page of a member of a small cluster in memory, with traffic, a member out of this one's reach, and keys that are
// being replaced:
//
//	go run ./starlingstatus/demo -listen 127.0.0.1:8080
//
// The page is at /status/. At /asked/ is the same with the probe's button pressed; it is complete only when the answer should be there, for
// screenshots.sh.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingstatus"
	"github.com/starling-go/starling/starlingtest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to serve the page")
	members := flag.Int("members", 12, "how many members the cluster has, at least 4")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, max(*members, 4)); err != nil {
		log.Fatal(err)
	}
}

// pressed presses the button, and keeps the browser waiting for the rest of the page meanwhile.
const pressed = `
document.querySelector("#probe button").click();
const slow = document.createElement("link");
slow.rel = "stylesheet";
slow.href = "slow.css";
document.head.append(slow);
`

// service is what a member of the demo has open.
type service struct {
	prices, orders *starling.Channel[[]byte]
	flags          *starling.Map[bool]
	page           http.Handler
}

func run(ctx context.Context, listen string, members int) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	services := map[string]*service{}
	lab := starlingtest.NewLab(nil, members, starlingtest.Options{
		Config: func(name string) starling.Config {
			keys := [][]byte{bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 32)}
			if name == "m3" {
				keys = keys[1:] // the others want the first key, and wait for this one
			}
			return starling.Config{Meta: []byte("zone=" + zoneOf(name) + " build=1.4." + name[1:]), Keys: keys}
		},
		Open: func(m *starlingtest.Member) (err error) {
			services[m.Name], err = open(m.Cluster)
			return err
		},
	})
	defer lab.Close()
	lab.Crash(fmt.Sprintf("m%d", members-1))
	for _, way := range [][2]string{{"m0", "m2"}, {"m2", "m0"}} {
		lab.Must(lab.Net.Block(way[0], way[1]))
	}
	first := services["m0"]
	mux := http.NewServeMux()
	mux.Handle("/status/", http.StripPrefix("/status", first.page))
	mux.Handle("/asked/", http.StripPrefix("/asked", first.page))
	mux.HandleFunc("/asked/page.js", func(w http.ResponseWriter, _ *http.Request) {
		script := httptest.NewRecorder()
		first.page.ServeHTTP(script, httptest.NewRequest(http.MethodGet, "/page.js", nil))
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "%s\n%s", script.Body, pressed)
	})
	mux.HandleFunc("/asked/slow.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		select {
		case <-time.After(8 * time.Second): // two time-outs of a probe, and something
		case <-r.Context().Done():
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Printf("http://%s/status/\n", l.Addr())
	err = traffic(ctx, services)
	return errors.Join(err, server.Close(), <-served)
}

func zoneOf(name string) string { return "eu-" + string("abc"[int(name[len(name)-1])%3]) }

func open(c *starling.Cluster) (*service, error) {
	slow := func(context.Context, starling.Message[[]byte]) { time.Sleep(300 * time.Microsecond) }
	quick := func(context.Context, starling.Message[[]byte]) {}
	var s service
	var errs [3]error
	s.prices, errs[0] = starling.NewChannelOf(c, "prices", slow, starling.Bytes(), nil)
	s.orders, errs[1] = starling.NewChannelOf(c, "orders", quick, starling.Bytes(), nil)
	s.flags, errs[2] = starling.NewMap(c, "flags", starling.JSON[bool](), nil)
	s.page = starlingstatus.Handler(c, &starlingstatus.Options{
		Maps: []starlingstatus.Map{starlingstatus.Values(s.flags, nil)},
		Zone: func(m starling.Member) string {
			zone, _, _ := strings.Cut(strings.TrimPrefix(string(m.Meta), "zone="), " ")
			return zone
		},
		Meta: func(m starling.Member) string {
			_, build, _ := strings.Cut(string(m.Meta), " ")
			return build
		},
	})
	return &s, errors.Join(errs[:]...)
}

// traffic broadcasts until ctx ends.
func traffic(ctx context.Context, services map[string]*service) error {
	for _, flag := range []string{"checkout.new", "search.fuzzy", "theme.dark"} {
		if err := services["m1"].flags.Set(ctx, flag, flag != "search.fuzzy"); err != nil {
			return err
		}
	}
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil
		}
		for _, from := range []string{"m0", "m1", "m4"} {
			if s, ok := services[from]; ok {
				s.prices.TryBroadcast([]byte("OSTR 42.10"))
				s.orders.TryBroadcast([]byte("buy 100 OSTR"))
			}
		}
	}
}
