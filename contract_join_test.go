package starling_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
)

// Join has returned on a newcomer, and then each of 50 members broadcasts ten messages, at once or half a second later. At
// 13b025a the newcomer missed 410 of the 500, or 104 half a second later, silently: most members did not know it yet. Right: from
// the moment that Join returns nil, every message broadcast anywhere is owed to the newcomer. STARLING_MEMBERS makes it larger.
func TestEveryMessageAfterJoinIsOwed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		later     time.Duration
		newcomers int // that join at the same time
	}{
		{0, 1},
		{500 * time.Millisecond, 8}, // some of them are known to all by now
	} {
		t.Run(fmt.Sprint(test.later), func(t *testing.T) {
			inContract(t, seedtest.Number(t, "STARLING_MEMBERS", 50), contractOptions{}, func(t *testing.T, c *contract) {
				newcomers := joinAtOnce(c, 0, test.newcomers)
				time.Sleep(test.later)
				c.once(15*time.Second, broadcastAll(c, 10), newcomers...)
			})
		})
	}
}

// The same where packets are lost, with newcomers that come one after the other.
func TestEveryMessageAfterJoinIsOwedOnLossyNetwork(t *testing.T) {
	t.Parallel()
	for loss, members := range map[float64]int{0.1: 50, 0.3: 25} {
		members = seedtest.Number(t, "STARLING_MEMBERS", members)
		t.Run(fmt.Sprintf("%v of %d", loss, members), func(t *testing.T) {
			inContract(t, members, contractOptions{}, func(t *testing.T, c *contract) {
				lossy(c, loss)
				owed := map[*contractRun][]string{}
				for i := range 2 {
					owed[joinAtOnce(c, i, 1)[0]] = nil
					ids := broadcastAll(c, 10)
					for n := range owed {
						owed[n] = append(owed[n], ids...)
					}
				}
				until := time.Now().Add(15 * time.Second)
				for n, ids := range owed {
					c.once(time.Until(until), ids, n)
				}
			})
		})
	}
}

// joinAtOnce lets newcomers join, numbered from first, each through another seed, and returns when all have.
func joinAtOnce(c *contract, first, n int) (newcomers []*contractRun) {
	c.t.Helper()
	errs := make([]error, n)
	took := make([]time.Duration, n)
	var all sync.WaitGroup
	for i := range n {
		name := fmt.Sprint("newcomer", first+i)
		r := c.outside(name, name, "", nil)
		newcomers = append(newcomers, r)
		seed := c.address(fmt.Sprint("m", 3*(first+i)))
		all.Go(func() {
			began := time.Now()
			errs[i] = r.Join(c.timeout(time.Minute), seed)
			took[i] = time.Since(began)
		})
	}
	all.Wait()
	c.Must(errors.Join(errs...))
	c.t.Logf("%d Joins took up to %v", n, slices.Max(took))
	return newcomers
}

// broadcastAll lets every member of the Lab broadcast n messages now, and returns their ids.
func broadcastAll(c *contract, n int) (ids []string) {
	c.t.Helper()
	for _, r := range c.all() {
		for i := range n {
			ids = append(ids, r.broadcast(100+i))
		}
	}
	return ids
}

// The newcomer and one of the members cannot talk to each other; all others reach both. At 13b025a what that member broadcasts
// from then on is missed. Right: it is owed like any other.
func TestEveryMessageAfterJoinIsOwedThroughOthers(t *testing.T) {
	inContract(t, 10, contractOptions{}, func(t *testing.T, c *contract) {
		n := c.outside("newcomer", "newcomer", "", nil)
		c.Must(c.Net.Partition([]string{"newcomer"}, []string{"m7"}))
		c.Must(n.Join(c.timeout(time.Minute), c.address("m0")))
		c.once(30*time.Second, broadcastAll(c, 10), n)
	})
}

// A member whose Join has returned is cut off, and somebody joins on the other side and broadcasts there. Meanwhile the member calls
// Join once more, as services do that dial their seeds at intervals. Before: that Join made it a newcomer again, and after the cut
// it missed those messages, silently. Right: it has been a member all the time, so they are owed to it.
func TestJoinAgainOwesNoLess(t *testing.T) {
	inContract(t, 4, contractOptions{}, func(t *testing.T, c *contract) {
		m0 := c.run("m0")
		n := c.outside("newcomer", "newcomer", "", nil)
		c.Must(c.Net.Partition([]string{"m0"}, []string{"m1", "m2", "m3", "newcomer"}))
		if _, ok := c.becomes(time.Minute, func() bool { return !c.run("m1").sees("m0") && !m0.sees("m1") }); !ok {
			t.Fatal("the cut is not noticed")
		}
		c.Must(n.Join(c.timeout(time.Minute), c.address("m1")))
		ids := []string{n.broadcast(100), n.broadcast(200)}
		if err := m0.Join(c.timeout(time.Second), c.address("m1")); err == nil {
			t.Error("a member joined that is cut off")
		}
		c.Net.Heal()
		c.once(30*time.Second, ids, m0)
	})
}

