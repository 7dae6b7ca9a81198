package starlingstatus

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

const (
	probeEvery = 2 * time.Second // from the end of one probe to the next
	probeAsked = 64              // members that are asked for a round trip at once
)

// prober lets one probe run at a time, and none soon after another. Safe for concurrent use.
type prober struct {
	mu      sync.Mutex
	running bool
	next    time.Time // not before
}

// begin reports whether a probe may run now, and if not, when to ask again. Who may calls end.
func (p *prober) begin() (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return probeEvery, false
	}
	if wait := time.Until(p.next); wait > 0 {
		return wait, false
	}
	p.running = true
	return 0, true
}

func (p *prober) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.next = false, time.Now().Add(probeEvery)
}

func (p *page) serveProbe(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		http.Error(w, "only this page itself may start a probe", http.StatusForbidden)
		return
	}
	if p.probe.Off != "" {
		http.Error(w, "there is no probe: "+p.probe.Off, http.StatusServiceUnavailable)
		return
	}
	if wait, ok := p.prober.begin(); !ok {
		w.Header().Set("Retry-After", count(int(wait/time.Second)+1))
		http.Error(w, "a probe runs, or ran a moment ago: try again in a few seconds", http.StatusTooManyRequests)
		return
	}
	defer p.prober.end()
	// A probe may take longer than the server gives an answer.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2*p.o.ProbeTimeout + writeWithin))
	result := p.ask(r.Context())
	if wantsJSON(w, r) {
		writeJSON(w, http.StatusOK, result)
	} else {
		writeHTML(w, http.StatusOK, resultPage(p.status(), result))
	}
}

// ask confirms a message, and then measures the round trip to each member: not at once, for a thousand of them would hold up the message.
func (p *page) ask(ctx context.Context) *Probe {
	members := slices.DeleteFunc(p.from.Members(), func(m starling.Member) bool { return m.ID == p.from.Self().ID })
	result := &Probe{Time: time.Now(), Answers: []Answer{}}
	lacking := result.confirm(ctx, p)
	if result.Error != "" {
		return result
	}
	for _, m := range members {
		a := Answer{Member: m.Name, ID: idOf(m), Lacks: lacking[m.ID]}
		if m.Foreign() {
			a.Lacks = StateForeign
		}
		result.Answers = append(result.Answers, a)
		delete(lacking, m.ID)
	}
	p.measure(ctx, members, result.Answers)
	slices.SortStableFunc(result.Answers, func(a, b Answer) int {
		if (a.Lacks == "") != (b.Lacks == "") {
			return cmp.Compare(b.Lacks, a.Lacks)
		}
		return cmp.Compare(b.RTT, a.RTT)
	})
	return result
}

// confirm sends the message, and returns why members lack it, by their ids.
func (r *Probe) confirm(ctx context.Context, p *page) map[uint64]string {
	ctx, cancel := context.WithTimeout(ctx, p.o.ProbeTimeout)
	defer cancel()
	err := p.from.Confirm(ctx)
	r.Took, r.Confirmed = Duration(time.Since(r.Time)), err == nil
	lacking := map[uint64]string{}
	var unconfirmed *starling.UnconfirmedError
	if errors.As(err, &unconfirmed) {
		for _, m := range unconfirmed.Missing {
			lacking[m.Member.ID] = m.Reason.String()
		}
	} else if err != nil {
		r.Error = err.Error()
	}
	return lacking
}

// measure notes the round trip to each member in its answer. Those that hold the message are asked first: the others may hang.
func (p *page) measure(ctx context.Context, members []starling.Member, answers []Answer) {
	ctx, cancel := context.WithTimeout(ctx, p.o.ProbeTimeout)
	defer cancel()
	var order []int
	for i, a := range answers {
		if a.Lacks == "" {
			order = append(order, i)
		}
	}
	for i, a := range answers {
		if a.Lacks != "" && a.Lacks != StateForeign {
			order = append(order, i)
		}
	}
	var asking sync.WaitGroup
	places := make(chan struct{}, probeAsked)
	for _, i := range order {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			answers[i].RTT, answers[i].Error = p.roundTrip(ctx, members[i])
		})
	}
	asking.Wait()
}

// roundTrip returns how long a member takes to answer a message to it alone. That it has no such channel is an answer, too.
func (p *page) roundTrip(ctx context.Context, m starling.Member) (Duration, string) {
	begun := time.Now()
	err := p.from.Send(ctx, m)
	took := Duration(time.Since(begun))
	var failed *starling.SendError
	switch {
	case err == nil:
		return took, ""
	case errors.As(err, &failed) && (failed.Reason == starling.SendNoChannel || failed.Reason == starling.SendOtherType):
		return took, ""
	case errors.As(err, &failed):
		return 0, failed.Reason.String()
	}
	return 0, err.Error()
}
