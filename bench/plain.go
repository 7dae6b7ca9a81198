package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// guest is a plain memberlist member, over memberlist's own transport, that notes what it hears.
type guest struct {
	ml      *memberlist.Memberlist
	ledger  *ledger // of one member
	dropped atomic.Int64
	strange atomic.Int64 // frames that are no Part of our channel: Starling's control frames
}

// Write takes memberlist's log lines. It counts those that tell of a message dropped at the hand-off.
func (g *guest) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "handler queue full") {
		g.dropped.Add(1)
	}
	return len(line), nil
}

func startGuest(l *ledger, seed string, handoff int) (*guest, error) {
	g := &guest{ledger: l}
	conf := plainConfig("plain", nil, func(b []byte) {
		var p starlingpb.Part
		if proto.Unmarshal(b, &p) != nil || p.GetKey() != channelKey {
			g.strange.Add(1)
			return
		}
		l.deliver(0, p.GetData())
	})
	conf.HandoffQueueDepth = handoff
	conf.Logger = log.New(g, "", 0)
	ml, err := memberlist.Create(conf)
	if err != nil {
		return nil, err
	}
	g.ml = ml
	if _, err := ml.Join([]string{seed}); err != nil {
		return nil, errors.Join(err, ml.Shutdown())
	}
	return g, nil
}

// socketDrops returns how many packets the system dropped at the guest's socket, -1 if it does not tell.
func (g *guest) socketDrops() int {
	table, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return -1
	}
	local := fmt.Sprintf("0100007F:%04X", g.ml.LocalNode().Port)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 12 && f[1] == local {
			if n, err := strconv.Atoi(f[12]); err == nil {
				return n
			}
		}
	}
	return -1
}

// hosted is a trial with or without a guest.
type hosted struct {
	Guest        bool    `json:"guest"`
	Rate         int     `json:"rate"`
	PerSecond    float64 `json:"accepted_per_second"`
	Delivered    float64 `json:"delivered_to_starlings"`
	ByGuest      float64 `json:"received_by_guest"`
	Accepted     int     `json:"accepted"`
	SocketDrops  int     `json:"guest_socket_drops"`
	HandoffDrops int64   `json:"guest_handoff_drops"`
	Strange      int64   `json:"guest_strange_frames"`
	P99          float64 `json:"p99_ms"`
}

func runPlain(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("plain", flag.ContinueOnError)
	n := f.Int("n", 10, "members, the plain one included")
	rounds := f.Int("rounds", 3, "rounds, each with the plain member and without")
	lasts := f.Duration("for", 5*time.Second, "how long to send")
	handoff := f.Int("handoff", 1<<17, "HandoffQueueDepth of the plain member")
	rates := intList{0, 1000}
	f.Var(&rates, "rates", "messages per second, separated by commas; 0: as fast as Broadcast accepts")
	var prof profiles
	prof.flags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *n < 3 || *n > 50 || *rounds < 1 || *rounds > 100 || *lasts > 10*time.Minute {
		return nil, errors.New("want 3 to 50 members, 1 to 100 rounds, at most 10 minutes")
	}
	stop, err := prof.start()
	if err != nil {
		return nil, err
	}
	var all []hosted
	var verdicts []verdict
	for _, rate := range rates {
		var ratios, shares, delivered []float64
		for round := range *rounds {
			var rate0, rate1 float64
			order := []bool{false, true}
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, with := range order {
				h, err := host(ctx, with, *n, rate, *lasts, *handoff)
				if err != nil {
					return nil, err
				}
				all = append(all, h)
				fmt.Fprintf(w, "%+v\n", h)
				delivered = append(delivered, h.Delivered)
				if with {
					rate1, shares = h.PerSecond, append(shares, h.ByGuest)
				} else {
					rate0 = h.PerSecond
				}
			}
			ratios = append(ratios, rate1/rate0)
		}
		name := fmt.Sprintf("%d/s: ", rate)
		if rate == 0 {
			name = "full speed: "
		}
		verdicts = append(verdicts,
			judge(name+"Broadcast's rate with the plain member to that without", ratios, 0.8, true),
			judge(name+"share that the plain member received", shares, 1, true),
			judge(name+"share delivered to Starling's members", delivered, 1, true))
	}
	if err := stop(); err != nil {
		return nil, err
	}
	return map[string]any{"verdicts": verdicts, "trials": all}, printVerdicts(w, verdicts)
}

// host runs a cluster of n, the last of which is a plain member or one of ours.
func host(ctx context.Context, with bool, n, rate int, lasts time.Duration, handoff int) (h hosted, err error) {
	ours := n
	if with {
		ours--
	}
	l, heard := newLedger(ours, 1), newLedger(1, 1)
	heard.clock = l.clock
	s, err := startCluster(ctx, ours, time.Millisecond, l)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var g *guest
	if with {
		if g, err = startGuest(heard, s.members[0].Self().Addr.String(), handoff); err != nil {
			return h, err
		}
		defer func() { err = errors.Join(err, g.ml.Shutdown()) }()
		if err = s.whole(ctx, n); err != nil {
			return h, err
		}
	}
	p, err := sendAll(ctx, s, load{members: ours, origins: 1, rate: rate, size: 200, lasts: lasts}, l)
	if err != nil {
		return h, err
	}
	want := p.sent * (ours - 1)
	if err := drain(ctx, l, want, 0); err != nil {
		return h, err
	}
	fresh, _, _, delays := l.sum()
	h = hosted{
		Guest: with, Rate: rate, PerSecond: float64(p.sent) / p.took.Seconds(), Accepted: p.sent,
		Delivered: float64(fresh) / float64(want), P99: ms(delays.quantile(0.99)),
	}
	if with {
		if err := drain(ctx, heard, p.sent, 0); err != nil {
			return h, err
		}
		h.ByGuest = float64(heard.of(0)) / float64(p.sent)
		h.SocketDrops, h.HandoffDrops, h.Strange = g.socketDrops(), g.dropped.Load(), g.strange.Load()
	}
	return h, nil
}
