package starlingotel

import (
	"testing"

	"github.com/starling-go/starling"
)

// TestOriginIsText: whoever has the keys can give itself any name. One that is no UTF-8 would have an exporter refuse a whole batch of spans.
func TestOriginIsText(t *testing.T) {
	for name, want := range map[string]string{"a": "a", "a\xffb": "a\uFFFDb"} {
		found := false
		for _, a := range about(starling.Member{Name: name}, 0, starling.ViaGossip, 0) {
			if a.Key == keyOrigin {
				found = true
				if got := a.Value.AsString(); got != want {
					t.Errorf("%q: %q", name, got)
				}
			}
		}
		if !found {
			t.Errorf("%q: no origin", name)
		}
	}
}
