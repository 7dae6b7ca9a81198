package wire

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"
)

// mapFrames are frames of every kind.
func mapFrames() [][]byte {
	entry := MapEntry{
		Key: []byte("key"), Value: []byte("value"), Stamp: 1 << 50, Origin: math.MaxUint64, Prev: 7, Base: 3,
		Age: 3 * time.Second, TTL: true, Left: -5 * time.Millisecond,
	}
	dead := MapEntry{Key: []byte{}, Stamp: 2, Origin: 1, State: 1}
	question := MapQuestion{
		ID: 1, First: true, Root: math.MaxUint64, Count: 300, Cover: 5, Partial: true, Lacks: true, Owned: true,
		Nodes:  []MapNode{{0, 0, 9}, {2, 0xff, math.MaxUint32}, {8, math.MaxUint32, 0}},
		Leaves: []MapLeaf{{Level: 1, Prefix: 15, Items: []MapItem{{1, 2, 3}}}, {Items: []MapItem{}}},
	}
	answer := MapAnswer{
		ID: 1, Last: true, Equal: true, Partial: true, Incomplete: true, Cover: []MapRun{{1, 2}, {3, 4}}, Aged: 5, Forced: 6, Weight: 7, Least: 8,
		Nodes: []MapNode{{3, 0xfff, 8}}, Lacks: []uint64{1, math.MaxUint64}, Members: 11,
	}
	return [][]byte{
		AppendMapEntry(nil, &entry), AppendMapEntry(AppendMapEntry(nil, &entry), &dead),
		AppendMapQuestion(nil, &question), AppendMapAnswer(AppendMapEntry(nil, &dead), &answer),
	}
}

// again encodes what was decoded.
func (m *MapFrame) again() (b []byte) {
	for i := range m.Entries {
		b = AppendMapEntry(b, &m.Entries[i])
	}
	if m.Question != nil {
		b = AppendMapQuestion(b, m.Question)
	}
	if m.Answer != nil {
		b = AppendMapAnswer(b, m.Answer)
	}
	return b
}

func TestMapFrames(t *testing.T) {
	for i, b := range mapFrames() {
		m, err := ParseMapFrame(b)
		if err != nil {
			t.Errorf("frame %d: %v", i, err)
		} else if again := m.again(); !reflect.DeepEqual(again, b) {
			t.Errorf("frame %d is %x, and decoded and encoded %x", i, b, again)
		}
	}
}

// The size that is promised for an entry is enough.
func TestMapEntrySize(t *testing.T) {
	e := MapEntry{
		Key: make([]byte, MaxMapKey), Value: make([]byte, 100_000), Stamp: maxMapStamp, Origin: math.MaxUint64, Prev: maxMapStamp - 1,
		Base: maxMapStamp, State: 2, Age: maxMapTime, TTL: true, Left: -maxMapTime,
	}
	if n, limit := len(AppendMapEntry(nil, &e)), MapEntrySize(len(e.Key), len(e.Value)); n > limit {
		t.Errorf("an entry of %d bytes, where at most %d are promised", n, limit)
	}
}

func TestMapFramesRefused(t *testing.T) {
	good := MapEntry{Key: []byte("k"), Stamp: 5, Origin: 1}
	alter := func(f func(*MapEntry)) []byte {
		e := good
		f(&e)
		return AppendMapEntry(nil, &e)
	}
	nodes := func(n ...MapNode) []byte { return AppendMapQuestion(nil, &MapQuestion{Nodes: n}) }
	leaf := func(l MapLeaf) []byte { return AppendMapQuestion(nil, &MapQuestion{Leaves: []MapLeaf{l}}) }
	runs := func(r ...MapRun) []byte { return AppendMapAnswer(nil, &MapAnswer{Cover: r}) }
	for name, b := range map[string][]byte{
		"long key":                 alter(func(e *MapEntry) { e.Key = make([]byte, MaxMapKey+1) }),
		"no stamp":                 alter(func(e *MapEntry) { e.Stamp = 0 }),
		"stamp of the far future":  alter(func(e *MapEntry) { e.Stamp = maxMapStamp + 1 }),
		"one before that is later": alter(func(e *MapEntry) { e.Prev = 5 }),
		"base that is later":       alter(func(e *MapEntry) { e.Base = 6 }),
		"no origin":                alter(func(e *MapEntry) { e.Origin = 0 }),
		"expired without a time":   alter(func(e *MapEntry) { e.State = 2 }),
		"too many nodes":           nodes(make([]MapNode, MaxMapNodes+1)...),
		"node too deep":            nodes(MapNode{Level: MaxMapLevel + 1}),
		"prefix too long":          nodes(MapNode{Level: 1, Prefix: 16}),
		"leaf that cannot be":      leaf(MapLeaf{Level: 0, Prefix: 1}),
		"too many items":           leaf(MapLeaf{Items: make([]MapItem, MaxMapItems+1)}),
		"runs out of order":        runs(MapRun{2, 1}, MapRun{1, 1}),
		"run twice":                runs(MapRun{2, 1}, MapRun{2, 1}),
		"run of the far future":    runs(MapRun{2, math.MaxUint64}),
		"too many lacking":         AppendMapAnswer(nil, &MapAnswer{Lacks: make([]uint64, MaxMapItems+1)}),
		"half an entry":            AppendMapEntry(nil, &good)[:8],
	} {
		if _, err := ParseMapFrame(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes, decoding does not panic, and what is taken is within the limits and the same when it is encoded again.
func FuzzMapFrame(f *testing.F) {
	for _, b := range mapFrames() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMapFrame(b)
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			if len(e.Key) > MaxMapKey || e.Stamp == 0 || e.Stamp > maxMapStamp || e.Age < 0 || e.Age > maxMapTime {
				t.Errorf("an entry beyond the limits: %+v", e)
			}
		}
		again, err := ParseMapFrame(m.again())
		if err != nil || len(again.Entries) != len(m.Entries) {
			t.Errorf("decoded and encoded it is not to be decoded: %v", err)
		}
	})
}
