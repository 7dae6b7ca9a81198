package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/starling-go/starling/starlingstatus"
)

func topFlags(fs *flag.FlagSet, o *options) {
	fs.DurationVar(&o.every, "every", 2*time.Second, "how long to count before each picture")
	fs.IntVar(&o.frames, "n", 0, "how many pictures; 0: until it is interrupted")
	fs.IntVar(&o.rows, "rows", 20, "how many channels, and members, to show at most")
}

const (
	clearScreen = "\x1b[H\x1b[J"
	otherScreen = "\x1b[?1049h\x1b[?25l" // without a cursor
	ownScreen   = "\x1b[?25h\x1b[?1049l"
)

// top shows rates, again and again: in place on a terminal, else one picture after the other.
func top(ctx context.Context, o *options, s screen) (int, error) {
	if o.every <= 0 {
		return exitFailed, fmt.Errorf("-every is %v, and must be positive", o.every)
	}
	if o.rows < 0 {
		return exitFailed, fmt.Errorf("-rows is %d, and must not be negative", o.rows)
	}
	from, end, err := o.open(ctx, observerNeeds{})
	if err != nil {
		return exitFailed, err
	}
	defer end()
	before, err := from.status(ctx, o.timeout)
	if err != nil {
		return exitFailed, err
	}
	drawn := s.live && !o.json
	if drawn {
		fmt.Fprint(s.out, otherScreen)
		defer fmt.Fprint(s.out, ownScreen)
	}
	for n := 0; (o.frames == 0 || n < o.frames) && wait(ctx, o.every); n++ {
		now, err := from.status(ctx, o.timeout)
		switch {
		case ctx.Err() != nil:
			return exitFine, nil
		case err != nil && o.frames > 0:
			return exitFailed, err
		case err != nil:
			if _, err := fmt.Fprintln(s.out, oneLine(err.Error())); err != nil {
				return exitFailed, err
			}
			continue
		}
		r := ratesOf(before, now)
		before = now
		if o.json {
			err = writeLine(s.out, r)
		} else {
			var b bytes.Buffer
			if drawn {
				b.WriteString(clearScreen)
			}
			if err = r.draw(&b, now, o.rows); err == nil {
				_, err = s.out.Write(b.Bytes()) // at once, so that it does not flicker
			}
		}
		if err != nil {
			return exitFailed, err
		}
	}
	return exitFine, nil
}

// rates are what a member did in a second, between two pictures of it.
type rates struct {
	Time            time.Time      `json:"time"`
	Self            string         `json:"self"`
	Members         int            `json:"members"`
	Ready           bool           `json:"ready"`
	PacketsSent     float64        `json:"packetsSent"`
	PacketsReceived float64        `json:"packetsReceived"`
	BytesSent       float64        `json:"bytesSent"`
	BytesReceived   float64        `json:"bytesReceived"`
	Relayed         float64        `json:"relayed"`
	Repaired        float64        `json:"repaired"`
	Dropped         float64        `json:"dropped"`
	Queue           int            `json:"queue"` // messages
	History         int            `json:"history"`
	Lost            uint64         `json:"lost"`     // in all
	Channels        []channelRates `json:"channels"` // the busiest first
}

type channelRates struct {
	Key       string                  `json:"key"`
	Accepted  float64                 `json:"accepted"`
	Delivered float64                 `json:"delivered"`
	Dropped   float64                 `json:"dropped"`
	Busy      float64                 `json:"busy"` // share of the time that its handler ran
	Inbox     int                     `json:"inbox"`
	Queued    uint64                  `json:"queued"`
	Running   starlingstatus.Duration `json:"runningMs"`
}

