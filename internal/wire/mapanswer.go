package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

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
//	  fixed64 members = 13; // of an owned map: the sum of the ids whose entries count at the sender
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
	Members    uint64
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
	answerMembers    = 13<<3 | fixed64Field
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
		m = appendBytes(m, answerCover, packRuns(a.Cover))
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
	if a.Members != 0 {
		m = appendFixed64(m, answerMembers, a.Members)
	}
	return appendBytes(b, mapAnswer, m)
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
		case answerMembers:
			a.Members = f.value
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

func packRuns(runs []MapRun) []byte {
	b := make([]byte, 0, 16*len(runs))
	for _, r := range runs {
		b = binary.LittleEndian.AppendUint64(b, r.ID)
		b = binary.LittleEndian.AppendUint64(b, r.Stamp)
	}
	return b
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
