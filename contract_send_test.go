package starling_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// contractSizes are those of a message that fits a packet, and of one that goes by stream.
var contractSizes = []int{100, 3000}

// The sender sees the receiver fail, and the receiver sees nothing of that: it was stopped, or cut off for less than it takes to
// notice. Then they meet again and the sender sends on. At 13b025a Send returned nil for 50 of 50 messages and the handler saw
// none: the sender counted from 1 again, and the receiver took that for repetitions. Right: nil means handed over, once.
func TestSendAfterOneSidedFailure(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		for _, size := range contractSizes {
			t.Run(fmt.Sprintf("stopped=%v/%d", stopped, size), func(t *testing.T) {
				o := contractOptions{config: func(name string, c *starling.Config) {
					if name == "m1" {
						c.Tune = blind
					}
				}}
				inContract(t, 5, o, func(t *testing.T, c *contract) {
					from, to := c.run("m0"), c.run("m1")
					sendMany(c, from, to, 50, size)
					if stopped {
						c.Must(c.Net.Freeze("m1"))
					} else {
						c.Must(c.Net.Partition([]string{"m1"}, []string{"m0", "m2", "m3", "m4"}))
					}
					if _, ok := c.becomes(time.Minute, func() bool { return !from.sees("m1") }); !ok {
						t.Fatal("the sender does not notice")
					}
					if stopped {
						c.Must(c.Net.Thaw("m1"))
					}
					c.Net.Heal()
					c.WaitAll(time.Minute)
					if n, _ := to.failures("m0"); n > 0 {
						t.Fatal("the receiver has noticed too: this is another case")
					}
					sendMany(c, from, to, 50, size)
				})
			})
		}
	}
}

// sendMany sends messages one after the other, and fails the test unless each was acknowledged and handled once.
func sendMany(c *contract, from, to *contractRun, n, size int) {
	c.t.Helper()
	acknowledged, lacking, again := 0, 0, 0
	for range n {
		id, err := from.send(30*time.Second, to.name, size)
		if err != nil {
			c.t.Errorf("Send: %v", err)
			continue
		}
		acknowledged++
		c.becomes(time.Second, func() bool { return to.times(id) > 0 })
		switch times := to.times(id); {
		case times == 0:
			lacking++
		case times > 1:
			again++
		}
	}
	if acknowledged != n || lacking > 0 || again > 0 {
		c.t.Errorf("Send returned nil for %d of %d; of these the handler was not given %d, and %d more than once",
			acknowledged, n, lacking, again)
	}
}

// The receiver sees the sender fail and the sender sees nothing of that: packets and dials from the receiver do not reach the
// sender, so that acknowledgements are lost while messages arrive. Then they meet again and the sender, who has tried all the
// time, is acknowledged. At 13b025a the handler was given 19 of 20 messages twice: the receiver had forgotten what it had taken.
// Right: once.
func TestSendOnceThoughReceiverSawFailure(t *testing.T) {
	for _, size := range contractSizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			o := contractOptions{config: func(_ string, c *starling.Config) {
				c.Tune = func(m *memberlist.Config) { m.PushPullInterval = 0 }
			}}
			inContract(t, 2, o, func(t *testing.T, c *contract) {
				from, to := c.run("m0"), c.run("m1")
				link, err := c.Net.Link("m1", "m0")
				c.Must(err)
				deaf := link
				deaf.BlockPackets, deaf.RefuseStreams = true, true
				c.Must(c.Net.SetLink("m1", "m0", deaf))
				sent := sendAtOnce(from, to.name, 20, size)
				if _, ok := c.becomes(time.Minute, func() bool { return !to.sees("m0") }); !ok {
					t.Fatal("the receiver does not notice")
				}
				c.Must(c.Net.SetLink("m1", "m0", link))
				c.WaitAll(time.Minute)
				sends := sent()
				if n, _ := from.failures("m1"); n > 0 {
					t.Fatal("the sender has noticed too: this is another case")
				}
				time.Sleep(15 * time.Second) // for what is still on its way
				twice := 0
				for _, s := range sends {
					if s.err != nil || to.times(s.id) == 0 {
						t.Errorf("Send: %v, handled %d times", s.err, to.times(s.id))
					}
					if to.times(s.id) > 1 {
						twice++
					}
				}
				if twice > 0 {
					t.Errorf("the handler was given %d of %d messages more than once", twice, len(sends))
				}
			})
		})
	}
}

// contractSend is one call of Send.
type contractSend struct {
	id   string
	err  error
	took time.Duration
}

const contractSendLimit = 2 * time.Minute

