package spread

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// TestBatchesBounded: what a member serves for others is bounded, for each root and in all, and is forgotten when done.
func TestBatchesBounded(t *testing.T) {
	f := newTestNet(20, nil)
	s := f.spreads[1001]
	serve := func(root, n uint64) {
		s.Receive(Offer{From: f.members[0], ID: wire.BatchID{Root: root, N: n}, End: s.Ring.ownPos(), Items: someParts}, f.now)
		s.Sends, s.Reports = nil, nil
	}
	for n := range uint64(2 * maxServed) {
		serve(1000, n+1)
	}
	if len(s.Batches) != maxServed || s.Served[1000] != maxServed {
		t.Errorf("%d batches of one root", len(s.Batches))
	}
	for root := range uint64(20) {
		for n := range uint64(maxServed) {
			serve(2000+root, n+1)
		}
	}
	if len(s.Batches) != MaxBatches {
		t.Errorf("%d batches in all, limit %d", len(s.Batches), MaxBatches)
	}
	// Nobody answers: all is given up.
	for range 200_000 {
		next, again := s.Next()
		if !again {
			break
		}
		f.now = next
		s.Tick(f.now)
		s.Sends, s.Reports = nil, nil
	}
	if len(s.Served) != 0 || len(s.doneOnes) != MaxBatches {
		t.Errorf("%d roots are still served, %d batches are done", len(s.Served), len(s.doneOnes))
	}
	f.now = f.now.Add(keepDone + time.Second)
	serve(1000, 1<<40)
	if len(s.Batches) != 1 {
		t.Errorf("%d batches are remembered", len(s.Batches))
	}
}

// TestAskedAgain: a parent that asks after a batch is answered while it is remembered, with the list if it wants one; after that
// it is told that this member alone holds it.
func TestAskedAgain(t *testing.T) {
	f := newTestNet(4, nil)
	parent, child := f.members[0], f.spreads[1001]
	offer := Offer{From: parent, ID: wire.BatchID{Root: parent.ID, N: 1}, End: child.Ring.ownPos(), Items: someParts}
	child.Receive(offer, f.now)
	for _, h := range slices.Clone(child.Batches[offer.ID].Hops) {
		child.Report(h.To.ID, honest(h), f.now)
	}
	child.Reports = nil
	ask := func(try uint64) wire.Report {
		question := offer
		question.Items, question.List, question.Try = nil, true, try
		child.Receive(question, f.now)
		reports := child.Reports
		child.Reports = nil
		if len(reports) != 1 || reports[0].To.ID != parent.ID || !reports[0].Report.Done || reports[0].Report.Try != try {
			t.Fatalf("answers: %+v", reports)
		}
		return reports[0].Report
	}
	if r := ask(2); r.Count != 4 || len(r.List) != 4 {
		t.Errorf("while it is remembered: %+v", r)
	}
	f.now = f.now.Add(keepDone + time.Second)
	child.forget(f.now)
	if r := ask(3); r.Count != 1 || !slices.Equal(r.List, []uint64{child.Ring.ownPos()}) {
		t.Errorf("when it is forgotten: %+v", r)
	}
}

// TestSliceGrows: a member whose slice grows after it was done serves those that are new in it, if it gets the parts again.
func TestSliceGrows(t *testing.T) {
	f := newTestNet(10, nil)
	parent, child := f.members[0], f.spreads[1001]
	offer := Offer{From: parent, ID: wire.BatchID{Root: 4711, N: 1}, End: child.Ring.at(3).Pos, Items: someParts} // of a root in no slice
	child.Receive(offer, f.now)                                                                                   // serves steps 1 and 2
	for _, h := range slices.Clone(child.Batches[offer.ID].Hops) {
		child.Report(h.To.ID, honest(h), f.now)
	}
	child.Sends, child.Reports = nil, nil
	question := offer
	question.End, question.Items = child.Ring.at(5).Pos, nil
	if child.Receive(question, f.now); len(child.Sends) != 0 || len(child.Reports) != 1 || child.Reports[0].Report.Count != 3 {
		t.Errorf("without the parts: %d sends, %+v", len(child.Sends), child.Reports)
	}
	child.Reports = nil
	offer.End = child.Ring.at(5).Pos
	child.Receive(offer, f.now)
	if len(child.Sends) != 2 || len(child.Reports) != 1 || child.Reports[0].Report.Done || child.Served[4711] != 1 {
		t.Fatalf("with the parts: %d sends, %+v", len(child.Sends), child.Reports)
	}
	for _, send := range slices.Clone(child.Sends) {
		child.Report(send.Hop.To.ID, honest(send.Hop), f.now)
	}
	last := child.Reports[len(child.Reports)-1].Report
	if !last.Done || last.Count != 5 || len(child.Served) != 0 {
		t.Errorf("in the end: %+v", last)
	}
}
