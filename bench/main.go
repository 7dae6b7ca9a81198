// Bench measures Starling on real loopback sockets, in one run beside what it is to be compared with. It prints a table and
// one line of JSON, and ends by itself. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// scenario is one kind of measurement. It writes its table to w and returns what goes into the line of JSON.
type scenario struct {
	does string
	run  func(ctx context.Context, args []string, w io.Writer) (any, error)
}

func scenarios() map[string]scenario {
	return map[string]scenario{
		"rate":      {"Starling at a given rate", runRate},
		"bare":      {"the bare sender at a given rate", runBare},
		"compare":   {"Starling beside the bare sender, alternately", runCompare},
		"frozen":    {"one member stopped under full load", runFrozen},
		"plain":     {"one plain memberlist member in the cluster", runPlain},
		"idle":      {"idle members beside plain memberlist's", runIdle},
		"spread":    {"one message at a time into a cluster at rest", runSpread},
		"tls":       {"Starling over TLS beside Starling without, alternately", runTLS},
		"chart":     {"draws the charts of docs from figures.json", runChart},
		"field":     {"Starling beside the libraries and the broker that people use, all in one run", runField},
		"broadcast": {"what one call of Broadcast costs", runBroadcast},
		"large":     {"large payloads to all, beside memberlist's SendReliable and Alertmanager", runLarge},
		"map":       {"memory of a Map, and a newcomer's first values", runMap},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == childArg {
		exit(runChild(ctx, os.Args[2:]))
	}
	exit(measure(ctx, os.Args[1:], os.Stdout))
}

func exit(err error) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, args []string, w io.Writer) error {
	all := scenarios()
	if len(args) == 0 || all[args[0]].run == nil {
		lines := []string{"usage: go run . SCENARIO [flags]; -h after a scenario tells its flags"}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			lines = append(lines, fmt.Sprintf("  %-10s %s", name, all[name].does))
		}
		return errors.New(strings.Join(lines, "\n"))
	}
	result, err := all[args[0]].run(ctx, args[1:], w)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	line, err := json.Marshal(map[string]any{
		"scenario": args[0], "go": runtime.Version(), "cpus": runtime.NumCPU(), "load": loadAverage(), "result": result,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

// loadAverage tells how busy the machine was otherwise; "" where the system does not tell.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
