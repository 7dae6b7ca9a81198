package main

import (
	"errors"
	"flag"
	"os"
	"runtime"
	"runtime/pprof"
)

// profiles are the files that profiles of a run are written to; "" for none.
type profiles struct{ cpu, mem string }

func (p *profiles) flags(f *flag.FlagSet) {
	f.StringVar(&p.cpu, "cpuprofile", "", "write a CPU profile to this file")
	f.StringVar(&p.mem, "memprofile", "", "write a profile of all allocations to this file")
}

// start begins the profiles. What it returns ends and writes them.
func (p *profiles) start() (stop func() error, err error) {
	if p.mem != "" {
		runtime.MemProfileRate = 4 << 10
	}
	if p.cpu == "" {
		return p.writeMem, nil
	}
	f, err := os.Create(p.cpu)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return errors.Join(f.Close(), p.writeMem())
	}, nil
}

func (p *profiles) writeMem() error {
	if p.mem == "" {
		return nil
	}
	f, err := os.Create(p.mem)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
