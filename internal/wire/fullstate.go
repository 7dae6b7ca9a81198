package wire

import "iter"

// Fields of starlingpb.FullState, which memberlist's push/pull carries.
const (
	fullStatePart    = 1<<3 | bytesField
	fullStateControl = 2<<3 | bytesField
)

// AppendFullState appends one part to an encoded FullState.
func AppendFullState(b []byte, key string, data []byte) []byte {
	b = appendVarint(b, fullStatePart, uint64(BodySize(key, len(data))))
	return AppendBody(b, key, data)
}

// AppendFullStateControl appends a control frame to an encoded FullState.
func AppendFullStateControl(b, frame []byte) []byte { return appendBytes(b, fullStateControl, frame) }

// FullState yields the parts of an encoded FullState, control frames among them, a malformed part as an error. An error of the
// FullState itself is the last that it yields.
func FullState(b []byte) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		f := fields{message: b}
		for f.next() {
			if (f.tag == fullStatePart || f.tag == fullStateControl) && !yield(ParsePart(f.bytes())) {
				return
			}
		}
		if err := f.err("full state"); err != nil {
			yield(Part{}, err)
		}
	}
}
