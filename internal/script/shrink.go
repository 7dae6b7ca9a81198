package script

import (
	"slices"
	"time"
)

// Shrink returns the shortest script it can find that still fails, with at most tries calls of fails.
func Shrink(s Script, fails func(Script) bool, tries int) Script {
	sh := shrinker{best: s, fails: fails, tries: tries}
	for sh.progress = true; sh.progress && sh.tries > 0; {
		sh.progress = false
		sh.drop()
		sh.simplify()
	}
	return sh.best
}

type shrinker struct {
	best     Script
	fails    func(Script) bool
	tries    int
	progress bool
}

// try keeps a simpler script if it fails too.
func (sh *shrinker) try(s Script) bool {
	if sh.tries <= 0 {
		return false
	}
	sh.tries--
	if !sh.fails(s) {
		return false
	}
	sh.best, sh.progress = s, true
	return true
}

// drop leaves out steps: many at once, then fewer.
func (sh *shrinker) drop() {
	for n := len(sh.best.Steps); n > 0; n /= 2 {
		for at := 0; at < len(sh.best.Steps); {
			s := sh.best
			s.Steps = slices.Delete(slices.Clone(s.Steps), at, min(at+n, len(s.Steps)))
			if !sh.try(s) {
				at += n
			}
		}
	}
}

// simplify makes what is left smaller.
func (sh *shrinker) simplify() {
	for sh.best.Members > 2 {
		s := sh.best
		s.Members--
		if !sh.try(s) {
			break
		}
	}
	if s := sh.best; len(s.Small) > 0 {
		s.Small = nil
		sh.try(s)
	}
	for i := range sh.best.Steps {
		for _, simpler := range simplifications {
			for {
				s := sh.best
				s.Steps = slices.Clone(s.Steps)
				if !simpler(&s.Steps[i]) || !sh.try(s) {
					break
				}
			}
		}
	}
}

// simplifications make one step simpler, and report whether they could.
var simplifications = []func(*Step) bool{
	func(s *Step) bool {
		more := s.Count > 1
		s.Count = (s.Count + 1) / 2
		return more
	},
	func(s *Step) bool {
		if s.Verb == Narrow {
			return false
		}
		more := s.Size > MinSize
		s.Size = max(s.Size/2, MinSize)
		return more
	},
	func(s *Step) bool {
		more := s.For > time.Second
		s.For = (s.For / 2).Round(time.Millisecond)
		return more
	},
	func(s *Step) bool {
		more := s.For%time.Second != 0 && s.For > time.Second
		s.For = s.For.Truncate(time.Second)
		return more
	},
	func(s *Step) bool {
		more := s.Channel > 0
		s.Channel = 0
		return more
	},
	func(s *Step) bool {
		more := len(s.Groups) > 1
		if more {
			s.Groups = s.Groups[:len(s.Groups)-1]
		}
		return more
	},
	func(s *Step) bool {
		more := len(s.Groups) > 0 && len(s.Groups[0]) > 1
		if more {
			s.Groups = slices.Clone(s.Groups)
			s.Groups[0] = s.Groups[0][:len(s.Groups[0])-1]
		}
		return more
	},
	func(s *Step) bool {
		more := s.Member > 0
		s.Member = max(s.Member-1, 0)
		return more
	},
}
