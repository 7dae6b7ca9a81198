package wire

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// TestFullState: parts in, parts out; a malformed one is told where it comes.
func TestFullState(t *testing.T) {
	b := AppendFullState(nil, "a", []byte("1"))
	b = AppendFullState(b, "b", make([]byte, 1000))
	var pb starlingpb.FullState
	if err := proto.Unmarshal(b, &pb); err != nil || len(pb.Parts) != 2 || pb.Parts[1].Key != "b" || len(pb.Parts[1].Data) != 1000 {
		t.Errorf("generated code reads %v, %v", &pb, err)
	}
	var keys []string
	for p, err := range FullState(append(mustMarshal(t, &pb), 0x0a, 200)) {
		if err != nil {
			keys = append(keys, "error")
			continue
		}
		keys = append(keys, string(p.Key))
	}
	if !slices.Equal(keys, []string{"a", "b", "error"}) {
		t.Errorf("parts %q", keys)
	}
}

// FuzzFullState: an end comes, and all that is yielded was there.
func FuzzFullState(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		for p, err := range FullState(b) {
			size += len(p.Key) + len(p.Data) + len(p.Control)
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes came out of %d", size, len(b))
		}
	})
}
