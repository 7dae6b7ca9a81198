package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/starling-go/starling/cmd/starling/internal/doctor"
)

const (
	settles    = 2 * time.Second // from the last probe until the pages are asked again
	seedsAfter = 6 * time.Second // so long after its Join an observer has tried all of its seeds
	dialWithin = 2 * time.Second
)

func doctorFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.noProbe, "no-probe", false, "send nothing: who hears whose packets is then known after some time only")
}

// report is what doctor prints for programs.
type report struct {
	Asked    []string         `json:"asked"`            // the members, by name
	Failed   []string         `json:"failed,omitempty"` // pages that could not be asked, and why
	Findings []doctor.Finding `json:"findings"`
}

// diagnose asks all pages, and an observer where there are seeds, and says what is wrong.
func diagnose(ctx context.Context, o *options, s screen) (int, error) {
	var sources []*source
	for _, at := range o.at {
		page, err := pageAt(at)
		if err != nil {
			return exitFailed, err
		}
		sources = append(sources, page)
	}
	if len(o.seeds) > 0 {
		ob, err := o.observe(ctx, observerNeeds{probe: true, unjoined: true})
		if err != nil {
			return exitFailed, err
		}
		defer ob.leave()
		if !wait(ctx, seedsAfter) {
			return exitFailed, ctx.Err()
		}
		sources = append(sources, ob.source())
	}
	views, failed := look(ctx, o, sources)
	if len(views) == 0 {
		return exitFailed, errors.Join(failed...)
	}
	r := report{Findings: doctor.Examine(views)}
	for _, v := range views {
		r.Asked = append(r.Asked, v.Status.Self)
	}
	for _, err := range failed {
		r.Failed = append(r.Failed, err.Error())
	}
	var err error
	if o.json {
		err = writeJSON(s.out, r)
	} else {
		err = showReport(s, r)
	}
	switch {
	case err != nil || len(failed) > 0 && len(r.Findings) == 0:
		return exitFailed, err
	case len(r.Findings) > 0:
		return exitNot, nil
	}
	return exitFine, nil
}

// look asks the pages: it has each member probe the others, waits for what comes of it, and takes the picture.
func look(ctx context.Context, o *options, sources []*source) (views []doctor.View, failed []error) {
	all := make([]doctor.View, len(sources))
	if !o.noProbe {
		each(sources, func(i int, s *source) error {
			begun := time.Now()
			if p, err := s.probe(ctx, o.timeout); err == nil && p.Error == "" {
				all[i].Probed, all[i].Probe = begun, p
			}
			return nil // it may have no probe
		})
		wait(ctx, settles)
	}
	errs := each(sources, func(i int, s *source) (err error) {
		v := &all[i]
		v.At, v.Asked = s.at, time.Now()
		v.Status, err = s.status(ctx, o.timeout)
		v.Answered = time.Now()
		return err
	})
	for i, err := range errs {
		if err != nil {
			failed = append(failed, err)
		} else {
			views = append(views, all[i])
		}
	}
	if o.observer.transport == nil {
		dialAll(ctx, views)
	}
	return views, failed
}

// each calls f for each source, all at once, and returns the errors by their indices.
func each(sources []*source, f func(int, *source) error) []error {
	errs := make([]error, len(sources))
	var asking sync.WaitGroup
	for i, s := range sources {
		asking.Go(func() { errs[i] = f(i, s) })
	}
	asking.Wait()
	return errs
}

// dialAll notes which members cannot be dialled from here at the addresses that they advertise.
func dialAll(ctx context.Context, views []doctor.View) {
	var dialling sync.WaitGroup
	for i := range views {
		dialling.Go(func() {
			d := net.Dialer{Timeout: dialWithin}
			for _, m := range views[i].Status.Members {
				if !m.Self {
					continue
				}
				if conn, err := d.DialContext(ctx, "tcp", m.Addr); err != nil {
					views[i].Undialled = err.Error()
				} else {
					conn.Close()
				}
				break // a page that means ill may name thousands
			}
		})
	}
	dialling.Wait()
}

// wait returns false if ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func showReport(s screen, r report) error {
	for _, f := range r.Failed {
		fmt.Fprintf(s.out, "not asked: %s\n", oneLine(f))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(s.out, "[%s] %s\n", f.Fault, oneLine(f.What))
		for _, why := range f.Because {
			fmt.Fprintf(s.out, "    because  %s\n", oneLine(why))
		}
		fmt.Fprintf(s.out, "    to do    %s\n\n", oneLine(f.Do))
	}
	if len(r.Findings) == 0 {
		_, err := fmt.Fprintf(s.out, "nothing is wrong, as far as %s can tell\n", plural(len(r.Asked), "member"))
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s, by what %s told\n", plural(len(r.Findings), "finding"), plural(len(r.Asked), "member"))
	return err
}
