// Package peersfile remembers the members of a cluster in a file, so that a member that is started again finds the others though no seed lives.
package peersfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// MaxPeers is how many peers a file holds; of more, those that went first are forgotten.
	MaxPeers = 1024
	// maxSize bounds a file: MaxPeers of the longest names fit.
	maxSize = 1 << 20
	// maxName bounds the name of a peer, in bytes.
	maxName = 128
	version = 1
)

// A Peer is a member that was here.
type Peer struct {
	Name string         `json:"name"`
	Addr netip.AddrPort `json:"addr"`
	Gone time.Time      `json:"gone,omitzero"` // when it went; zero: it is here
}

// contents is what a file says.
type contents struct {
	Version int    `json:"starling_peers"`
	Label   string `json:"label"` // of the cluster
	Peers   []Peer `json:"peers"`
}

func encode(label string, peers []Peer) []byte {
	b, _ := json.MarshalIndent(contents{version, label, peers}, "", "\t") // of what was decoded, or checked by keep: it cannot fail
	return append(b, '\n')
}

// decode reads a file of the cluster of that label.
func decode(b []byte, label string) ([]Peer, error) {
	var c contents
	if len(b) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes", maxSize)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("no file of peers: %w", err)
	}
	switch {
	case c.Version != version:
		return nil, fmt.Errorf("no file of peers, or of another version: starling_peers is %d, want %d", c.Version, version)
	case c.Label != label:
		return nil, fmt.Errorf("of another cluster: its label is %.64q, this member's %.64q", c.Label, label)
	case len(c.Peers) > MaxPeers:
		return nil, fmt.Errorf("%d peers, limit %d", len(c.Peers), MaxPeers)
	}
	for _, p := range c.Peers {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	return c.Peers, nil
}

func (p Peer) check() error {
	switch {
	case p.Name == "" || len(p.Name) > maxName:
		return fmt.Errorf("a name of %d bytes", len(p.Name))
	case !p.Addr.IsValid() || p.Addr.Port() == 0 || p.Addr.Addr().IsUnspecified() || p.Addr.Addr().Zone() != "":
		return fmt.Errorf("%.64q has the address %v", p.Name, p.Addr)
	}
	return nil
}

// read returns the peers of a file. One that does not exist has none.
func read(path, label string) ([]Peer, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	return decode(b, label)
}

// write replaces a file, so that it is never half written: by one beside it, which is on the disk before it gets the name.
func write(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempPattern)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync() // where directories cannot be synced, the old file is back after a power failure
		_ = dir.Close()
	}
	return nil
}

// tempPattern ends the names of temporary files, which are readable for their owner alone.
const tempPattern = ".*.tmp"

// strayAge is how old a temporary file is that nobody is writing any more.
const strayAge = time.Minute

// Check returns why a file could not be written, and removes what a process has left beside it that was killed while it wrote.
func Check(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempPattern)
	if err != nil {
		return fmt.Errorf("no file can be made beside it: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return err
	}
	stray, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range stray {
		ours, _ := filepath.Match("*"+tempPattern, e.Name())
		base := len(filepath.Base(path))
		if !ours || len(e.Name()) < base || e.Name()[:base] != filepath.Base(path) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > strayAge {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return nil
}
