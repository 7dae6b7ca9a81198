// Command member is a member of a cluster that a test directs by lines on its standard input: one command a line, and one line of answer to
// each. The tests of this module run it as it is now beside the same program of an earlier commit, so commands are only added.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

func main() {
	name := flag.String("name", "", "of the member")
	run := flag.String("run", "", "of this run of it, for the others to tell runs apart")
	flag.Parse()
	m, err := start(*name, *run)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("addr", m.c.Self().Addr)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		args := strings.Fields(lines.Text())
		if len(args) == 0 {
			continue
		}
		answer, err := m.do(args[0], args[1:])
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(answer)
		if args[0] == "leave" {
			return
		}
	}
}

// member is a cluster with a channel for messages, one for a state, and a Map.
type member struct {
	run   string
	c     *starling.Cluster
	chat  *starling.Channel[[]byte]
	state *starling.Channel[[]byte]
	table *starling.Map[int]

	mu     sync.Mutex
	seen   map[string]map[int]int // how often each number of each run was handled
	direct map[string]int         // likewise of what was sent to this member alone
	known  map[string]bool        // the state: runs that there were
	sent   int                    // numbers that were broadcast
	faults []string
	events []string
	quit   chan struct{}
	done   chan struct{}
}

func start(name, run string) (*member, error) {
	m := &member{run: run, seen: map[string]map[int]int{}, direct: map[string]int{}, known: map[string]bool{}}
	var err error
	m.c, err = starling.New(starling.Config{
		Name: name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal, Label: "upgrade",
		Keys: [][]byte{bytes.Repeat([]byte{7}, 32)}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return nil, err
	}
	if m.chat, err = starling.NewChannelOf(m.c, "chat", m.heard, starling.Bytes(), nil); err != nil {
		return nil, err
	}
	snapshot := func() iter.Seq[[]byte] {
		m.mu.Lock()
		defer m.mu.Unlock()
		runs := slices.Sorted(maps.Keys(m.known))
		return func(yield func([]byte) bool) {
			for _, run := range runs {
				if !yield([]byte(run)) {
					return
				}
			}
		}
	}
	know := func(_ context.Context, msg starling.Message[[]byte]) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.known[string(msg.Value)] = true
	}
	m.state, err = starling.NewChannelOf(m.c, "state", know, starling.Bytes(), &starling.ChannelOptions[[]byte]{Snapshot: snapshot, Echo: true})
	if err != nil {
		return nil, err
	}
	m.table, err = starling.NewMap(m.c, "table", starling.JSON[int](), nil)
	go func() {
		for e := range m.c.Events(context.Background()) {
			m.mu.Lock()
			m.events = append(m.events, e.String())
			m.mu.Unlock()
		}
	}()
	return m, err
}

// heard is the handler of the channel for messages. Each says whose it is and its number.
func (m *member) heard(_ context.Context, msg starling.Message[[]byte]) {
	fields := strings.Fields(string(msg.Value[:min(len(msg.Value), 100)]))
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(fields) < 2 {
		m.faults = append(m.faults, fmt.Sprintf("a message of %d bytes that nobody has sent", len(msg.Value)))
		return
	}
	number, _ := strconv.Atoi(fields[1])
	if msg.Via == starling.ViaDirect {
		m.direct[fields[0]]++
		return
	}
	if len(msg.Value) != size(number) {
		m.faults = append(m.faults, fmt.Sprintf("number %d of %s has %d bytes, and was sent with %d", number, fields[0], len(msg.Value), size(number)))
	}
	if m.seen[fields[0]] == nil {
		m.seen[fields[0]] = map[int]int{}
	}
	m.seen[fields[0]][number]++
}

// size is how large the message of a number is: most fit a packet, some need a stream, a few are cut into pieces.
func size(number int) int {
	switch {
	case number%100 == 99:
		return 200 << 10
	case number%20 == 19:
		return 5000
	}
	return 200
}

// do carries out a command.
func (m *member) do(command string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch command {
	case "join":
		if err := m.c.Join(ctx, args...); err != nil {
			return "", err
		}
		return "joined", nil
	case "ready":
		return "ready", m.c.Ready(ctx)
	case "go":
		m.quit, m.done = make(chan struct{}), make(chan struct{})
		go m.traffic()
		return "going", m.state.Broadcast(ctx, []byte(m.run))
	case "mark":
		return fmt.Sprint("mark ", m.number()), nil
	case "send":
		for i := range 10 {
			if err := m.chat.Send(ctx, args[0], fmt.Appendf(nil, "%s %d", m.run, i)); err != nil {
				return "", err
			}
		}
		return "sent", nil
	case "stop":
		m.stop()
		if err := m.chat.Confirm(ctx, m.next(), nil); err != nil {
			return "", err
		}
		return fmt.Sprint("stopped ", m.number()), m.chat.Flush(ctx)
	case "report":
		return m.report()
	case "leave":
		m.stop()
		return fmt.Sprint("left ", m.number()), m.c.Leave(ctx)
	}
	return "", fmt.Errorf("no such command: %s", command)
}

func (m *member) number() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// next returns the next message.
func (m *member) next() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent++
	b := make([]byte, size(m.sent))
	copy(b, fmt.Sprintf("%s %d ", m.run, m.sent))
	return b
}

// traffic broadcasts until it is told to stop.
func (m *member) traffic() {
	defer close(m.done)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.quit:
			return
		}
		err := m.chat.Broadcast(context.Background(), m.next())
		if n := m.number(); err == nil && n%10 == 0 {
			err = m.table.Set(context.Background(), m.run, n)
		}
		if err != nil {
			m.mu.Lock()
			m.faults = append(m.faults, err.Error())
			m.mu.Unlock()
		}
	}
}

func (m *member) stop() {
	if m.quit != nil {
		close(m.quit)
		<-m.done
		m.quit = nil
	}
}

// report is what this member has had so far, in one line of JSON.
func (m *member) report() (string, error) {
	table := maps.Collect(m.table.All())
	stats, lagging := m.c.Stats(), m.c.Keyring().Status().Lagging
	dropped := map[string]uint64{}
	for d, n := range stats.Dropped {
		dropped[d.String()] = n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ranges := map[string][][2]int{}
	twice := 0
	for run, numbers := range m.seen {
		for _, n := range slices.Sorted(maps.Keys(numbers)) {
			twice += numbers[n] - 1
			if rs := ranges[run]; len(rs) > 0 && rs[len(rs)-1][1] == n-1 {
				rs[len(rs)-1][1] = n
				continue
			}
			ranges[run] = append(ranges[run], [2]int{n, n})
		}
	}
	b, err := json.Marshal(map[string]any{
		"seen": ranges, "twice": twice, "direct": m.direct, "state": slices.Sorted(maps.Keys(m.known)), "table": table, "faults": m.faults,
		"events": m.events, "members": stats.Members, "foreign": stats.Foreign, "lagging": lagging, "dropped": dropped, "lost": stats.Lost,
		"dialed": stats.Traffic.StreamsDialed, "reused": stats.Traffic.StreamsReused,
	})
	return string(b), err
}
