package wire

import (
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// MapEntry is an entry of a Map. Its byte slices point into the frame that it was decoded from.
type MapEntry struct {
	Key    []byte
	Value  []byte
	Stamp  uint64
	Origin uint64 // the run that wrote it
	Prev   uint64 // of a change: the stamp of the one before of the same run
	Base   uint64 // where values are merged: the deletion that it came after
	State  uint8  // as kv.State
	Age    time.Duration
	TTL    bool
	Left   time.Duration // until it expires, if TTL
}

// Fields of MapEntry.
const (
	entryKey    = 1<<3 | bytesField
	entryValue  = 2<<3 | bytesField
	entryStamp  = 3<<3 | fixed64Field
	entryOrigin = 4<<3 | fixed64Field
	entryPrev   = 5<<3 | fixed64Field
	entryBase   = 6<<3 | fixed64Field
	entryState  = 7<<3 | varintField
	entryAge    = 8<<3 | varintField // milliseconds
	entryLeft   = 9<<3 | varintField // milliseconds, as sint64; absent: it does not expire
)

// maxMapTime bounds times of entries: none is older or lives longer.
const maxMapTime = 100 * 365 * 24 * time.Hour

// maxMapStamp bounds stamps, as hlc.Limit does.
const maxMapStamp = 1 << 62

// mapEntryRoom is the most that the fields of an entry need beside its key and value.
const mapEntryRoom = 4*9 + 2*6 + 2 + 2*(1+binary.MaxVarintLen64) + 8

// MapEntrySize is the most that AppendMapEntry appends for a key and a value of these sizes.
func MapEntrySize(key, value int) int { return key + value + mapEntryRoom + 1 + binary.MaxVarintLen32 }

// AppendMapEntry appends an entry as a field of a MapFrame. Where value is not nil, it appends the value to what it is given.
func AppendMapEntry(b []byte, e *MapEntry) []byte {
	b = append(b, byte(mapEntry))
	at := len(b)
	b = append(b, 0, 0, 0, 0, 0) // the length, of fixed width: it is known at the end
	b = appendBytes(b, entryKey, e.Key)
	if len(e.Value) > 0 {
		b = appendBytes(b, entryValue, e.Value)
	}
	b = appendFixed64(b, entryStamp, e.Stamp)
	b = appendFixed64(b, entryOrigin, e.Origin)
	if e.Prev != 0 {
		b = appendFixed64(b, entryPrev, e.Prev)
	}
	if e.Base != 0 {
		b = appendFixed64(b, entryBase, e.Base)
	}
	if e.State != 0 {
		b = appendVarint(b, entryState, uint64(e.State))
	}
	if e.Age > 0 {
		b = appendVarint(b, entryAge, uint64(e.Age.Milliseconds()))
	}
	if e.TTL {
		b = appendVarint(b, entryLeft, protowire.EncodeZigZag(e.Left.Milliseconds()))
	}
	putFixedLength(b[at:], uint32(len(b)-at-5))
	return b
}

// putFixedLength writes a varint of five bytes.
func putFixedLength(b []byte, n uint32) {
	for i := range 4 {
		b[i] = byte(n) | 0x80
		n >>= 7
	}
	b[4] = byte(n)
}

var errLaterState = fmt.Errorf("%w: map entry of a later version", ErrMalformed)

func parseMapEntry(b []byte) (e MapEntry, err error) {
	f := fields{message: b}
	state, age, left := uint64(0), uint64(0), int64(0)
	for f.next() {
		switch f.tag {
		case entryKey:
			e.Key = f.bytes()
		case entryValue:
			e.Value = f.bytes()
		case entryStamp:
			e.Stamp = f.value
		case entryOrigin:
			e.Origin = f.value
		case entryPrev:
			e.Prev = f.value
		case entryBase:
			e.Base = f.value
		case entryState:
			state = f.value
		case entryAge:
			age = f.value
		case entryLeft:
			e.TTL, left = true, protowire.DecodeZigZag(f.value)
		}
	}
	if err = f.err("map entry"); err != nil {
		return MapEntry{}, err
	}
	switch {
	case len(e.Key) > MaxMapKey:
		err = fmt.Errorf("%w: map entry: key of %d bytes, limit %d", ErrMalformed, len(e.Key), MaxMapKey)
	case e.Stamp == 0 || e.Stamp > maxMapStamp || e.Prev >= e.Stamp || e.Base > e.Stamp:
		err = fmt.Errorf("%w: map entry: stamp %d, the one before %d, base %d", ErrMalformed, e.Stamp, e.Prev, e.Base)
	case e.Origin == 0:
		err = fmt.Errorf("%w: map entry without an origin", ErrMalformed)
	case state > 2:
		err = errLaterState
	case state == 2 && !e.TTL:
		err = fmt.Errorf("%w: map entry has expired without a time", ErrMalformed)
	}
	e.State = uint8(state)
	const most = int64(maxMapTime / time.Millisecond)
	e.Age = time.Duration(min(age, uint64(most))) * time.Millisecond
	e.Left = time.Duration(min(max(left, -most), most)) * time.Millisecond
	return e, err
}
