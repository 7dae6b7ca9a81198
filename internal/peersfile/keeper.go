package peersfile

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// GoneFor is how long a peer is remembered after it went.
	GoneFor = 24 * time.Hour
	// WriteAfter is how long a change may wait for others before it is written.
	WriteAfter = time.Second

	complainEvery = time.Minute
)

// A Keeper keeps a file of peers up to date. Its methods may be called concurrently; but for Run none of them waits.
type Keeper struct {
	path, label string
	log         *slog.Logger
	changed     chan struct{} // holds a token when something has changed

	mu     sync.Mutex
	byName map[string]Peer // Invariant: at most MaxPeers, and no two of one address
}

// Open reads the file. One that cannot be read, or is of another cluster, is empty, and said; it is written over when there is something to write.
func Open(path, label string, log *slog.Logger, now time.Time) *Keeper {
	k := &Keeper{path: path, label: label, log: log, changed: make(chan struct{}, 1), byName: map[string]Peer{}}
	peers, err := read(path, label)
	if err != nil {
		log.Warn("Config.PeersFile is taken for empty, and will be written over", "path", path, "error", err)
	}
	for _, p := range peers {
		// Who was here is not, until it is met again. Who had gone is not remembered for longer because this process starts again.
		if p.Gone.IsZero() || p.Gone.After(now) {
			p.Gone = now
		}
		k.keep(p, now)
	}
	return k
}

// Met notes that a member is here.
func (k *Keeper) Met(name string, addr netip.AddrPort, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := Peer{Name: name, Addr: addr}
	if p.check() == nil && utf8.ValidString(name) && k.byName[name] != p {
		k.keep(p, now)
		k.change()
	}
}

// Gone notes that a member has gone.
func (k *Keeper) Gone(name string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.byName[name]; ok && p.Gone.IsZero() {
		p.Gone = now
		k.byName[name] = p
		k.change()
	}
}

func (k *Keeper) change() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// keep remembers a peer instead of those that had its name or its address.
func (k *Keeper) keep(p Peer, now time.Time) {
	maps.DeleteFunc(k.byName, func(name string, other Peer) bool { return other.Addr == p.Addr || other.forgotten(now) })
	k.byName[p.Name] = p
	if len(k.byName) > MaxPeers {
		delete(k.byName, slices.MaxFunc(slices.Collect(maps.Values(k.byName)), mostUseful).Name)
	}
}

func (p Peer) forgotten(now time.Time) bool { return !p.Gone.IsZero() && now.Sub(p.Gone) > GoneFor }

// mostUseful sorts those that are here before those that have gone, and of those who went last first.
func mostUseful(a, b Peer) int {
	switch {
	case a.Gone.IsZero() != b.Gone.IsZero():
		if a.Gone.IsZero() {
			return -1
		}
		return 1
	case !a.Gone.Equal(b.Gone):
		return b.Gone.Compare(a.Gone)
	}
	return cmp.Compare(a.Name, b.Name)
}

// Peers returns who is remembered, the most useful first.
func (k *Keeper) Peers(now time.Time) []Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.byName, func(_ string, p Peer) bool { return p.forgotten(now) })
	return slices.SortedFunc(maps.Values(k.byName), mostUseful)
}

// Run writes the file whenever something has changed, a second later, until ctx ends; then it writes what has changed since.
func (k *Keeper) Run(ctx context.Context) {
	var complained time.Time
	for {
		select {
		case <-k.changed:
		case <-ctx.Done():
			select {
			case <-k.changed:
			default:
				return
			}
		}
		select {
		case <-time.After(WriteAfter):
		case <-ctx.Done():
		}
		select {
		case <-k.changed: // meanwhile
		default:
		}
		now := time.Now()
		if err := write(k.path, encode(k.label, k.Peers(now))); err != nil {
			k.change() // so that it is tried again
			if complained.IsZero() || now.Sub(complained) >= complainEvery {
				complained = now
				k.log.Warn("Config.PeersFile cannot be written; still trying", "path", k.path, "error", err)
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}
