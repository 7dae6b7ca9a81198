package main

import (
	"runtime"
	"syscall"
	"time"
)

// reading is what this process has used so far.
type reading struct {
	at     time.Time
	cpu    time.Duration // user and system
	allocs uint64
	bytes  uint64 // allocated
}

// read reads the meters. It stops the world for a moment, so it stands outside what is measured.
func read() reading {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return reading{at: time.Now(), cpu: cpuTime(), allocs: mem.Mallocs, bytes: mem.TotalAlloc}
}

// readOf reads the meters of this process and of the server that a system has beside it, if it has one.
func readOf(s any) reading {
	r := read()
	if served, ok := s.(interface{ cpu() time.Duration }); ok {
		r.cpu += served.cpu()
	}
	return r
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0 // not on any system that this program runs on
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// used is what was used between two readings.
type used struct {
	wall, cpu     time.Duration
	allocs, bytes float64
}

func (r reading) since(s reading) used {
	return used{r.at.Sub(s.at), r.cpu - s.cpu, float64(r.allocs - s.allocs), float64(r.bytes - s.bytes)}
}

// less takes off what would have been used without any work, by the rate of an idle window.
func (u used) less(idle used) used {
	if idle.wall <= 0 {
		return u
	}
	share := float64(u.wall) / float64(idle.wall)
	u.cpu -= time.Duration(share * float64(idle.cpu))
	u.allocs -= share * idle.allocs
	u.bytes -= share * idle.bytes
	return u
}
