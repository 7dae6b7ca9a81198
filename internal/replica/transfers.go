package replica

import "github.com/starling-go/starling/internal/store"

// transfers is the large messages of this member's own that have left the outbox and not yet left altogether, the one whose turn it is
// first. Each sends one part at its turn, so that a short one does not wait for the end of a long one.
type transfers [][]*store.Item // the parts that have yet to leave

// maxTransfers is how many large messages are under way at once. Each is in history already.
const maxTransfers = 16

func (ts *transfers) add(parts []*store.Item) { *ts = append(*ts, parts) }

// next returns the part that leaves next, nil if there is none.
func (ts *transfers) next() *store.Item {
	if len(*ts) == 0 {
		return nil
	}
	parts := (*ts)[0]
	*ts = (*ts)[1:]
	if len(parts) > 1 {
		*ts = append(*ts, parts[1:])
	}
	return parts[0]
}