// One member does not take the newcomer in: its Admit hook refuses it, or it is stopped. At 13b025a Join returned nil at once.
// Right: it returns when its context ends, with an error that names the member.
func TestJoinNamesWhoHasNotTakenTheNewcomerIn(t *testing.T) {
	const limit = 2 * time.Second // less than it takes to notice that a member has failed
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped=%v", stopped), func(t *testing.T) {
			o := contractOptions{config: func(name string, c *starling.Config) {
				if name == "m3" && !stopped {
					c.Admit = func(m starling.Member) error {
						if m.Name == "newcomer" {
							return errors.New("we want no newcomers")
						}
						return nil
					}
				}
			}}
			inContract(t, 5, o, func(t *testing.T, c *contract) {
				if stopped {
					c.Must(c.Net.Freeze("m3"))
				}
				n := c.outside("newcomer", "newcomer", "", nil)
				began := time.Now()
				err := n.Join(c.timeout(limit), c.address("m0"))
				if !c.namesOneOf(err, "m3") {
					t.Errorf("after %v Join returned %v, although m3 has not taken the newcomer in", time.Since(began), err)
				}
				if took := time.Since(began); took > limit+time.Second {
					t.Errorf("Join took %v, its context %v", took, limit)
				}
			})
		})
	}
}

// A member crashes and is replaced at once by one of its name at another address, which memberlist refuses until the old one has
// been dead for DeadNodeReclaimTime. At 13b025a Join returned nil at once, the others refused the new one for 35 to 59 s, and
// what they broadcast meanwhile was missed. Right: Join returns nil when the new one is taken in, says who refuses it if its
// context ends before, and the name is taken over as soon as memberlist allows.
func TestReplacedNameIsTakenOver(t *testing.T) {
	const (
		reclaim = 10 * time.Second // Starling's DeadNodeReclaimTime
		slack   = 8 * time.Second
	)
	inContract(t, 5, contractOptions{}, func(t *testing.T, c *contract) {
		c.Crash("m2")
		n := c.outside("replacement", "m2", "", nil)
		joined := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			if err := n.Join(c.timeout(3*time.Minute), c.address("m0")); err != nil {
				t.Errorf("Join: %v", err)
			}
			joined <- time.Now()
		}()
		at := <-joined
		refusing := 0
		for _, r := range c.all() {
			if !r.seesRun(n) {
				refusing++
			}
		}
		if refusing > 0 {
			t.Errorf("Join returned nil after %v, and %d of 4 members refuse the newcomer", at.Sub(began), refusing)
		}
		ids := broadcastAll(c, 10)
		if _, ok := c.becomes(3*time.Minute, func() bool {
			for _, r := range c.all() {
				if !r.seesRun(n) {
					return false
				}
			}
			return true
		}); !ok {
			t.Error("it is never taken in")
		}
		taken := time.Now()
		if refusing == 0 {
			taken = at
		}
		var dead time.Time
		for _, r := range c.all() {
			if _, last := r.failures("m2"); last.After(dead) {
				dead = last
			}
		}
		t.Logf("all have noticed the crash after %v, and taken the new one in after %v", dead.Sub(began), taken.Sub(began))
		if late := taken.Sub(dead); late > reclaim+slack {
			t.Errorf("taken in %v after the last member has noticed the crash; memberlist allows it after %v", late, reclaim)
		}
		c.once(30*time.Second, ids, n)
	})
}

// The same with a context that ends before memberlist allows it.
func TestJoinNamesWhoRefusesTheReplacement(t *testing.T) {
	inContract(t, 5, contractOptions{}, func(t *testing.T, c *contract) {
		c.Crash("m2")
		n := c.outside("replacement", "m2", "", nil)
		err := n.Join(c.timeout(3*time.Second), c.address("m0"))
		if !c.namesOneOf(err, c.Names()...) {
			t.Errorf("Join returned %v, and all four members refuse the newcomer", err)
		}
	})
}

