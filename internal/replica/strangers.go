package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
)

const (
	// strangerAfter is how long a stranger has time to become a member before it is told of. Frames of one that joins may be here
	// before memberlist tells of it.
	strangerAfter = 10 * time.Second
	// leftLately is how long one that was a member is no stranger: what it has sent, or sends until it has heard that it is gone,
	// comes later than memberlist's word.
	leftLately = 30 * time.Second
)

// strangers counts control frames of those who are no members, and tells of the first of them that is a stranger indeed.
type strangers struct {
	out    *output
	roster *roster

	first wire.Peer // who is waited for, as it names itself
	at    time.Time // since when; zero: for nobody
	told  bool
}

// drop counts a frame.
func (s *strangers) drop(from wire.Peer, now time.Time) {
	s.out.drops[DropStranger]++ // not by output.drop: tick decides whether it is told of
	p := s.roster.get(from.ID)
	if s.told || s.waiting() || p.gone() && now.Sub(p.since) < leftLately {
		return
	}
	s.first, s.at = from, now
	s.out.stir()
}

// waiting reports whether somebody has yet to be judged.
func (s *strangers) waiting() bool { return !s.at.IsZero() }

// tick tells of who is a stranger still.
func (s *strangers) tick(now time.Time) {
	if !s.waiting() || now.Sub(s.at) < strangerAfter {
		return
	}
	if p := s.roster.get(s.first.ID); !p.live() && !(p.gone() && p.since.After(s.at)) {
		s.told = true
		s.out.FirstDrops = append(s.out.FirstDrops, FirstDrop{Drop: DropStranger, From: s.first.Addr})
	}
	s.at = time.Time{}
}
