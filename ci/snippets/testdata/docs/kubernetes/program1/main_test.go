package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingkeys"
)

// The program joins a member by what its pod would be given, says that it is ready, and leaves when its context ends.
func TestRun(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("bm90IGEgc2VjcmV0OiBtYWtlIHlvdXIgb3duIGtleSE=\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	seed, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0", Label: "test/flags", KeySource: starlingkeys.File(keys, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, value := range map[string]string{
		"BIND_ADDR": "127.0.0.1:0", "POD_IP": "127.0.0.1", "SEEDS": "dns+" + seed.Self().Addr.String(), "CLUSTER_LABEL": "test/flags",
		"KEYS_FILE": keys, "HTTP_ADDR": l.Addr().String(),
	} {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watching, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	gone := make(chan starling.EventKind, 1)
	go func() { // it ends later than what it watches
		for e := range seed.Events(watching) {
			if e.Kind == starling.EventLeft || e.Kind == starling.EventFailed {
				gone <- e.Kind
				return
			}
		}
		close(gone)
	}()
	ran := make(chan error, 1)
	go func() { ran <- run(ctx) }()
	for status := 0; status != http.StatusOK && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if answer, err := http.Get("http://" + l.Addr().String() + "/ready"); err == nil {
			status = answer.StatusCode
			answer.Body.Close()
		}
	}
	if n := len(seed.Members()); n != 2 {
		t.Errorf("it is ready with %d members", n)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if kind, ok := <-gone; kind != starling.EventLeft {
		t.Error("the other member was told:", kind, ok)
	}
}
