package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// TestComing: what is expected again replaces what was; what is expected no more makes room; and no more than so much is remembered.
func TestComing(t *testing.T) {
	var c coming
	for i := range time.Duration(3) {
		c.expect(5, 6, start.Add(i*time.Second), start)
	}
	if len(c) != 1 {
		t.Errorf("the same is remembered %d times", len(c))
	}
	all := []seqset.Span{{Lo: 1, Hi: 9}}
	if got, want := c.without(all, start.Add(2*time.Second)), []seqset.Span{{Lo: 1, Hi: 4}, {Lo: 7, Hi: 9}}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	for i := range uint64(2 * maxComing) {
		c.expect(100+i, 100+i, start.Add(time.Second), start)
	}
	if len(c) != maxComing {
		t.Errorf("%d are remembered", len(c))
	}
	late := start.Add(2*time.Second + 1)
	if c.expect(9, 9, late, late); len(c) != 1 {
		t.Errorf("%d are remembered that come no more", len(c)-1)
	}
}
