package upgrading

import (
	"testing"

	"github.com/starling-go/starling/starlingtest"
)

func TestMixed(t *testing.T) {
	starlingtest.Run(t, 2, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		if names := Mixed(l.Member("m0").Cluster); len(names) != 0 {
			t.Error(names)
		}
	})
}
