package starlingkeys

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader ranges over a source in a bubble and keeps what it yields.
type reader struct {
	t    *testing.T
	dir  string
	path string
	mu   sync.Mutex
	log  bytes.Buffer
	got  []string
}

// Write takes a line of the log.
func (r *reader) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(line)
}

func (r *reader) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// yielded waits longer than it takes to see a change, and fails the test if something else was yielded since.
func (r *reader) yielded(want ...string) {
	r.t.Helper()
	time.Sleep(DefaultEvery + 3*settled)
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := fmt.Sprint(r.got); got != fmt.Sprint(want) {
		r.t.Errorf("yielded %s, want %s", got, want)
	}
	r.got = nil
}

// must fails the test.
func (r *reader) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write replaces the file, as one should.
func (r *reader) write(text string) {
	r.t.Helper()
	r.must(os.WriteFile(r.path+"~", []byte(text), 0o600))
	r.must(os.Rename(r.path+"~", r.path))
}

// reads runs a test with a source of dir/keys, which has the key 1 at first.
func reads(t *testing.T, test func(r *reader)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{t: t, dir: dir, path: filepath.Join(dir, "keys")}
		r.write(line(1, 16))
		ctx, cancel := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() {
			for keys, err := range File(r.path, &FileOptions{Logger: slog.New(slog.NewTextHandler(r, nil))})(ctx) {
				r.mu.Lock()
				if err != nil {
					r.got = append(r.got, strings.ReplaceAll(err.Error(), dir, "DIR"))
				}
				for _, k := range keys {
					r.got = append(r.got, fmt.Sprint(k[0]))
				}
				r.mu.Unlock()
			}
		})
		defer done.Wait()
		defer cancel()
		r.yielded("1")
		test(r)
	})
}

// TestFileChanges: each content is yielded once, and an error leaves what was yielded to whoever has it.
func TestFileChanges(t *testing.T) {
	reads(t, func(r *reader) {
		r.yielded()
		r.write(line(2, 32) + line(1, 16))
		r.yielded("2", "1")
		now := time.Now()
		r.must(os.Chtimes(r.path, now, now))
		r.yielded()
		r.write("#\nno key\n")
		r.yielded("DIR/keys: line 2: not a key in standard base64")
		r.yielded()
		r.write("")
		r.yielded("DIR/keys: no key in it")
		r.write(line(2, 32) + line(1, 16)) // as before
		r.yielded()
		r.write("")
		r.yielded("DIR/keys: no key in it")
		r.must(os.Remove(r.path))
		r.yielded("stat DIR/keys: no such file or directory")
		r.must(os.Mkdir(r.path, 0o700))
		r.yielded("DIR/keys: no regular file")
		r.must(os.Remove(r.path))
		r.write(strings.Repeat("#", MaxFileSize+1))
		r.yielded("DIR/keys: larger than 65536 bytes")
		r.write(line(3, 16))
		r.yielded("3")
	})
}

// TestFileWrittenInPlace: while somebody writes the file, nothing is taken from it, although its beginning looks whole.
func TestFileWrittenInPlace(t *testing.T) {
	reads(t, func(r *reader) {
		f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_TRUNC, 0)
		r.must(err)
		defer f.Close()
		for _, char := range line(2, 32) + line(3, 16) { // its first 32 characters would be a key of 24 bytes
			_, err := f.WriteString(string(char))
			r.must(err)
			time.Sleep(settled * 9 / 10)
		}
		r.yielded("2", "3")
	})
}

// TestFileOfSecret: the files of a Secret in Kubernetes are links to a directory by a link that is replaced.
func TestFileOfSecret(t *testing.T) {
	reads(t, func(r *reader) {
		swap := func(name, text string) {
			r.must(os.Mkdir(filepath.Join(r.dir, name), 0o700))
			r.must(os.WriteFile(filepath.Join(r.dir, name, "keys"), []byte(text), 0o600))
			r.must(os.Symlink(name, filepath.Join(r.dir, "..data_tmp")))
			r.must(os.Rename(filepath.Join(r.dir, "..data_tmp"), filepath.Join(r.dir, "..data")))
		}
		swap("..1", line(1, 16))
		r.must(os.Remove(r.path))
		r.must(os.Symlink(filepath.Join("..data", "keys"), r.path))
		r.yielded()
		swap("..2", line(2, 16))
		r.yielded("2")
	})
}

// TestFileMode: that too many may read the file is said once.
func TestFileMode(t *testing.T) {
	reads(t, func(r *reader) {
		r.must(os.Chmod(r.path, 0o440))
		r.yielded()
		if text := r.logged(); text != "" {
			t.Errorf("for its group: %s", text)
		}
		r.must(os.Chmod(r.path, 0o644))
		r.yielded()
		r.yielded()
		if text := r.logged(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") || !strings.Contains(text, "-rw-r--r--") {
			t.Errorf("for all: %s", text)
		}
	})
}
