// Package starlingtest is an in-memory network for testing services that are built on memberlist: with Starling, or plain.
//
// # Usage
//
// A [Network] hands out transports. Each belongs to one named member, has an IP address of its own, and goes into
// memberlist.Config.Transport. No port is bound and no packet leaves the process:
//
//	synctest.Test(t, func(t *testing.T) {
//		n := starlingtest.NewNetwork(starlingtest.Seed(t))
//		defer n.Close()
//		n.SetDefault(starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.05})
//		a, err := n.Transport("a")
//		…
//		n.Partition([]string{"a", "b"}, []string{"c"})
//		time.Sleep(time.Minute) // virtual: takes no time
//		n.Heal()
//	})
//
// It works inside a [testing/synctest] bubble, where time is virtual, and outside, where it is real. Make the network and
// its transports in the bubble that uses them. memberlist's probes outlive its Shutdown, so sleep 30 virtual seconds after
// the last Shutdown; then the bubble ends with no goroutine left.
//
// # Faults
//
// Faults of a link are a [Link]: one value for every link ([Network.SetDefault]) or for one direction between two members
// ([Network.SetLink]). Who reaches whom is set by [Network.Partition], [Network.Block] and [Network.Heal]; what happens to a
// member by [Network.Crash], [Network.Freeze] and the transport's own Shutdown; [Network.CutStreams] breaks what is open.
// Every method that takes a name or a number checks it first, and returns an error that names what is wrong; then nothing
// has changed.
//
// # What is like a real network, and what is not
//
// Packets vanish without a word. Streams lose nothing: a lossy link slows them, a partition stalls them until it heals, and
// only a crash, a cut or RefuseStreams breaks them. Every buffer is bounded: packets beyond it are dropped and counted, a
// stream's writer waits for its reader until its deadline. There is no congestion control and no fragmentation, and room
// in a stream's buffer is known to its writer at once.
//
// # Determinism
//
// The same seed and the same sequence of packets on a link give the same fault decisions on that link, whatever happens on
// others and on streams. A run of memberlist as a whole is not repeatable: it draws from the global random numbers.
//
// # Concurrency
//
// Every method of every type may be called from any goroutine. The network holds one goroutine, and that only while it
// hands over packets that have arrived.
package starlingtest
