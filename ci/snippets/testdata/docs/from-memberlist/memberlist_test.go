package frommemberlist

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// Serve joins a member that has the map, and sets its value there.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	values, err := starling.NewMap(c, "values", starling.JSON[string](), nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, "127.0.0.1:0", c.Self().Addr.String()) }()
	for change := range values.Watch(ctx, "seen by ") {
		if change.Kind == starling.ChangePut && strings.HasPrefix(change.Key, "seen by ") {
			break
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
