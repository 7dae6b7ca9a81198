package main

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/starling-go/starling"
)

// bars is a progress bar for each member that is alive. They are shown where the standard error is a terminal.
type bars struct {
	all   *mpb.Progress
	byID  map[uint64]*bar
	left  int // how many are under way
	began time.Time
}

type bar struct {
	*mpb.Bar
	state atomic.Value // string
}

func newBars(members []*member, size int64) *bars {
	bs := &bars{all: mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(60)), byID: map[uint64]*bar{}, began: time.Now()}
	for _, m := range members {
		if m.dead {
			continue
		}
		b := new(bar)
		b.state.Store("")
		text := func(decor.Statistics) string { return b.state.Load().(string) }
		b.Bar = bs.all.AddBar(size, mpb.PrependDecorators(decor.Name(m.name, decor.WCSyncSpaceR)), mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace), decor.Any(text, decor.WCSyncSpace),
		))
		bs.byID[m.Self().ID] = b
		bs.left++
	}
	return bs
}

// show shows how far the file has come at one member.
func (bs *bars) show(p starling.Progress) {
	b := bs.byID[p.Member.ID]
	if b == nil || p.Incoming {
		return
	}
	state := p.State.String()
	if p.State != starling.ProgressUnderWay {
		state += " after " + time.Since(bs.began).Round(time.Millisecond).String()
		defer b.Abort(false) // it stays as it is, if it is not complete
		bs.left--
	}
	b.state.Store(state)
	b.SetCurrent(p.Done)
}

// close waits until all is shown.
func (bs *bars) close() {
	for _, b := range bs.byID {
		b.Abort(false)
	}
	bs.all.Wait()
}