// sendAtOnce sends n messages concurrently. What it returns waits for all of them.
func sendAtOnce(from *contractRun, to string, n, size int) (wait func() []contractSend) {
	sends := make([]contractSend, n)
	var all sync.WaitGroup
	for i := range sends {
		all.Go(func() {
			began := time.Now()
			id, err := from.send(contractSendLimit, to, size)
			sends[i] = contractSend{id, err, time.Since(began)}
		})
	}
	return func() []contractSend { all.Wait(); return sends }
}

// The receiver crashes; a Send to it is tried again and again, since nobody has noticed yet; a new run starts at the same
// address, under the same name or another one. At 13b025a the new run's handler was given what was meant for the old one, and
// the next message to it was acknowledged and never handled. Right: another run refuses it and says so, Send says that the run is
// gone, and what is sent to the new run is handled once.
func TestSendAcrossRestart(t *testing.T) {
	for _, successor := range []string{"m1", "another"} {
		for _, size := range contractSizes {
			t.Run(fmt.Sprintf("%s/%d", successor, size), func(t *testing.T) {
				inContract(t, 3, contractOptions{}, func(t *testing.T, c *contract) {
					from := c.run("m0")
					c.Crash("m1")
					sent := sendAtOnce(from, "m1", 5, size)
					time.Sleep(10 * time.Millisecond)
					to := c.outside("m1", successor, "", nil) // at the address that m1 has
					c.Must(to.Join(c.timeout(time.Minute), c.address("m0")))
					if _, ok := c.becomes(time.Minute, func() bool { return from.seesRun(to) }); !ok {
						t.Fatal("the new run is not seen")
					}
					strange := 0
					for _, s := range sent() {
						if !isGone(s.err) || s.took > time.Minute {
							t.Errorf("Send to the old run: %v after %v", s.err, s.took)
						}
						if to.times(s.id) > 0 {
							strange++
						}
					}
					if strange > 0 {
						t.Errorf("the new run was given %d of 5 messages that were meant for the old one", strange)
					}
					sendMany(c, from, to, 10, size)
				})
			})
		}
	}
}

// A member is cut off, seen to fail, and met again, all between two tries of a Send to it. At 13b025a every further try was
// acknowledged and Send did not return for 10 minutes: the sender had forgotten who waits for that. Right: it returns, with nil
// if the message was handed over, once, or says that the member is gone.
func TestSendRetriedAcrossFlap(t *testing.T) {
	for _, size := range contractSizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			inContract(t, 2, contractOptions{}, func(t *testing.T, c *contract) {
				from, to := c.run("m0"), c.run("m1")
				c.Must(c.Net.Partition([]string{"m0"}, []string{"m1"}))
				// The pauses between tries grow up to 5 s, so that of many that start one after the other some have the failure
				// and the meeting, a second or two apart, in one pause.
				var waits []func() []contractSend
				for from.sees("m1") && len(waits) < 400 {
					waits = append(waits, sendAtOnce(from, "m1", 1, size))
					time.Sleep(100 * time.Millisecond)
				}
				c.Net.Heal()
				c.WaitAll(time.Minute)
				hang, over, gone := 0, 0, 0
				for _, wait := range waits {
					s := wait()[0]
					times := to.times(s.id)
					switch {
					case s.took >= contractSendLimit:
						hang++
					case s.err == nil && times == 1:
						over++
					case isGone(s.err) && times <= 1:
						gone++
					default:
						t.Errorf("Send: %v after %v, handled %d times", s.err, s.took, times)
					}
				}
				if t.Logf("%d handed over, %d gone, %d had not returned after %v", over, gone, hang, contractSendLimit); hang > 0 {
					t.Errorf("%d of %d Sends did not return within %v of the flap", hang, len(waits), contractSendLimit)
				}
			})
		})
	}
}

// Messages to a run of a member that is gone are refused between messages to the run that has its name now. Before: each refused one
// took a number of the new run, and after 4,096 of them every Send to it was answered "inbox full" for ever. Right: they cost nothing.
func TestSendToOldRunTakesNoNumber(t *testing.T) {
	inContract(t, 2, contractOptions{}, func(t *testing.T, c *contract) {
		from, old := c.run("m0"), c.run("m1").Self()
		c.Restart("m1")
		c.Must(c.See([]string{"m0"}, []string{"m0", "m1"}))
		to := c.run("m1")
		for i := range 4200 {
			if err := from.ch.SendMember(c.timeout(time.Second), old, []byte("old")); !isGone(err) {
				t.Fatalf("Send %d to the old run: %v", i, err)
			}
			if id, err := from.send(5*time.Second, "m1", 100); err != nil || to.times(id) > 1 {
				t.Fatalf("Send %d to the new run: %v", i, err)
			}
		}
	})
}
