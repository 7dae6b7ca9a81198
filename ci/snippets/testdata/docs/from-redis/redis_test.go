package fromredis

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestFollow(t *testing.T) {
	starlingtest.Run(t, 1, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		other := l.StartAlone("other")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		l.Must(Follow(ctx, other.Cluster, l.Member("m0").Cluster.Self().Addr.String()))
	})
}
