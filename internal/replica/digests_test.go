package replica

import (
	"testing"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

func FuzzDigest(f *testing.F) {
	fuzzControl(f, wire.BodyDigest,
		&starlingpb.Digest{},
		&starlingpb.Digest{Complete: true, Stream: true},
		&starlingpb.Digest{Origins: []*starlingpb.OriginDigest{{Origin: 2, Floor: 3, Top: 9, Held: []uint64{2, 1}}, {Origin: 7, Top: 1 << 63}}},
		&starlingpb.Digest{Answer: true, Origins: []*starlingpb.OriginDigest{{Origin: 1, Top: 1}, {Origin: 2, Top: 1<<64 - 1}}})
}
