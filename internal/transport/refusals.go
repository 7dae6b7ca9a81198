package transport

import (
	"log/slog"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/credentials"
)

// tellEvery is how often a line of one kind is logged at most.
const tellEvery = time.Minute

// refusals logs TLS connections that came to nothing: of a kind the first in a minute, with how many there were since the last.
// Strangers must not be able to fill a disk.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*refusalKind // by direction and reason, which are few
}

type refusalKind struct {
	last time.Time
	more int // not logged since
}

func (r *refusals) tell(direction, addr string, err error) {
	why := credentials.Why(err)
	r.mu.Lock()
	k, ok := r.kinds[direction+why]
	if !ok {
		k = new(refusalKind)
		r.kinds[direction+why] = k
	}
	now := time.Now()
	if ok && now.Sub(k.last) < tellEvery {
		k.more++
		r.mu.Unlock()
		return
	}
	attrs := []any{direction, addr, "reason", why, "error", err}
	if k.more > 0 {
		attrs = append(attrs, "more_like_it", k.more)
	}
	k.last, k.more = now, 0
	r.mu.Unlock()
	r.log.Warn("no TLS connection "+direction+" a peer", attrs...)
}
