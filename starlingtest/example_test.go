package starlingtest_test

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/starlingtest"
)

// Two memberlists find each other; a third that is partitioned off does not. Within a synctest bubble the wait takes no time.
func Example() {
	n := starlingtest.NewNetwork(1)
	defer n.Close()
	if err := n.SetDefault(starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond}); err != nil {
		panic(err)
	}
	var all []*memberlist.Memberlist
	for _, name := range []string{"a", "b", "c"} {
		tr, err := n.Transport(name)
		if err != nil {
			panic(err)
		}
		conf := memberlist.DefaultLocalConfig()
		conf.Name, conf.Transport, conf.LogOutput, conf.TCPTimeout = name, tr, io.Discard, 100*time.Millisecond
		m, err := memberlist.Create(conf)
		if err != nil {
			panic(err)
		}
		defer m.Shutdown()
		all = append(all, m)
	}
	if err := n.Partition([]string{"a", "b"}, []string{"c"}); err != nil {
		panic(err)
	}
	seed, _ := n.Addr("a")
	for _, m := range all[1:] {
		_, err := m.Join([]string{seed.String()})
		fmt.Println(m.LocalNode().Name, "joined:", err == nil, "sees:", m.NumMembers())
	}
	// Output:
	// b joined: true sees: 2
	// c joined: false sees: 1
}
