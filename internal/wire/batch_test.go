package wire

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// TestBatch: the parts of a batch, and the way they came; a malformed rest ends it.
func TestBatch(t *testing.T) {
	for via, want := range map[starlingpb.Batch_Via]Route{
		starlingpb.Batch_GOSSIP: RouteGossip, starlingpb.Batch_STREAM: RouteStream, starlingpb.Batch_REPAIR: RouteRepair,
		99: RouteGossip,
	} {
		frame := EncodeBatch(testSender(), via, []byte("one"), nil, []byte("three"))
		ctl := control(t, frame)
		var got []string
		for frame, via := range BatchParts(append(slices.Clone(ctl.Content), 0xff)) {
			if via != want {
				t.Errorf("via %v, want %v", via, want)
			}
			got = append(got, string(frame))
		}
		if !slices.Equal(got, []string{"one", "", "three"}) {
			t.Errorf("parts %q", got)
		}
		for range BatchParts(ctl.Content) {
			break
		}
	}
}

// TestBatchEnd: the last batch of an answer tells which pull it answers, what its sender wants to see again, and what the
// answering member lacks too; a malformed one tells nothing.
func TestBatchEnd(t *testing.T) {
	lacks := []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1}}, {Origin: 2}}
	content := mustMarshal(t, &starlingpb.Batch{Parts: [][]byte{{1}}, Pull: 7, Lacks: lacks, Proof: 9})
	end := BatchEnd(content)
	pull, proof, got := end.Pull, end.Proof, end.Lacks
	if pull != 7 || proof != 9 || !slices.EqualFunc(got, lacks, func(a, b *starlingpb.Ranges) bool { return proto.Equal(a, b) }) {
		t.Errorf("pull %d, proof %d, lacks %v", pull, proof, got)
	}
	for name, bad := range map[string][]byte{
		"cut":           content[:len(content)-1],
		"no ranges":     appendBytes(slices.Clone(content), batchLacks, "\xff"),
		"endless lacks": appendBytes(slices.Clone(content), batchLacks, make([]byte, maxSpansSize+1)),
	} {
		if end := BatchEnd(bad); end.Pull != 0 || end.Proof != 0 || end.Lacks != nil {
			t.Errorf("%s: pull %d, proof %d, lacks %v", name, pull, proof, got)
		}
	}
	many := mustMarshal(t, &starlingpb.Batch{Pull: 7, Lacks: slices.Repeat(lacks, PullSpans)})
	if end := BatchEnd(many); end.Pull != 7 || len(end.Lacks) != PullSpans {
		t.Errorf("pull %d, %d lacks", pull, len(got))
	}
}

// FuzzBatch: an end comes, and all that is yielded was there.
func FuzzBatch(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		for frame, via := range BatchParts(b) {
			size += len(frame)
			if via != RouteGossip && via != RouteStream && via != RouteRepair {
				t.Fatalf("via %v", via)
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes came out of %d", size, len(b))
		}
	})
}