// ratesOf returns the rates between two pictures. Where the member was started anew meanwhile they are those since its start.
func ratesOf(a, b *starlingstatus.Status) rates {
	seconds := max(b.Time.Sub(a.Time).Seconds(), 0.001)
	per := func(before, now uint64) float64 {
		if now < before {
			before = 0
		}
		return float64(now-before) / seconds
	}
	x, y := a.Traffic, b.Traffic
	r := rates{
		Time: b.Time, Self: b.Self, Members: len(b.Members), Ready: b.Ready,
		PacketsSent: per(x.PacketsSent, y.PacketsSent), PacketsReceived: per(x.PacketsReceived, y.PacketsReceived),
		BytesSent:     per(x.PacketBytesSent+x.StreamBytesSent, y.PacketBytesSent+y.StreamBytesSent),
		BytesReceived: per(x.PacketBytesReceived+x.StreamBytesReceived, y.PacketBytesReceived+y.StreamBytesReceived),
		Relayed:       per(a.Relayed, b.Relayed), Repaired: per(a.Repaired, b.Repaired), Dropped: per(sum(a.Drops), sum(b.Drops)),
		Queue: b.Queue.Messages, History: b.History.Messages, Lost: b.Lost, Channels: []channelRates{},
	}
	was := map[string]starlingstatus.Channel{}
	for _, c := range a.Channels {
		was[c.Key] = c
	}
	for _, c := range b.Channels {
		w := was[c.Key]
		r.Channels = append(r.Channels, channelRates{
			Key: c.Key, Accepted: per(w.Accepted, c.Accepted), Delivered: per(w.Delivered, c.Delivered), Dropped: per(sum(w.Drops), sum(c.Drops)),
			Busy:  per(uint64(max(w.HandlerTime, 0)), uint64(max(c.HandlerTime, 0))) / float64(time.Second),
			Inbox: c.Inbox, Queued: c.Queued, Running: c.Running,
		})
	}
	slices.SortStableFunc(r.Channels, func(a, b channelRates) int {
		return cmp.Or(cmp.Compare(b.Accepted+b.Delivered, a.Accepted+a.Delivered), cmp.Compare(b.Inbox, a.Inbox))
	})
	return r
}

func sum(drops []starlingstatus.Drop) (n uint64) {
	for _, d := range drops {
		n += d.Count
	}
	return n
}

// draw writes one picture, of n channels and members at most.
func (r *rates) draw(b *bytes.Buffer, s *starlingstatus.Status, n int) error {
	fmt.Fprintf(b, "%s  %s\n", clock(r.Time), summary(s))
	fmt.Fprintf(b, "a second: %.3g packets out, %.3g in; %s out, %s in; %.3g relayed, %.3g repaired, %.3g dropped\n",
		r.PacketsSent, r.PacketsReceived, size(r.BytesSent), size(r.BytesReceived), r.Relayed, r.Repaired, r.Dropped)
	fmt.Fprintf(b, "queue %d, oldest %v; history %d, %s; %d lost in all\n\n",
		r.Queue, s.Queue.Oldest, r.History, size(float64(s.History.Bytes)), r.Lost)
	rows := [][]string{{"CHANNEL", "ACCEPTED/s", "DELIVERED/s", "DROPPED/s", "HANDLER", "RUNNING", "INBOX", "QUEUED"}}
	for _, c := range r.Channels[:min(n, len(r.Channels))] {
		running := ""
		if c.Running > 0 {
			running = c.Running.String()
		}
		rows = append(rows, []string{c.Key, number(c.Accepted), number(c.Delivered), number(c.Dropped), fmt.Sprintf("%.0f %%", 100*c.Busy), running,
			fmt.Sprint(c.Inbox), fmt.Sprint(c.Queued)})
	}
	if err := table(b, rows); err != nil {
		return err
	}
	b.WriteByte('\n')
	members := memberRows(byTrouble(s.Members))
	if err := table(b, members[:min(n+1, len(members))]); err != nil {
		return err
	}
	if more := len(members) - 1 - n; more > 0 {
		fmt.Fprintf(b, "and %d more\n", more)
	}
	b.WriteByte('\n')
	return nil
}

func number(f float64) string {
	if f == 0 {
		return ""
	}
	return fmt.Sprintf("%.3g", f)
}

// byTrouble puts those first that answer nothing, then foreign ones, then the slowest.
func byTrouble(members []starlingstatus.Member) []starlingstatus.Member {
	rank := map[string]int{starlingstatus.StateSilent: 2, starlingstatus.StateForeign: 1}
	members = slices.Clone(members)
	slices.SortStableFunc(members, func(a, b starlingstatus.Member) int {
		return cmp.Or(rank[b.State]-rank[a.State], cmp.Compare(b.RTT, a.RTT))
	})
	return members
}
