package starlingtest_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// A script is a scenario as a newcomer reads it: a step on each line, # begins a comment. testdata/README.md has the words.
type script struct {
	options scriptOptions
	steps   []scriptStep
}

// scriptOptions are the lines before "members".
type scriptOptions struct {
	fifo, snapshot bool
	retention      time.Duration
}

type scriptStep struct {
	line int
	text string
	run  func(*stage) error
}

func readScript(path string) (*script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseScript(path, string(text))
}

func parseScript(path, text string) (*script, error) {
	s := new(script)
	p := &parser{path: path, script: s, known: map[string]bool{}}
	for line := range strings.Lines(text) {
		p.line++
		line, _, _ = strings.Cut(line, "#")
		if p.words = strings.Fields(line); len(p.words) == 0 {
			continue
		}
		step := scriptStep{line: p.line, text: strings.Join(p.words, " ")}
		if step.run = p.step(); p.err == nil && len(p.words) > 0 {
			p.unknown("", p.words[0])
		}
		if p.err != nil {
			return nil, p.err
		}
		if step.run != nil {
			s.steps = append(s.steps, step)
		}
	}
	if len(p.known) == 0 {
		return nil, fmt.Errorf("%s: no line begins with members", path)
	}
	return s, nil
}

// parser takes the words of one line after the other. After the first error nothing counts.
type parser struct {
	path   string
	line   int
	words  []string
	known  map[string]bool // the members that were named so far
	script *script
	err    error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: %s", p.path, p.line, fmt.Sprintf(format, args...))
	}
}

func (p *parser) unknown(what, word string) { p.fail("unknown %sword %q", what, word) }

