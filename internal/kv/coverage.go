package kv

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/wire"
)

// coverage is of which run a member has seen all writes, up to which stamp: a version vector. What was seen may have been replaced
// or deleted since.
type coverage struct {
	runs map[uint64]*covered
	// Invariant: the sum of coverSum over all runs. Equal coverages have equal sums.
	sum uint64
}

// covered is what was seen of one run.
type covered struct {
	upTo hlc.Stamp
	// early are the writes that came before one that precedes them: by the stamp of the one before, their own.
	// Invariant: none of its keys is ≤ upTo.
	early map[hlc.Stamp]hlc.Stamp
}

const (
	// maxRuns bounds the runs of a coverage. Beyond it the one that wrote longest ago is forgotten: this member then counts as one that has
	// not seen that run's writes.
	maxRuns = 4096
	// maxEarly bounds the writes of one run that wait for those before them. Beyond it a comparison has to say that they were seen.
	maxEarly = 1024
)

func newCoverage() coverage { return coverage{runs: map[uint64]*covered{}} }

func coverSum(run uint64, upTo hlc.Stamp) uint64 { return mix(mix(run) ^ uint64(upTo)) }

// upTo returns the stamp up to which all writes of a run were seen.
func (c *coverage) upTo(run uint64) hlc.Stamp {
	if r := c.runs[run]; r != nil {
		return r.upTo
	}
	return 0
}

// note notes a write, and the one that precedes it of the same run.
func (c *coverage) note(run uint64, prev, stamp hlc.Stamp) {
	r := c.run(run)
	switch {
	case prev <= r.upTo:
		c.raise(run, stamp)
	case len(r.early) < maxEarly:
		if r.early == nil {
			r.early = map[hlc.Stamp]hlc.Stamp{}
		}
		r.early[prev] = stamp
	}
}

// raise notes that all writes of a run were seen up to a stamp.
func (c *coverage) raise(run uint64, upTo hlc.Stamp) {
	r := c.run(run)
	if upTo <= r.upTo {
		return
	}
	c.sum -= coverSum(run, r.upTo)
	r.upTo = upTo
	for {
		next, ok := r.early[r.upTo]
		if !ok {
			break
		}
		r.upTo = next
	}
	for prev := range r.early {
		if prev <= r.upTo {
			delete(r.early, prev)
		}
	}
	c.sum += coverSum(run, r.upTo)
}

func (c *coverage) run(id uint64) *covered {
	r := c.runs[id]
	if r == nil {
		if len(c.runs) >= maxRuns {
			c.forgetOldest()
		}
		r = new(covered)
		c.runs[id] = r
		c.sum += coverSum(id, 0)
	}
	return r
}

// forgetOldest forgets the run that wrote longest ago.
func (c *coverage) forgetOldest() {
	var oldest uint64
	for id, r := range c.runs {
		if o := c.runs[oldest]; o == nil || r.upTo < o.upTo {
			oldest = id
		}
	}
	c.forget(oldest)
}

func (c *coverage) forget(run uint64) {
	if r := c.runs[run]; r != nil {
		c.sum -= coverSum(run, r.upTo)
		delete(c.runs, run)
	}
}

// vector returns of which run all writes were seen up to which stamp.
func (c *coverage) vector() []Version {
	v := make([]Version, 0, len(c.runs))
	for id, r := range c.runs {
		if r.upTo > 0 {
			v = append(v, Version{r.upTo, id})
		}
	}
	slices.SortFunc(v, func(a, b Version) int { return cmp.Compare(a.Origin, b.Origin) })
	return v
}

// since returns, for each run, the stamp after which this member wants its writes. Where a later write has overtaken one that is missing
// (early), it is hlc.Limit: none are wanted, since most of them are here, and comparing hashes finds the missing one.
func (c *coverage) since() []wire.MapRun {
	since := make([]wire.MapRun, 0, len(c.runs))
	for id, r := range c.runs {
		upTo := r.upTo
		if len(r.early) > 0 {
			upTo = hlc.Limit
		}
		since = append(since, wire.MapRun{ID: id, Stamp: uint64(upTo)})
	}
	slices.SortFunc(since, func(a, b wire.MapRun) int { return cmp.Compare(a.ID, b.ID) })
	return since
}

// behind returns the runs of which who has covered what is in mine may have missed deletions that another one has let go: theirs covers
// more of them than mine, and begins to do so below the horizon. Both are sorted by run.
func behind(mine, theirs []Version, theirHorizon Horizon) map[uint64]bool {
	runs := map[uint64]bool{}
	limit := max(theirHorizon.Aged, theirHorizon.Forced)
	for _, t := range theirs {
		upTo := hlc.Stamp(0)
		if i, ok := slices.BinarySearchFunc(mine, t.Origin, func(v Version, run uint64) int { return cmp.Compare(v.Origin, run) }); ok {
			upTo = mine[i].Stamp
		}
		if upTo < t.Stamp && upTo < limit {
			runs[t.Origin] = true
		}
	}
	return runs
}

// Horizon is what a member has let go of: it may not remember deletions up to these stamps.
type Horizon struct {
	Aged   hlc.Stamp // because they were older than Limits.Tombstones
	Forced hlc.Stamp // because there were too many
}

func (h Horizon) max(o Horizon) Horizon {
	return Horizon{max(h.Aged, o.Aged), max(h.Forced, o.Forced)}
}

// A Filter says what is to be made of entries that another member has given. One of the two sides at most has suspects, but in an owned map.
type Filter struct {
	Theirs *Suspects // what of theirs is left out
	Ours   *Suspects // what of ours gives way to theirs, and goes where they have nothing
}

// Suspects says which entries of a member that is behind may have been deleted. Nil: none.
type Suspects struct {
	Horizon
	Tombstones time.Duration
	// Runs are those whose entries may have been deleted, in an owned map: where only a run itself deletes what it has written, who has seen
	// more of that run is right. Else nil.
	Runs map[uint64]bool
}

// suspect reports whether a write of that age may have been deleted. What is younger than the tombstones cannot have been, without
// leaving a tombstone, unless that was let go in a hurry.
func (u *Suspects) suspect(v Version, age time.Duration) bool {
	return u != nil && (u.Runs == nil || u.Runs[v.Origin]) && (v.Stamp <= u.Forced || v.Stamp <= u.Aged && age >= u.Tombstones)
}
