package starling

import (
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestReplicaDrops: each reason for which a replica drops something has the public one of the same name, in the same order. A new
// one without a public name is found here.
func TestReplicaDrops(t *testing.T) {
	if !slices.IsSorted(replicaDrops[:]) {
		t.Errorf("not in order: %v", replicaDrops)
	}
	ours, public := enumsIn(t, "internal/replica")["Drop"], enumsIn(t, ".")["Drop"]
	if len(ours) != len(replica.Drops{}) || len(public) != int(drops) {
		t.Errorf("%d reasons of a replica of %d, %d public ones of %d", len(ours), len(replica.Drops{}), len(public), drops)
	}
	for value, name := range ours {
		if int(value) >= len(replicaDrops) {
			t.Errorf("%s has no public name", name)
		} else if got := public[int64(replicaDrops[value])]; got != name {
			t.Errorf("%s is counted as %s", name, got)
		}
	}
}

// TestDirections: what is dropped on its way out is told from what is dropped on its way in.
func TestDirections(t *testing.T) {
	out := []Drop{DropNoSnapshot, DropStreamQueueFull, DropStreamFailed, DropPacketFailed, DropWrittenOff, DropForeignTooLarge}
	for d := range drops {
		want := DirectionInbound
		if slices.Contains(out, d) {
			want = DirectionOutbound
		}
		if d.Direction() != want {
			t.Errorf("%v is %v, want %v", d, d.Direction(), want)
		}
	}
}

// TestStatsDropped: Stats adds up what the shell and the replica have dropped for the same reason, and names no other.
func TestStatsDropped(t *testing.T) {
	c, err := New(Config{Name: "self", Transport: newTap("10.0.0.1:7946"), Logger: slog.New(slog.DiscardHandler), MaxMessageSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Stats().Dropped; len(got) != 0 {
		t.Errorf("dropped %v before anything came", got)
	}
	from := testPeer(1)
	for _, frame := range [][]byte{
		[]byte("\xff"), // malformed to the shell
		wire.EncodeBatch(from, starlingpb.Batch_REPAIR, []byte("\xff")), // and to the replica
		wire.AppendBody(nil, "unknown", nil),
		wire.AppendBody(nil, "unknown", make([]byte, 101)),
		wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{Key: "unknown", Id: 1}), // p1 is no member
	} {
		c.delegate.NotifyMsg(frame)
	}
	c.delegate.MergeRemoteState(wire.AppendFullState(nil, "unknown", nil), true)
	want := map[Drop]uint64{DropMalformed: 2, DropUnknownKey: 2, DropTooLarge: 1, DropStranger: 1}
	if got := c.Stats().Dropped; !maps.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
}
