package wire

import "errors"

// What the messages of a Map's channel carry. They are encoded as protobuf is:
//
//	message MapFrame {
//	  repeated MapEntry entries = 1;  // a change, or what an answer gives
//	  MapQuestion question = 2;
//	  MapAnswer answer = 3;
//	}

// Bounds of a MapFrame.
const (
	MaxMapKey    = 4096  // bytes of a key
	MaxMapNodes  = 4096  // of a question or of an answer
	MaxMapLeaves = 2048  // of a question
	MaxMapItems  = 16384 // of all leaves of a question, and keys of an answer that are lacking
	MaxMapRuns   = 4096  // of an answer, and of a question
	MaxMapLevel  = 8     // of a node
)

// Fields of MapFrame.
const (
	mapEntry    = 1<<3 | bytesField
	mapQuestion = 2<<3 | bytesField
	mapAnswer   = 3<<3 | bytesField
)

// MapFrame is a decoded message of a Map's channel. The slices of its entries point into the message.
type MapFrame struct {
	Entries  []MapEntry
	Question *MapQuestion // nil: none
	Answer   *MapAnswer   // nil: none
	Later    int          // entries of a state that a later version knows: they are left out
}

// ParseMapFrame decodes a message of a Map's channel and holds it against the limits. What it allocates is at most a small multiple of the
// message.
func ParseMapFrame(b []byte) (m MapFrame, err error) {
	f := fields{message: b}
	for f.next() {
		switch f.tag {
		case mapEntry:
			var e MapEntry
			switch e, err = parseMapEntry(f.bytes()); {
			case errors.Is(err, errLaterState):
				m.Later, err = m.Later+1, nil
			case err == nil:
				m.Entries = append(m.Entries, e)
			}
		case mapQuestion:
			m.Question, err = parseMapQuestion(f.bytes())
		case mapAnswer:
			m.Answer, err = parseMapAnswer(f.bytes())
		}
		if err != nil {
			return MapFrame{}, err
		}
	}
	return m, f.err("map frame")
}
