package starling_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/starling-go/starling"
)

// Invalidation tells replicas to forget what they keep under a key.
type Invalidation struct {
	Key string `json:"key"`
}

// Two replicas keep a cache. The one that writes waits until every other has forgotten the old value.
func Example_cacheInvalidation() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	replica := func(name string) (*starling.Cluster, *starling.Channel[Invalidation], error) {
		c, err := starling.New(starling.Config{Name: name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal})
		if err != nil {
			return nil, nil, err
		}
		forget := func(_ context.Context, m starling.Message[Invalidation]) {
			fmt.Println(name, "forgets", m.Value.Key, "which", m.From.Name, "has written")
		}
		ch, err := starling.NewChannelOf(c, "invalidations", forget, starling.JSON[Invalidation](), nil)
		return c, ch, err
	}
	reader, _, err1 := replica("reader")
	writer, invalidations, err2 := replica("writer")
	if err := errors.Join(err1, err2); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = errors.Join(writer.Leave(ctx), reader.Leave(ctx)) }()
	if err := writer.Join(ctx, reader.Self().Addr.String()); err != nil {
		fmt.Println(err)
		return
	}
	err := invalidations.Confirm(ctx, Invalidation{"user/1"}, &starling.ConfirmOptions{Handled: true})
	fmt.Println("everybody has forgotten it:", err == nil)
	// Output:
	// reader forgets user/1 which writer has written
	// everybody has forgotten it: true
}

// Flag is a feature flag.
type Flag struct {
	On      bool `json:"on"`
	Percent int  `json:"percent"`
}

// Two replicas share feature flags. One sets a flag, the other reads it from its own memory and is told of it.
func ExampleMap() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	replica := func(name string) (*starling.Cluster, *starling.Map[Flag], error) {
		c, err := starling.New(starling.Config{Name: name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal})
		if err != nil {
			return nil, nil, err
		}
		flags, err := starling.NewMap(c, "flags", starling.JSON[Flag](), nil)
		return c, flags, err
	}
	a, flagsOfA, err1 := replica("a")
	b, flagsOfB, err2 := replica("b")
	if err := errors.Join(err1, err2, b.Join(ctx, a.Self().Addr.String())); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = errors.Join(b.Leave(ctx), a.Leave(ctx)) }()

	err := flagsOfA.Confirm(ctx, "checkout", Flag{On: true, Percent: 10}, &starling.ConfirmOptions{Handled: true})
	fmt.Println("everybody has it:", err == nil)
	flag, ok := flagsOfB.Get("checkout")
	fmt.Println("b reads", flag, ok)
	for change := range flagsOfB.Watch(ctx, "check") {
		fmt.Println("b is told of", change.Key, change.Value, "of", change.From.Name)
		break
	}
	// Output:
	// everybody has it: true
	// b reads {true 10} true
	// b is told of checkout {true 10} of a
}
