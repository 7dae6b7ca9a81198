package wire

import (
	"fmt"
)

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
//	  bytes since = 10;     // give what was written later: for each run its id and a stamp (8 bytes each); nothing else is asked
//	  bool owned = 11;      // the sender's entries are owned by who has written them
//	}
type MapQuestion struct {
	ID      uint64
	First   bool
	Root    uint64
	Count   uint64
	Cover   uint64
	Partial bool
	Lacks   bool
	Owned   bool
	Nodes   []MapNode
	Leaves  []MapLeaf
	Since   []MapRun // sorted by run; nil: it is not asked
}

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
	questionSince   = 10<<3 | bytesField
	questionOwned   = 11<<3 | varintField
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
	if q.Since != nil {
		m = appendBytes(m, questionSince, packRuns(q.Since))
	}
	m = appendBool(m, questionOwned, q.Owned)
	return appendBytes(b, mapQuestion, m)
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
		case questionOwned:
			q.Owned = f.value != 0
		case questionNodes:
			q.Nodes, err = unpackNodes(f.bytes())
		case questionSince:
			q.Since, err = unpackRuns(f.bytes())
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
