package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// spreadOut is how a large payload reached everybody.
type spreadOut struct {
	Kind     string    `json:"kind"`
	Bytes    int       `json:"bytes"`
	Members  int       `json:"members"`
	ToAll    []float64 `json:"ms_to_all"`
	ToAllMid float64   `json:"ms_to_all_median"`
	CPU      float64   `json:"cpu_seconds"` // median of one payload
	PeakMB   float64   `json:"peak_resident_mb"`
	Have     int       `json:"members_that_have_it"` // the least of all payloads; the origin not counted
	Error    string    `json:"error,omitempty"`      // why it could not be sent
}

// childLarge sends payloads of one size, one after the other, in a process whose peak of memory is thus its own.
func childLarge(ctx context.Context, args []string, w io.Writer) (err error) {
	f := flag.NewFlagSet("large", flag.ContinueOnError)
	kind := f.String("kind", "starling", "of members")
	n := f.Int("n", 10, "members")
	size := f.Int("size", 1<<20, "bytes")
	count := f.Int("count", 3, "payloads")
	within := f.Duration("within", time.Minute, "how long each may take to arrive")
	if err := f.Parse(args); err != nil {
		return err
	}
	if contenders[*kind] == nil {
		return fmt.Errorf("no members of kind %q", *kind)
	}
	var have atomic.Int64
	var sum atomic.Pointer[[sha256.Size]byte]
	// The checksum is the measurement's. It is not taken off the time and the CPU, and costs all kinds the same.
	l := newLedger(*n, 1)
	l.took = func(member int, b []byte) {
		if want := sum.Load(); member > 0 && want != nil && sha256.Sum256(b) == *want {
			have.Add(1)
		}
	}
	s, err := contenders[*kind](ctx, load{members: *n, origins: 1}, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	out := spreadOut{Kind: *kind, Bytes: *size, Members: *n, Have: *n - 1}
	rng := rand.NewChaCha8([32]byte{1})
	var cpu []float64
	for range *count {
		payload := make([]byte, *size)
		_, _ = rng.Read(payload) // never fails
		digest := sha256.Sum256(payload)
		sum.Store(&digest)
		have.Store(0)
		runtime.GC()
		before := readOf(s)
		if err := s.broadcast(ctx, 0, payload); err != nil {
			out.Have, out.Error = 0, err.Error()
			return tell(w, out)
		}
		waiting, cancel := context.WithTimeout(ctx, *within)
		for have.Load() < int64(*n-1) && waiting.Err() == nil {
			time.Sleep(200 * time.Microsecond)
		}
		cancel()
		u := readOf(s).since(before)
		out.ToAll, cpu = append(out.ToAll, ms(u.wall)), append(cpu, u.cpu.Seconds())
		out.Have = min(out.Have, int(have.Load()))
	}
	out.ToAllMid, out.CPU, out.PeakMB = median(out.ToAll), median(cpu), peakMB()
	return tell(w, out)
}

// peakMB returns the most memory that was resident so far, 0 where the system does not tell.
func peakMB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	return 0
}

func runLarge(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("large", flag.ContinueOnError)
	n := f.Int("n", 10, "members")
	count := f.Int("count", 3, "payloads of each size")
	kinds := f.String("kinds", "starling,in turn,alertmanager", "of members, separated by commas")
	sizes := intList{64 << 10, 1 << 20, 8 << 20}
	f.Var(&sizes, "sizes", "bytes, separated by commas")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *n < 2 || *n > 50 || *count < 1 || *count > 100 {
		return nil, errors.New("want 2 to 50 members and 1 to 100 payloads")
	}
	var outs []spreadOut
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "bytes\tmembers\tkind\thave it\tms to all\tcpu s\tpeak MB\t")
	for _, size := range sizes {
		for kind := range strings.SplitSeq(*kinds, ",") {
			var out spreadOut
			err := ask(ctx, &out, "large", "-kind", kind, "-n", fmt.Sprint(*n), "-size", fmt.Sprint(size), "-count", fmt.Sprint(*count))
			if err != nil {
				return nil, err
			}
			outs = append(outs, out)
			fmt.Fprintf(tw, "%d\t%d\t%s\t%d\t%.1f\t%.3f\t%.0f\t\n",
				out.Bytes, out.Members, out.Kind, out.Have, out.ToAllMid, out.CPU, out.PeakMB)
		}
	}
	return outs, tw.Flush()
}
