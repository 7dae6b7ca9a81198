// Cachesync serves rows of a slow database. Every process of it keeps them in a cache, of the library otter, and a write is answered when no
// process gives out the old row any more.
//
//	go -C examples/cachesync run . database
//	go -C examples/cachesync run .
//	go -C examples/cachesync run . -http 127.0.0.1:8081 -bind 127.0.0.1:7947 -seeds 127.0.0.1:7946
//	curl -X PUT -d 'red' 127.0.0.1:8081/rows/apple
//	curl 127.0.0.1:8080/rows/apple
//	go -C examples/cachesync run . measure
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlinghttp"
)

// leaveWithin is how long the last requests and the goodbye may take.
const leaveWithin = 10 * time.Second

func main() {
	db := flag.String("db", "127.0.0.1:9000", "`host:port` of the database")
	listen := flag.String("http", "127.0.0.1:8080", "`host:port` of the HTTP server")
	bind := flag.String("bind", "127.0.0.1:7946", "`host:port` for the other members, UDP and TCP")
	seeds := flag.String("seeds", "", "`addresses` of some members, or a DNS name of all, separated by commas")
	least := flag.Int("min-members", 0, "a member that sees fewer members than this caches nothing and refuses writes; give more than half of them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch what := flag.Arg(0); what {
	case "":
		config := starling.Config{BindAddr: *bind, MinMembers: *least}
		config.Seeds = strings.FieldsFunc(*seeds, func(r rune) bool { return r == ',' })
		err = run(ctx, config, *listen, remote{*db})
	case "database":
		t := newTable(20 * time.Millisecond)
		err = serve(ctx, *db, routes(t.get, t.put), func() error { <-ctx.Done(); return nil })
	case "measure":
		err = measure(ctx, os.Stdout)
	default:
		err = fmt.Errorf("%q is neither database nor measure", what)
	}
	if err != nil {
		slog.Error("cachesync", "error", err)
		os.Exit(1)
	}
}

// run is one member, until ctx ends.
func run(ctx context.Context, config starling.Config, listen string, db database) error {
	c, err := starling.New(config)
	if err != nil {
		return err
	}
	r, err := openRows(c, db)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	followed := make(chan struct{})
	go func() { defer close(followed); r.follow(context.WithoutCancel(ctx)) }()
	mux := routes(r.read, r.write)
	mux.Handle("GET /ready", starlinghttp.Ready(c))
	err = serve(ctx, listen, mux, func() error {
		if c.Join(ctx) == nil { // it tries the seeds until one answers, or ctx ends
			<-ctx.Done()
		}
		return nil
	}, "name", c.Self().Name, "cluster", c.Self().Addr)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	err = errors.Join(err, c.Leave(bye))
	<-followed
	return err
}

// serve answers requests while f runs, and those that have come by then. more is what the log says of it.
func serve(ctx context.Context, listen string, h http.Handler, f func() error, more ...any) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	slog.Info("serving", append(more, "http", l.Addr())...)
	err = f()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	err = errors.Join(err, server.Shutdown(bye))
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// routes are those of a member, and of the database too.
func routes(get func(context.Context, string) (string, error), put func(_ context.Context, key, row string) error) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rows/{key}", func(w http.ResponseWriter, q *http.Request) {
		row, err := get(q.Context(), q.PathValue("key"))
		answer(w, err, http.StatusOK)
		io.WriteString(w, row)
	})
	mux.HandleFunc("PUT /rows/{key}", func(w http.ResponseWriter, q *http.Request) {
		row, err := io.ReadAll(http.MaxBytesReader(w, q.Body, 64<<10))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, put(q.Context(), q.PathValue("key"), string(row)), http.StatusNoContent)
	})
	return mux
}

// answer says how it went: 504 means that the row is written, and names the members that may still give out the old one.
func answer(w http.ResponseWriter, err error, fine int) {
	switch unconfirmed, notReady := new(starling.UnconfirmedError), new(starling.NotReadyError); {
	case err == nil:
		w.WriteHeader(fine)
	case errors.Is(err, otter.ErrNotFound):
		http.Error(w, "no such row", http.StatusNotFound)
	case errors.As(err, &unconfirmed):
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	case errors.As(err, &notReady):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default: // of the database, mostly
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}
