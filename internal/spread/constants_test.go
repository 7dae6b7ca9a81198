package spread

import (
	"testing"
	"time"
	"unsafe"
)

// TestCouplings: what one constant demands of another.
func TestCouplings(t *testing.T) {
	for demand, holds := range map[string]bool{
		"a member that owes an answer is judged when the longest time-out is over": silentRTOs >= 1<<doublings,
		"a child that holds is asked no more often than a mute one is tried":       heldRTOs >= 1<<doublings,
		"the last of the flat tries goes by stream":                                streamEvery <= flatTries,
		"two streams are among the tries of a head":                                headTries > 2*streamEvery,
		"a member is silent no earlier than the slowest answer is late":            silentMin >= RTOMax,
		"a parent that still asks is answered":                                     keepDone >= heldMost,
		"a member that held for too long is not asked to head a slice at once":     leafFor > heldMost,
		"a full window is served, and what was released beside it":                 maxServed > windowMax,
		"several roots are served at once":                                         MaxBatches >= 2*maxServed,
		"a report that names all it may, and another one, fit a packet":            2*8*maxGone < testPacket,
		"a frame's ages are right within a time-out at each hop":                   encodedFor <= RTOFirst,
	} {
		if !holds {
			t.Error(demand)
		}
	}
}

// depth is how many hops lead to the last of some members behind one.
func depth(behind int) int {
	if behind == 0 {
		return 0
	}
	return 1 + depth((behind-1)/fanOut)
}

// TestTreeDepth: 1,000 members are as many hops deep as heldMost allows for.
func TestTreeDepth(t *testing.T) {
	if got := depth(1000 - 1); got != treeDepth {
		t.Errorf("%d hops", got)
	}
}

// TestTimeouts: when a head that answers nothing is tried again, is handed on, and is given up, before the first measurement.
// All of that comes before it counts as silent. Repair waits for FlatTime with what it would pull.
func TestTimeouts(t *testing.T) {
	c := newScene(t, "start")
	at := func(ev hopEvent, st hopState) time.Duration {
		c.passUntilDue(st, ev)
		elapsed := c.now.Sub(c.hop.Sent[0])
		c.s.timeout(c.hop, c.now)
		return elapsed
	}
	for try := range flatTries {
		if got := at(dueRetry, hopAsked); got != time.Duration(try+1)*RTOFirst {
			t.Errorf("try %d is late after %v", try+1, got)
		}
	}
	if got := c.hop.Sent[flatTries].Sub(c.hop.Sent[0]); got != FlatTime {
		t.Errorf("the plain tries take %v", got)
	}
	backOff := (2 + 4 + 8 + 8) * RTOFirst // the fourth try to the seventh
	if got := at(dueSpent, hopAsked); got != FlatTime+backOff || got != 250*time.Millisecond {
		t.Errorf("handed on after %v", got)
	}
	alone := (leafTries - headTries) * (1 << doublings) * RTOFirst
	if got := at(dueGiveUp, hopAskedReleased); got != FlatTime+backOff+alone || got >= silentMin {
		t.Errorf("given up after %v", got)
	}
	if c.peer().Silent() {
		t.Error("silent before silentMin")
	}
}

// TestPeerSize: what a Peer takes is written on it.
func TestPeerSize(t *testing.T) {
	if got := unsafe.Sizeof(Peer{}); got != 184 {
		t.Errorf("%d bytes", got)
	}
}