// A list of seeds of which one lives; dials to the others hang. At 13b025a Join took 10 s, the whole of TCPTimeout, and with a
// context of 10 s or less it was an error, although the process had been a member for 10 ms. Right: Join returns as soon as one
// seed has answered, and the others go on in the background.
func TestJoinWithDeadSeeds(t *testing.T) {
	for _, dead := range []int{1, 6} {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("dead=%d/liveFirst=%v", dead, first), func(t *testing.T) {
				inContract(t, 3, contractOptions{}, func(t *testing.T, c *contract) {
					seeds := deadSeeds(c, dead)
					if first {
						seeds = append([]string{c.address("m0")}, seeds...)
					} else {
						seeds = append(seeds, c.address("m0"))
					}
					joinsSoon(c, seeds)
				})
			})
		}
	}
}

// The same with one name that has seven addresses, of which the last one lives. At 13b025a Join took 60 s.
func TestJoinByNameWithDeadAddresses(t *testing.T) {
	names := fakeDNS(t)
	inContract(t, 3, contractOptions{}, func(t *testing.T, c *contract) {
		for _, s := range append(deadSeeds(c, 6), c.address("m0")) {
			names["seeds.example"] = append(names["seeds.example"], netip.MustParseAddrPort(s).Addr())
		}
		joinsSoon(c, []string{"dns+seeds.example:7946"})
	})
}

// fakeDNS makes the default resolver answer from a map, for the rest of the test, which must not be parallel.
func fakeDNS(t *testing.T) map[string][]netip.Addr {
	// The resolver's own semaphore must not be made in a bubble.
	_, _ = (&net.Resolver{PreferGo: true}).LookupNetIP(t.Context(), "ip", "localhost")
	names := map[string][]netip.Addr{}
	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerDNS(server, names)
		return client, nil
	}}
	t.Cleanup(func() { net.DefaultResolver = system })
	return names
}

// answerDNS answers the queries on a stream: with the IPv4 addresses of a name in the order given, and with nothing for other
// types.
func answerDNS(conn net.Conn, names map[string][]netip.Addr) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		const header = 12
		var labels []string
		end := header
		for query[end] != 0 {
			labels = append(labels, string(query[end+1:end+1+int(query[end])]))
			end += 1 + int(query[end])
		}
		end += 5 // the root label, type and class
		var addrs []netip.Addr
		if query[end-3] == 1 { // type A
			addrs = names[strings.Join(labels, ".")]
		}
		answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, byte(len(addrs) >> 8), byte(len(addrs)), 0, 0, 0, 0}, query[header:end]...)
		for _, a := range addrs {
			answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4) // of the name asked for: A, IN, 60 s, 4 bytes
			answer = append(answer, a.AsSlice()...)
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// deadSeeds returns addresses at which dials hang.
func deadSeeds(c *contract, n int) (seeds []string) {
	c.t.Helper()
	for i := range n {
		name := fmt.Sprint("dead", i)
		_, err := c.Net.Transport(name)
		c.Must(err)
		c.Must(c.Net.Crash(name))
		seeds = append(seeds, c.address(name))
	}
	return seeds
}

// joinsSoon lets newcomers join, with various contexts, through seeds of which one lives.
func joinsSoon(c *contract, seeds []string) {
	c.t.Helper()
	for _, limit := range []time.Duration{5 * time.Second, 10 * time.Second, 3 * time.Minute} {
		n := c.outside(fmt.Sprint("newcomer", limit), fmt.Sprint("newcomer", limit), "", nil)
		began := time.Now()
		err := n.Join(c.timeout(limit), seeds...)
		if took := time.Since(began); err != nil || took > time.Second {
			member := "is"
			if !c.run("m0").seesRun(n) {
				member = "is no"
			}
			c.t.Errorf("with a context of %v Join took %v and returned %v; the newcomer %s member", limit, took, oneLine(err), member)
		}
	}
}

func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }

// The seeds that Join did not wait for are tried all the same: here they are of another cluster, behind a slow seed of it.
func TestSeedsGoOnInTheBackground(t *testing.T) {
	inContract(t, 2, contractOptions{}, func(t *testing.T, c *contract) {
		lone := c.outside("lone", "lone", "", nil)
		n := c.outside("newcomer", "newcomer", "", nil)
		slow, err := c.Net.Link("newcomer", "lone")
		c.Must(err)
		slow.Latency, slow.Jitter = 2*time.Second, 0
		c.Must(c.Net.SetLink("newcomer", "lone", slow))
		began := time.Now()
		err = n.Join(c.timeout(30*time.Second), append(deadSeeds(c, 3), c.address("lone"), c.address("m0"))...)
		if took := time.Since(began); err != nil || took > time.Second {
			t.Errorf("Join took %v and returned %v", took, oneLine(err))
		}
		if took, ok := c.becomes(time.Minute, func() bool { return c.run("m1").seesRun(lone) && lone.seesRun(n) }); !ok {
			t.Errorf("the other seed's cluster is not joined %v later", took)
		}
	})
}
