package starlingtest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// flag is the message of the service under test: whoever turns a flag on tells all other replicas.
type flag struct{ Name string }

// Three replicas of a service, on a network that loses every third packet. An example has no test, so time is real here; in
// a test, [starlingtest.Run] does the same in virtual time.
func Example_service() {
	var rec starlingtest.Recorder
	flags := map[string]*starling.Channel[flag]{}
	turned := map[string]chan string{}
	open := func(m *starlingtest.Member) (err error) {
		on := make(chan string, 1)
		handle := func(_ context.Context, f starling.Message[flag]) { on <- f.Value.Name + ", by " + f.From.Name }
		id := func(f flag) string { return f.Name }
		flags[m.Name], err = starling.NewChannelOf(m.Cluster, "flags",
			starlingtest.Record(&rec, "flags", m.Name, id, handle), starling.JSON[flag](), nil)
		turned[m.Name] = on
		return err
	}
	lab := starlingtest.NewLab(nil, 3, starlingtest.Options{Seed: 1, Open: open})
	defer lab.Close()
	lab.Must(lab.Net.SetDefault(starlingtest.Link{Latency: time.Millisecond, Loss: 0.3}))

	rec.Sent("flags", "m0", "dark mode")
	lab.Must(flags["m0"].Broadcast(context.Background(), flag{"dark mode"}))
	fmt.Println("m1:", <-turned["m1"])
	fmt.Println("m2:", <-turned["m2"])
	lab.Must(rec.ExactlyOnce("flags"))

	lab.Restart("m1")
	lab.WaitAll(10 * time.Second)
	fmt.Println("m1 is back and sees", len(lab.Member("m1").Cluster.Members()))
	// Output:
	// m1: dark mode, by m0
	// m2: dark mode, by m0
	// m1 is back and sees 3
}
