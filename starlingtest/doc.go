// Package starlingtest is a laboratory: an in-memory network, and whole clusters on it, for testing services that are built
// on Starling or on plain memberlist. In virtual time a minute of a cluster of 20 takes well below a second.
//
// # Usage
//
// [Run] makes a cluster of Starling's members in a bubble of [testing/synctest], runs a body, and stops everything:
//
//	func TestPricesSurviveACut(t *testing.T) {
//		var rec starlingtest.Recorder
//		prices := map[string]*starling.Channel[[]byte]{}
//		open := func(m *starlingtest.Member) (err error) { // at every start of a member, before it joins
//			prices[m.Name], err = starling.NewChannelOf(m.Cluster, "prices", rec.Handler("prices", m.Name), starling.Bytes(), nil)
//			return err
//		}
//		starlingtest.Run(t, 5, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
//			l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2", "m3", "m4"}))
//			l.Must(prices["m0"].Broadcast(t.Context(), rec.Payload("prices", "m0", 100)))
//			time.Sleep(30 * time.Second) // virtual: takes no time
//			l.Net.Heal()
//			l.WaitAll(15 * time.Second)
//			l.Within(5*time.Second, func() error { return rec.ExactlyOnce("prices") })
//		})
//	}
//
// A [Lab] starts, crashes, restarts and removes members, and waits for what should become true. A [Recorder] stands before
// the handlers and tells who lacks which message, and who got one twice. The t of the body is the bubble's own: fail the test
// by that one. When a test fails, the seed of its faults is printed; [SeedVariable] repeats them.
//
// Outside a bubble, in real time, [NewLab] does the same; so it does in a bubble of your own, where [Pause] has to be slept
// after [Lab.Close].
//
// # Plugging in your service
//
// A service is tested in one of two ways. Either it takes a starling.Config and makes its own Cluster, as it does in production; then give it a
// transport of the Lab's network, and a member to join. So all of it is tested, its Join and its end too:
//
//	starlingtest.Run(t, 3, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
//		tr, err := l.Net.Transport("service")
//		l.Must(err)
//		seed := l.Member("m0").Cluster.Self().Addr.String()
//		service, err := prices.Start(starling.Config{Name: "service", Transport: tr, Seeds: []string{seed}})
//		l.Must(err)
//		defer service.Stop() // the bubble waits for what it has started
//		…
//	})
//
// The members of that Lab have no channels; give them some by Options.Open, or start the service several times in a Lab of no members, each
// with a transport of its own. For faults the service's name is that which Network.Transport was given.
//
// Or it takes a *starling.Cluster: then Options.Open gives it that of each member, at every start of one, and the Lab starts, crashes
// and restarts the members that it stands on.
//
// # The race detector
//
// Under the race detector run such tests with -cpu 1: with more processors the detector itself crashes now and then in bubbles ("ThreadSanitizer:
// CHECK failed", https://go.dev/issue/78156). It finds the same races.
//
// # The network alone
//
// A [Network] hands out transports. Each belongs to one named member, has an IP address of its own, and goes into
// memberlist.Config.Transport or starling.Config.Transport. No port is bound and no packet leaves the process:
//
//	synctest.Test(t, func(t *testing.T) {
//		n := starlingtest.NewNetwork(starlingtest.Seed(t))
//		defer n.Close()
//		n.SetDefault(starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.05})
//		a, err := n.Transport("a")
//		…
//		n.Partition([]string{"a", "b"}, []string{"c"})
//		time.Sleep(time.Minute)
//		n.Heal()
//	})
//
// It works inside a bubble, where time is virtual, and outside, where it is real. Make the network and its transports in the
// bubble that uses them. memberlist's probes outlive its Shutdown, so sleep 30 virtual seconds ([Pause]) after the last
// Shutdown; then the bubble ends with no goroutine left.
//
// # Faults
//
// Faults of a link are a [Link]: one value for every link ([Network.SetDefault]) or for one direction between two members
// ([Network.SetLink]). What a member can send and take in all is set by [Network.SetRate]. Who reaches whom is set by
// [Network.Partition], [Network.Block] and [Network.Heal]; what happens to a member by [Network.Crash], [Network.Freeze] and
// the transport's own Shutdown; [Network.CutStreams] breaks what is open. Every method that takes a name or a number checks it
// first, and returns an error that names what is wrong; then nothing has changed.
//
// # What is like a real network, and what is not
//
// Packets vanish without a word. Streams lose nothing: a lossy link slows them, a partition stalls them until it heals, and
// only a crash, a cut or RefuseStreams breaks them. Every buffer is bounded: packets beyond it are dropped and counted, a
// stream's writer waits for its reader until its deadline. There is no congestion control and no fragmentation, and room
// in a stream's buffer is known to its writer at once. Where a rate is limited, by Link.Bandwidth or SetRate, each stream has
// one small piece in the queue and keeps the rest to itself, on both sides: no queue grows long, as it may in a real router.
//
// # Determinism
//
// The same seed and the same sequence of packets on a link give the same fault decisions on that link, whatever happens on
// others and on streams. A run of memberlist as a whole is not repeatable: it draws from the global random numbers.
//
// # Concurrency
//
// Every method of every type may be called from any goroutine, but for those of [Lab], which may end the test. The network
// holds one goroutine, and that only while it hands over packets that have arrived.
package starlingtest
