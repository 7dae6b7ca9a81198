package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

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
	MaxMapRuns   = 4096  // of an answer
	MaxMapLevel  = 8     // of a node
)

// Fields of MapFrame.
const (
	mapEntry    = 1<<3 | bytesField
	mapQuestion = 2<<3 | bytesField
	mapAnswer   = 3<<3 | bytesField
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

// MapQuestion asks how the entries of a Map differ.
//
//	message MapQuestion {
//	  fixed64 id = 1;
//	  bool first = 2;       // root, count and cover are set, and nothing else is asked
//	  fixed64 root = 3;     // the sum of all entries
//	  uint64 count = 4;
//	  fixed64 cover = 5;    // the sum of what the sender has seen of each run
//	  bool partial = 6;     // the sender has not been given a first state yet
//	  bool lacks = 7;       // say which keys of the leaves are not there
//	  bytes nodes = 8;      // for each: level (1 byte), prefix, hash (4 bytes each)
//	  repeated bytes leaves = 9; // level (1 byte), prefix (4); for each entry: hash of the key (8), stamp (8), mark (4)
//	}
type MapQuestion struct {
	ID      uint64
	First   bool
	Root    uint64
	Count   uint64
	Cover   uint64
	Partial bool
	Lacks   bool
	Nodes   []MapNode
	Leaves  []MapLeaf
}

// MapNode is a range of the hashes of keys: of a question with its hash, of an answer with the number of entries in it.
type MapNode struct {
	Level  uint8
	Prefix uint32
	Value  uint32
}

// MapLeaf is a range of the hashes of keys, with what the sender has there.
type MapLeaf struct {
	Level  uint8
	Prefix uint32
	Items  []MapItem
}

// MapItem is one entry, in few bytes.
type MapItem struct {
	Key   uint64 // its hash
	Stamp uint64
	Mark  uint32
}

const (
	mapNodeSize = 1 + 4 + 4
	mapItemSize = 8 + 8 + 4
	mapLeafHead = 1 + 4
)

// Fields of MapQuestion.
const (
	questionID      = 1<<3 | fixed64Field
	questionFirst   = 2<<3 | varintField
	questionRoot    = 3<<3 | fixed64Field
	questionCount   = 4<<3 | varintField
	questionCover   = 5<<3 | fixed64Field
	questionPartial = 6<<3 | varintField
	questionLacks   = 7<<3 | varintField
	questionNodes   = 8<<3 | bytesField
	questionLeaf    = 9<<3 | bytesField
)

// AppendMapQuestion appends a question as a field of a MapFrame.
func AppendMapQuestion(b []byte, q *MapQuestion) []byte {
	var m []byte
	m = appendFixed64(m, questionID, q.ID)
	m = appendBool(m, questionFirst, q.First)
	if q.First {
		m = appendFixed64(m, questionRoot, q.Root)
		m = appendVarint(m, questionCount, q.Count)
		m = appendFixed64(m, questionCover, q.Cover)
	}
	m = appendBool(m, questionPartial, q.Partial)
	m = appendBool(m, questionLacks, q.Lacks)
	if len(q.Nodes) > 0 {
		m = appendBytes(m, questionNodes, packNodes(q.Nodes))
	}
	for i := range q.Leaves {
		m = appendBytes(m, questionLeaf, packLeaf(&q.Leaves[i]))
	}
	return appendBytes(b, mapQuestion, m)
}

func appendBool(b []byte, t tag, v bool) []byte {
	if !v {
		return b
	}
	return appendVarint(b, t, 1)
}

func packNodes(nodes []MapNode) []byte {
	b := make([]byte, 0, len(nodes)*mapNodeSize)
	for _, n := range nodes {
		b = append(b, n.Level)
		b = binary.LittleEndian.AppendUint32(b, n.Prefix)
		b = binary.LittleEndian.AppendUint32(b, n.Value)
	}
	return b
}

func packLeaf(l *MapLeaf) []byte {
	b := make([]byte, 0, mapLeafHead+len(l.Items)*mapItemSize)
	b = append(b, l.Level)
	b = binary.LittleEndian.AppendUint32(b, l.Prefix)
	for _, it := range l.Items {
		b = binary.LittleEndian.AppendUint64(b, it.Key)
		b = binary.LittleEndian.AppendUint64(b, it.Stamp)
		b = binary.LittleEndian.AppendUint32(b, it.Mark)
	}
	return b
}

// MapAnswer answers a MapQuestion. Entries that go with it are in frames with the same id, and last is in the last of them.
//
//	message MapAnswer {
//	  fixed64 id = 1;
//	  bool last = 2;
//	  bool equal = 3;       // to a first question: the entries are the same
//	  bool partial = 4;     // the sender has not been given a first state yet
//	  bool incomplete = 5;  // an entry could not be given
//	  bytes cover = 6;      // to a first question, if what was seen is not the same: for each run its id and stamp (8 bytes each)
//	  fixed64 aged = 7;     // likewise what the sender has let go of
//	  fixed64 forced = 8;
//	  uint64 weight = 9;    // likewise among how many members the sender has been
//	  fixed64 least = 10;   // and the least id of those
//	  bytes nodes = 11;     // those that differ: level (1 byte), prefix, number of entries (4 bytes each)
//	  bytes lacks = 12;     // hashes (8 bytes each) of keys that are not there
//	}
type MapAnswer struct {
	ID         uint64
	Last       bool
	Equal      bool
	Partial    bool
	Incomplete bool
	Cover      []MapRun // sorted by run; nil: it is not told
	Aged       uint64
	Forced     uint64
	Weight     uint64
	Least      uint64
	Nodes      []MapNode
	Lacks      []uint64
}

// MapRun is up to which stamp all writes of a run were seen.
type MapRun struct{ ID, Stamp uint64 }

// Fields of MapAnswer.
const (
	answerID         = 1<<3 | fixed64Field
	answerLast       = 2<<3 | varintField
	answerEqual      = 3<<3 | varintField
	answerPartial    = 4<<3 | varintField
	answerIncomplete = 5<<3 | varintField
	answerCover      = 6<<3 | bytesField
	answerAged       = 7<<3 | fixed64Field
	answerForced     = 8<<3 | fixed64Field
	answerWeight     = 9<<3 | varintField
	answerLeast      = 10<<3 | fixed64Field
	answerNodes      = 11<<3 | bytesField
	answerLacks      = 12<<3 | bytesField
)

// AppendMapAnswer appends an answer as a field of a MapFrame.
func AppendMapAnswer(b []byte, a *MapAnswer) []byte {
	var m []byte
	m = appendFixed64(m, answerID, a.ID)
	m = appendBool(m, answerLast, a.Last)
	m = appendBool(m, answerEqual, a.Equal)
	m = appendBool(m, answerPartial, a.Partial)
	m = appendBool(m, answerIncomplete, a.Incomplete)
	if a.Cover != nil {
		packed := make([]byte, 0, 16*len(a.Cover))
		for _, r := range a.Cover {
			packed = binary.LittleEndian.AppendUint64(packed, r.ID)
			packed = binary.LittleEndian.AppendUint64(packed, r.Stamp)
		}
		m = appendBytes(m, answerCover, packed)
		m = appendFixed64(m, answerAged, a.Aged)
		m = appendFixed64(m, answerForced, a.Forced)
		m = appendVarint(m, answerWeight, a.Weight)
		m = appendFixed64(m, answerLeast, a.Least)
	}
	if len(a.Nodes) > 0 {
		m = appendBytes(m, answerNodes, packNodes(a.Nodes))
	}
	if len(a.Lacks) > 0 {
		packed := make([]byte, 0, 8*len(a.Lacks))
		for _, k := range a.Lacks {
			packed = binary.LittleEndian.AppendUint64(packed, k)
		}
		m = appendBytes(m, answerLacks, packed)
	}
	return appendBytes(b, mapAnswer, m)
}

// MapFrame is a decoded message of a Map's channel. The slices of its entries point into the message.
type MapFrame struct {
	Entries  []MapEntry
	Question *MapQuestion // nil: none
	Answer   *MapAnswer   // nil: none
}

// ParseMapFrame decodes a message of a Map's channel and holds it against the limits. What it allocates is at most a small multiple of the
// message.
func ParseMapFrame(b []byte) (m MapFrame, err error) {
	f := fields{message: b}
	for f.next() {
		switch f.tag {
		case mapEntry:
			var e MapEntry
			if e, err = parseMapEntry(f.bytes()); err == nil {
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
		err = fmt.Errorf("%w: map entry: state %d", ErrMalformed, state)
	case state == 2 && !e.TTL:
		err = fmt.Errorf("%w: map entry has expired without a time", ErrMalformed)
	}
	e.State = uint8(state)
	const most = int64(maxMapTime / time.Millisecond)
	e.Age = time.Duration(min(age, uint64(most))) * time.Millisecond
	e.Left = time.Duration(min(max(left, -most), most)) * time.Millisecond
	return e, err
}

func parseMapQuestion(b []byte) (*MapQuestion, error) {
	f := fields{message: b}
	q := new(MapQuestion)
	var err error
	items := 0
	for f.next() && err == nil {
		switch f.tag {
		case questionID:
			q.ID = f.value
		case questionFirst:
			q.First = f.value != 0
		case questionRoot:
			q.Root = f.value
		case questionCount:
			q.Count = f.value
		case questionCover:
			q.Cover = f.value
		case questionPartial:
			q.Partial = f.value != 0
		case questionLacks:
			q.Lacks = f.value != 0
		case questionNodes:
			q.Nodes, err = unpackNodes(f.bytes())
		case questionLeaf:
			var l MapLeaf
			if l, err = unpackLeaf(f.bytes()); err == nil {
				q.Leaves, items = append(q.Leaves, l), items+len(l.Items)
			}
			if len(q.Leaves) > MaxMapLeaves || items > MaxMapItems {
				err = fmt.Errorf("%w: map question: %d leaves with %d entries, limits %d and %d",
					ErrMalformed, len(q.Leaves), items, MaxMapLeaves, MaxMapItems)
			}
		}
	}
	if err == nil {
		err = f.err("map question")
	}
	return q, err
}

func parseMapAnswer(b []byte) (*MapAnswer, error) {
	f := fields{message: b}
	a := new(MapAnswer)
	var err error
	for f.next() && err == nil {
		switch f.tag {
		case answerID:
			a.ID = f.value
		case answerLast:
			a.Last = f.value != 0
		case answerEqual:
			a.Equal = f.value != 0
		case answerPartial:
			a.Partial = f.value != 0
		case answerIncomplete:
			a.Incomplete = f.value != 0
		case answerCover:
			a.Cover, err = unpackRuns(f.bytes())
		case answerAged:
			a.Aged = min(f.value, maxMapStamp)
		case answerForced:
			a.Forced = min(f.value, maxMapStamp)
		case answerWeight:
			a.Weight = min(f.value, math.MaxInt32)
		case answerLeast:
			a.Least = f.value
		case answerNodes:
			a.Nodes, err = unpackNodes(f.bytes())
		case answerLacks:
			a.Lacks, err = unpackKeys(f.bytes())
		}
	}
	if err == nil {
		err = f.err("map answer")
	}
	return a, err
}

// packed holds the size of packed values against the size of one and the limit.
func packed(what string, b []byte, size, limit int) error {
	if len(b)%size != 0 || len(b)/size > limit {
		return fmt.Errorf("%w: %s: %d bytes, of %d each, limit %d of them", ErrMalformed, what, len(b), size, limit)
	}
	return nil
}

func unpackNodes(b []byte) ([]MapNode, error) {
	if err := packed("nodes of a map", b, mapNodeSize, MaxMapNodes); err != nil {
		return nil, err
	}
	nodes := make([]MapNode, 0, len(b)/mapNodeSize)
	for ; len(b) > 0; b = b[mapNodeSize:] {
		n := MapNode{b[0], binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])}
		if err := checkNode(n.Level, n.Prefix); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// checkNode reports a node that cannot be.
func checkNode(level uint8, prefix uint32) error {
	if level > MaxMapLevel || uint64(prefix)>>(4*level) != 0 {
		return fmt.Errorf("%w: node %x of level %d of a map", ErrMalformed, prefix, level)
	}
	return nil
}

func unpackLeaf(b []byte) (MapLeaf, error) {
	if len(b) < mapLeafHead {
		return MapLeaf{}, fmt.Errorf("%w: leaf of a map of %d bytes", ErrMalformed, len(b))
	}
	l := MapLeaf{Level: b[0], Prefix: binary.LittleEndian.Uint32(b[1:])}
	b = b[mapLeafHead:]
	if err := packed("leaf of a map", b, mapItemSize, MaxMapItems); err != nil {
		return MapLeaf{}, err
	}
	if err := checkNode(l.Level, l.Prefix); err != nil {
		return MapLeaf{}, err
	}
	l.Items = make([]MapItem, 0, len(b)/mapItemSize)
	for ; len(b) > 0; b = b[mapItemSize:] {
		l.Items = append(l.Items, MapItem{
			Key: binary.LittleEndian.Uint64(b), Stamp: binary.LittleEndian.Uint64(b[8:]), Mark: binary.LittleEndian.Uint32(b[16:]),
		})
	}
	return l, nil
}

func unpackRuns(b []byte) ([]MapRun, error) {
	if err := packed("runs of a map", b, 16, MaxMapRuns); err != nil {
		return nil, err
	}
	runs := make([]MapRun, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		r := MapRun{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		if n := len(runs); n > 0 && runs[n-1].ID >= r.ID || r.Stamp > maxMapStamp {
			return nil, fmt.Errorf("%w: runs of a map out of order, or a stamp of %d", ErrMalformed, r.Stamp)
		}
		runs = append(runs, r)
	}
	return runs, nil
}

func unpackKeys(b []byte) ([]uint64, error) {
	if err := packed("keys of a map", b, 8, MaxMapItems); err != nil {
		return nil, err
	}
	keys := make([]uint64, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		keys = append(keys, binary.LittleEndian.Uint64(b))
	}
	return keys, nil
}
