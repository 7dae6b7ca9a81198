// Flags is a service of feature flags. Every replica has all of them in memory, answers reads from there, and takes writes for all.
//
//	go run ./examples/flags
//	go run ./examples/flags -http 127.0.0.1:8081 -bind 127.0.0.1:7947 -seeds 127.0.0.1:7946
//	curl -X PUT -d '{"on":true}' '127.0.0.1:8081/flags/dark-mode?confirm'
//	curl 127.0.0.1:8080/flags
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlinghttp"
)

// How long a write with ?confirm waits for the other members, and how long the last requests and the goodbye may take.
const confirmWithin, leaveWithin = 2 * time.Second, 10 * time.Second

// A Flag is the value of one key. Members of two versions of the service may be there at the same time: add fields, and change none.
type Flag struct {
	On   bool   `json:"on"`
	Note string `json:"note,omitempty"`
}

func main() {
	listen := flag.String("http", "127.0.0.1:8080", "`host:port` of the HTTP server")
	bind := flag.String("bind", "127.0.0.1:7946", "`host:port` for the other members, UDP and TCP")
	seeds := flag.String("seeds", "", "`addresses` of some members, or a DNS name of all, separated by commas")
	least := flag.Int("min-members", 0, "a member that sees fewer members than this is not ready, and refuses ?confirm; give more than half of them")
	flag.Parse()
	config := starling.Config{BindAddr: *bind, MinMembers: *least}
	config.Seeds = strings.FieldsFunc(*seeds, func(r rune) bool { return r == ',' })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, config, *listen); err != nil {
		slog.Error("flags", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. The order matters: the map is opened before Join, and the last requests are answered before Leave, after
// which nothing can be written.
func run(ctx context.Context, config starling.Config, listen string) error {
	c, err := starling.New(config)
	if err != nil {
		return err
	}
	flags, err := starling.NewMap(c, "flags", starling.JSON[Flag](), nil)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	s := &service{cluster: c, flags: flags}
	server := &http.Server{Handler: s.routes(), ReadTimeout: 5 * time.Second} // bodies too: Leave must not wait for a slow client
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	slog.Info("serving", "name", c.Self().Name, "http", l.Addr(), "cluster", c.Self().Addr)
	if c.Join(ctx) == nil { // it tries the seeds until one answers, or ctx ends; meanwhile /ready says 503
		select {
		case <-ctx.Done():
		case err = <-served:
		}
	}
	slog.Info("leaving")
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	return errors.Join(err, server.Shutdown(bye), c.Leave(bye))
}

type service struct {
	cluster *starling.Cluster
	flags   *starling.Map[Flag]
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /ready", starlinghttp.Ready(s.cluster))
	mux.HandleFunc("GET /flags", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, maps.Collect(s.flags.All())) })
	mux.HandleFunc("GET /flags/{key}", func(w http.ResponseWriter, r *http.Request) {
		if f, ok := s.flags.Get(r.PathValue("key")); ok {
			writeJSON(w, f)
			return
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("PUT /flags/{key}", s.change)
	mux.HandleFunc("DELETE /flags/{key}", s.change)
	return mux
}

// change answers 204 when a change is accepted; with ?confirm when every member answers reads with it. If some do not in time, it answers
// 504 and names them: the change is made all the same, and reaches them later.
func (s *service) change(w http.ResponseWriter, r *http.Request) {
	key, confirm := r.PathValue("key"), r.URL.Query().Has("confirm")
	var f Flag
	if r.Method == http.MethodPut {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&f); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	// A member that is cut off from the others would wait for nobody.
	if e := s.cluster.Health().NotReady; confirm && e != nil {
		http.Error(w, e.Error(), http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), confirmWithin)
	defer cancel()
	handled := &starling.ConfirmOptions{Handled: true}
	var err error
	switch {
	case r.Method == http.MethodPut && confirm:
		err = s.flags.Confirm(ctx, key, f, handled)
	case r.Method == http.MethodPut:
		err = s.flags.Set(ctx, key, f)
	case confirm:
		err = s.flags.ConfirmDelete(ctx, key, handled)
	default:
		err = s.flags.Delete(ctx, key)
	}
	switch unconfirmed := new(starling.UnconfirmedError); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &unconfirmed):
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	default: // it is leaving, or a limit is reached
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