// word takes the next word.
func (p *parser) word() string {
	if len(p.words) == 0 {
		p.fail("the line ends too early")
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// take takes the next word if it is w.
func (p *parser) take(w string) bool {
	if len(p.words) == 0 || p.words[0] != w {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) must(want string) {
	if w := p.word(); w != want {
		p.fail("word %q where %q belongs", w, want)
	}
}

func (p *parser) step() func(*stage) error {
	switch verb := p.word(); verb {
	case "channel":
		return p.channel()
	case "retention":
		p.script.options.retention = p.duration()
		return nil
	case "members":
		names := p.names(true)
		return func(s *stage) error { return s.form(names) }
	case "links", "link":
		return p.links(verb == "link")
	case "broadcast":
		return p.broadcast()
	case "start", "crash", "leave", "restart", "freeze", "thaw":
		name := p.name(verb == "start")
		return func(s *stage) error { return s.command(verb, name) }
	case "partition":
		return p.partition()
	case "heal":
		return func(s *stage) error { s.lab.Net.Heal(); return nil }
	case "wait":
		d := p.duration()
		return func(*stage) error { time.Sleep(d); return nil }
	case "expect":
		return p.expect()
	default:
		p.unknown("", verb)
		return nil
	}
}

func (p *parser) channel() func(*stage) error {
	for len(p.words) > 0 {
		switch w := p.word(); w {
		case "fifo":
			p.script.options.fifo = true
		case "snapshot":
			p.script.options.snapshot = true
		default:
			p.unknown("", w)
		}
	}
	return nil
}

// links takes "links key=value…", or "link a b key=value…" for one direction.
func (p *parser) links(one bool) func(*stage) error {
	var from, to string
	if one {
		from, to = p.name(false), p.name(false)
	}
	var l starlingtest.Link
	for len(p.words) > 0 {
		w := p.word()
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "latency":
			l.Latency, err = time.ParseDuration(value)
		case "jitter":
			l.Jitter, err = time.ParseDuration(value)
		case "loss":
			l.Loss, err = strconv.ParseFloat(value, 64)
		case "duplicate":
			l.Duplicate, err = strconv.ParseFloat(value, 64)
		case "reorder":
			l.Reorder, err = strconv.ParseFloat(value, 64)
		case "bandwidth":
			l.Bandwidth, err = strconv.Atoi(value)
		case "mtu":
			l.MTU, err = strconv.Atoi(value)
		case "packets":
			l.BlockPackets = value == "blocked"
		case "streams":
			l.RefuseStreams = value == "refused"
		default:
			p.unknown("", w)
		}
		if err != nil || key == "packets" && !l.BlockPackets || key == "streams" && !l.RefuseStreams {
			p.fail("%q: %q is no value of %s", w, value, key)
		}
	}
	if one {
		return func(s *stage) error { return s.lab.Net.SetLink(from, to, l) }
	}
	return func(s *stage) error { return s.lab.Net.SetDefault(l) }
}

// broadcast takes "broadcast a 20 messages [of 3000 bytes]".
func (p *parser) broadcast() func(*stage) error {
	name, count, size := p.name(false), p.number(), 100
	p.must("messages")
	if p.take("of") {
		size = p.number()
		p.must("bytes")
	}
	return func(s *stage) error { return s.broadcast(name, count, size) }
}

// partition takes "partition a b | c d".
func (p *parser) partition() func(*stage) error {
	groups := [][]string{p.names(false)}
	for p.take("|") {
		groups = append(groups, p.names(false))
	}
	return func(s *stage) error { return s.lab.Net.Partition(groups...) }
}

// expect takes "expect WHAT … within 5s".
func (p *parser) expect() func(*stage) error {
	var check func(*stage) error
	switch what := p.word(); what {
	case "once":
		names := p.everyone()
		check = func(s *stage) error { return s.rec.ExactlyOnce(scriptChannel, s.who(names)...) }
	case "order":
		names := p.everyone()
		check = func(s *stage) error { return s.rec.InOrder(scriptChannel, s.who(names)...) }
	case "state":
		names := p.everyone()
		check = func(s *stage) error { return s.sameState(s.who(names)) }
	case "all":
		p.must("see")
		p.must("all")
		check = func(s *stage) error { return s.lab.AllSeeAll() }
	case "sight": // expect sight of a b at a b
		p.must("of")
		seen := p.names(false)
		p.must("at")
		at := p.names(false)
		check = func(s *stage) error { return s.lab.See(at, seen) }
	case "event":
		kind, about := p.eventKind(), p.name(false)
		p.must("at")
		at := p.names(false)
		check = func(s *stage) error { return s.hasEvent(kind, about, at) }
	case "no":
		p.must("gaps")
		check = (*stage).noGaps
	default:
		p.unknown("", what)
	}
	limit := time.Duration(0)
	if p.take("within") {
		limit = p.duration()
	}
	return func(s *stage) error { return s.within(limit, check) }
}

// everyone takes names, or nothing, which stands for all that run.
func (p *parser) everyone() []string {
	if len(p.words) == 0 || p.words[0] == "within" {
		return nil
	}
	return p.names(false)
}

// names takes member names up to a word of the language.
func (p *parser) names(fresh bool) []string {
	names := []string{p.name(fresh)}
	for len(p.words) > 0 && p.words[0] != "|" && p.words[0] != "at" && p.words[0] != "within" {
		names = append(names, p.name(fresh))
	}
	return names
}

// name takes the name of a member: one that was named before, unless this is where it is.
func (p *parser) name(fresh bool) string {
	w := p.word()
	if fresh {
		p.known[w] = true
	} else if !p.known[w] {
		p.unknown("member: ", w)
	}
	return w
}

func (p *parser) eventKind() string {
	w := p.word()
	switch w {
	case "joined", "updated", "left", "failed", "conflict", "gap":
	default:
		p.unknown("event: ", w)
	}
	return w
}

func (p *parser) duration() time.Duration {
	w := p.word()
	d, err := time.ParseDuration(w)
	if err != nil || d <= 0 {
		p.fail("word %q is no duration", w)
	}
	return d
}

func (p *parser) number() int {
	w := p.word()
	n, err := strconv.Atoi(w)
	if err != nil || n < 1 {
		p.fail("word %q is no number", w)
	}
	return n
}
