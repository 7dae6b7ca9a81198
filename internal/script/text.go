package script

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String returns the script as text that Parse reads: its steps, separated by semicolons.
func (s Script) String() string {
	parts := []string{fmt.Sprintf("members %d", s.Members), fmt.Sprintf("seed %d", s.Seed), fmt.Sprintf("retain %v", s.Retain)}
	if s.Keep != 0 {
		parts = append(parts, fmt.Sprintf("keep %d", s.Keep))
	}
	if len(s.Small) > 0 {
		parts = append(parts, "small "+join(s.Small))
	}
	for _, step := range s.Steps {
		parts = append(parts, step.String())
	}
	return strings.Join(parts, "; ")
}

func join(members []int) string {
	words := make([]string, len(members))
	for i, m := range members {
		words[i] = strconv.Itoa(m)
	}
	return strings.Join(words, ",")
}

func (s Step) String() string {
	switch s.Verb {
	case Wait:
		return fmt.Sprintf("wait %v", s.For)
	case Send, Confirm:
		return fmt.Sprintf("%s %d %s %d x%d", s.Verb, s.Member, Channels[s.Channel].Key, s.Size, s.Count)
	case Direct:
		return fmt.Sprintf("direct %d %d %d x%d", s.Member, s.Other, s.Size, s.Count)
	case Narrow:
		return fmt.Sprintf("narrow %d", s.Size)
	case Loss:
		return fmt.Sprintf("loss %v", s.Rate)
	case Cut:
		groups := make([]string, len(s.Groups))
		for i, g := range s.Groups {
			groups[i] = join(g)
		}
		return "cut " + strings.Join(groups, "|")
	case Mute:
		if s.Other == Everybody {
			return fmt.Sprintf("mute %d all", s.Member)
		}
		return fmt.Sprintf("mute %d %d", s.Member, s.Other)
	case Block:
		return fmt.Sprintf("block %d %d", s.Member, s.Other)
	case Freeze:
		return fmt.Sprintf("freeze %d %v", s.Member, s.For)
	case Flap:
		return fmt.Sprintf("flap %d %d %v", s.Member, s.Other, s.For)
	case Crash, Leave, Start:
		return fmt.Sprintf("%s %d", s.Verb, s.Member)
	case Stall:
		return fmt.Sprintf("stall %d %s %v", s.Member, Channels[s.Channel].Key, s.For)
	}
	return string(s.Verb)
}

// Parse reads a script: steps on lines of their own or separated by semicolons; a # begins a comment. Without a header it
// has three members, seed 1, and a retention of 15 s.
func Parse(text string) (Script, error) {
	s := Script{Members: 3, Seed: 1, Retain: 15 * time.Second}
	for n, line := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		p := parser{words: words[1:]}
		switch words[0] {
		case "members":
			s.Members = p.number(1, MaxMembers)
		case "seed":
			s.Seed = p.seed()
		case "retain":
			s.Retain = p.duration()
		case "keep":
			s.Keep = p.number(1, 1<<30)
		case "small":
			s.Small = p.members()
		default:
			s.Steps = append(s.Steps, p.step(Verb(words[0])))
		}
		if err := p.end(); err != nil {
			return Script{}, fmt.Errorf("step %d, %q: %w", n+1, strings.TrimSpace(line), err)
		}
	}
	return s, nil
}

// parser reads the words of one step. It keeps the first error.
type parser struct {
	words []string
	err   error
}

func (p *parser) step(v Verb) Step {
	s := Step{Verb: v}
	switch v {
	case Wait:
		s.For = p.duration()
	case Send, Confirm:
		s.Member, s.Channel, s.Size = p.member(), p.channel(), p.number(MinSize, 1<<20)
		s.Count = p.times()
	case Direct:
		s.Member, s.Other, s.Size = p.member(), p.member(), p.number(MinSize, 1<<20)
		s.Count = p.times()
	case Narrow:
		s.Size = p.number(0, 1<<30)
	case Loss:
		s.Rate = p.rate()
	case Cut:
		for _, word := range strings.Split(p.word(), "|") {
			s.Groups = append(s.Groups, p.parseMembers(word))
		}
	case Heal, Clear:
	case Mute:
		s.Member = p.member()
		if len(p.words) == 1 && p.words[0] == "all" {
			p.word()
			s.Other = Everybody
		} else {
			s.Other = p.member()
		}
	case Block:
		s.Member, s.Other = p.member(), p.member()
	case Freeze:
		s.Member, s.For = p.member(), p.duration()
	case Flap:
		s.Member, s.Other, s.For = p.member(), p.member(), p.duration()
	case Crash, Leave, Start:
		s.Member = p.member()
	case Stall:
		s.Member, s.Channel, s.For = p.member(), p.channel(), p.duration()
	default:
		p.fail("unknown verb")
	}
	return s
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) end() error {
	if len(p.words) > 0 {
		p.fail("%q is too much", p.words[0])
	}
	return p.err
}

func (p *parser) word() string {
	if len(p.words) == 0 {
		p.fail("a word is missing")
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

func (p *parser) number(least, most int) int { return p.parseNumber(p.word(), least, most) }

func (p *parser) parseNumber(word string, least, most int) int {
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		p.fail("%q is no number from %d to %d", word, least, most)
	}
	return n
}

func (p *parser) member() int { return p.number(0, MaxMembers-1) }

func (p *parser) members() []int { return p.parseMembers(p.word()) }

// parseMembers reads numbers with commas between them.
func (p *parser) parseMembers(list string) (ms []int) {
	for _, word := range strings.Split(list, ",") {
		ms = append(ms, p.parseNumber(word, 0, MaxMembers-1))
	}
	return ms
}

func (p *parser) seed() uint64 {
	n, err := strconv.ParseUint(p.word(), 10, 64)
	if err != nil {
		p.fail("%w", err)
	}
	return n
}

func (p *parser) duration() time.Duration {
	d, err := time.ParseDuration(p.word())
	if err != nil || d < 0 {
		p.fail("no duration: %v", err)
	}
	return d
}

func (p *parser) rate() float64 {
	f, err := strconv.ParseFloat(p.word(), 64)
	if err != nil || !(f >= 0 && f <= 1) {
		p.fail("%v is no rate from 0 to 1", f)
	}
	return f
}

func (p *parser) times() int { return p.parseNumber(strings.TrimPrefix(p.word(), "x"), 1, 1<<16) }

func (p *parser) channel() int {
	word := p.word()
	for i, c := range Channels {
		if c.Key == word {
			return i
		}
	}
	p.fail("no channel is called %q", word)
	return 0
}
