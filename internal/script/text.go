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
	for _, step := range s.Steps {
		parts = append(parts, step.String())
	}
	return strings.Join(parts, "; ")
}

func (s Step) String() string {
	switch s.Verb {
	case Wait:
		return fmt.Sprintf("wait %v", s.For)
	case Send:
		return fmt.Sprintf("send %d %s %d x%d", s.Member, Channels[s.Channel].Key, s.Size, s.Count)
	case Loss:
		return fmt.Sprintf("loss %v", s.Rate)
	case Cut:
		group := make([]string, len(s.Group))
		for i, m := range s.Group {
			group[i] = strconv.Itoa(m)
		}
		return "cut " + strings.Join(group, ",")
	case Mute:
		if s.Other == Everybody {
			return fmt.Sprintf("mute %d all", s.Member)
		}
		return fmt.Sprintf("mute %d %d", s.Member, s.Other)
	case Crash, Start:
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
	case Send:
		s.Member, s.Channel, s.Size = p.member(), p.channel(), p.number(MinSize, 1<<20)
		s.Count = p.times()
	case Loss:
		s.Rate = p.rate()
	case Cut:
		for _, word := range strings.Split(p.word(), ",") {
			one := parser{words: []string{word}, err: p.err}
			s.Group = append(s.Group, one.member())
			p.err = one.err
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
	case Crash, Start:
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

func (p *parser) number(least, most int) int {
	word := p.word()
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		p.fail("%q is no number from %d to %d", word, least, most)
	}
	return n
}

func (p *parser) member() int { return p.number(0, MaxMembers-1) }

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

func (p *parser) times() int {
	word := p.word()
	one := parser{words: []string{strings.TrimPrefix(word, "x")}, err: p.err}
	n := one.number(1, 1<<16)
	p.err = one.err
	return n
}

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
