package wire

import "iter"

// Features are what a member understands beyond the version that it speaks, a bit for each. Nobody is sent what belongs to a feature that
// it does not have. Bits of a later version mean nothing to this one. A bit is never given another meaning.
type Features uint64

const (
	// FeatureTypes: it tells what its channels carry (starlingpb.Types).
	FeatureTypes Features = 1 << iota
	// FeatureKept: it takes streams on connections that are kept (internal/transport/kept.go).
	FeatureKept
	// FeaturePieces: it takes a message for it alone in pieces (starlingpb.Direct).
	FeaturePieces
	// FeatureReads: it tells how much of a stream it has read, if that takes long (internal/transport/kept.go).
	FeatureReads

	// KnownFeatures are those of this version.
	KnownFeatures = iota
)

// OwnFeatures are those that this member has: all that are known.
const OwnFeatures = 1<<KnownFeatures - 1

// Has reports whether all of these features are there.
func (f Features) Has(all Features) bool { return f&all == all }

// Each yields the number of each known feature that is there, from 0.
func (f Features) Each() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range KnownFeatures {
			if f.Has(1<<i) && !yield(i) {
				return
			}
		}
	}
}
