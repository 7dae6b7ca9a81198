package wire

import (
	"encoding/binary"
	"fmt"
)

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
