package starlingstatus

import (
	"fmt"
	"strings"

	"github.com/starling-go/starling"
)

// A Map is a starling.Map for the page to show. [Sizes] and [Values] make one.
type Map struct {
	state func() MapState
}

// Sizes shows how large a map is, and nothing of what is in it.
func Sizes[V any](m *starling.Map[V]) Map {
	return Map{func() MapState { return stateOf(m.Key(), m.Stats()) }}
}

// Values shows how large a map is, and its first 100 values by key, too, to whoever sees the page. text tells how a value is
// shown; nil means fmt.Sprint. It must be quick, and is called concurrently.
func Values[V any](m *starling.Map[V], text func(V) string) Map {
	if text == nil {
		text = func(v V) string { return fmt.Sprint(v) }
	}
	return Map{func() MapState {
		s := stateOf(m.Key(), m.Stats())
		for key, v := range m.All() {
			if len(s.Values) == maxValues {
				break
			}
			s.Values = append(s.Values, Value{cut(key, maxText), cut(text(v), maxText)})
		}
		return s
	}}
}

const (
	maxValues = 100 // of a map
	maxText   = 200 // bytes of a key, a value, or metadata
)

func stateOf(key string, s starling.MapStats) MapState {
	return MapState{
		Key: key, Entries: s.Entries, Hidden: s.Hidden, Bytes: s.Bytes, Tombstones: s.Tombstones, Skew: Duration(s.Skew),
		Compared: s.Compared, Unequal: s.Unequal, Fetched: s.Fetched, Refused: s.Refused, Dropped: s.Dropped,
	}
}

// cut returns s without what is beyond limit bytes, as valid UTF-8.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
