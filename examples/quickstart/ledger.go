package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

// ledger knows what every member is to get, and what it got. Handlers of all members write to it concurrently.
type ledger struct {
	notes []note

	mu       sync.Mutex
	members  []string
	sent     []sending             // by number of the note
	receipts []map[string]*receipt // by number of the note, then by member
	open     int                   // deliveries still to come. Invariant: open + Σ len(receipts[i]) = len(notes)·len(members)
	complete chan struct{}         // closed when open falls to 0
}

type sending struct {
	from string
	at   time.Time
}

// receipt is what a member got as a note.
type receipt struct {
	from  string
	via   starling.Via
	size  int
	sum   [sha256.Size]byte
	after time.Duration
	times int
}

func newLedger(notes []note) *ledger {
	l := &ledger{
		notes: notes, sent: make([]sending, len(notes)), receipts: make([]map[string]*receipt, len(notes)),
		complete: make(chan struct{}),
	}
	for i := range l.receipts {
		l.receipts[i] = map[string]*receipt{}
	}
	return l
}

// expect adds a member that is to get every note.
func (l *ledger) expect(member string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members = append(l.members, member)
	l.open += len(l.notes)
}

// send notes that a member is about to broadcast.
func (l *ledger) send(number int, from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[number] = sending{from: from, at: time.Now()}
}

// receive notes what a handler got, by a checksum of the very bytes.
func (l *ledger) receive(member, from string, number int, content []byte, via starling.Via) {
	now, sum := time.Now(), sha256.Sum256(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	if number >= len(l.notes) {
		return // nobody sent that: what it was meant to be stays missing
	}
	if r, ok := l.receipts[number][member]; ok {
		r.times++
		return
	}
	l.receipts[number][member] = &receipt{
		from: from, via: via, size: len(content), sum: sum, after: now.Sub(l.sent[number].at), times: 1,
	}
	if l.open--; l.open == 0 {
		close(l.complete)
	}
}

// await returns when everything has arrived, or time is up.
func (l *ledger) await(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	select {
	case <-l.complete:
	case <-ctx.Done():
	}
}

// row is one delivery that was to happen.
type row struct {
	note   note
	from   string
	member string
	*receipt
}

// fault tells what is wrong with a delivery, or "".
func (r row) fault() string {
	switch {
	case r.receipt == nil:
		return "missing"
	case r.sum != r.note.sum:
		return "differs"
	case r.receipt.from != r.from:
		return "wrong sender"
	case r.times > 1:
		return "repeated"
	}
	return ""
}

// rows returns every delivery in the order of sending, the fastest first and the missing last.
func (l *ledger) rows() []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []row
	for i, n := range l.notes {
		var rows, missing []row
		for _, m := range l.members {
			r := row{note: n, from: l.sent[i].from, member: m}
			if got, ok := l.receipts[i][m]; ok {
				r.receipt = new(receipt)
				*r.receipt = *got
				rows = append(rows, r)
			} else {
				missing = append(missing, r)
			}
		}
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.after, b.after) })
		all = append(append(all, rows...), missing...)
	}
	return all
}

func countFaults(rows []row) int {
	n := 0
	for _, r := range rows {
		if r.fault() != "" {
			n++
		}
	}
	return n
}
