package starlingkeys

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"runtime"
	"time"
)

// DefaultEvery is how often a file is read.
const DefaultEvery = 5 * time.Second

// settled is how long a file must not have changed before it is read for keys: somebody may be writing it.
const settled = 500 * time.Millisecond

// FileOptions say how File reads.
type FileOptions struct {
	// Every is how often the file is read. Default 5 s.
	Every time.Duration
	// Logger gets a line at WARN if others than the owner and the group may read the file, or others than the owner write it.
	// Default slog.Default().
	Logger *slog.Logger
}

// File returns a source of the keys in a file, for starling.Config.KeySource. It yields them at once, and all of them again whenever the
// file's content has changed. It reads the content itself every few seconds: so it follows a file that is replaced, a link that is swapped
// (as the files of a Secret in Kubernetes are) and one that is written in place; what has just been written is left alone until it
// has stayed as it is for half a second. Better replace a file than write it in place: a half of it may look whole.
//
// Where the file cannot be read, has more than MaxFileSize bytes or is no regular file, or where Parse refuses it, an error is yielded, once for
// each kind, and reading goes on. It ends with ctx. options may be nil. What is returned may be used by several members at once.
func File(path string, options *FileOptions) func(ctx context.Context) iter.Seq2[[][]byte, error] {
	var o FileOptions
	if options != nil {
		o = *options
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	o.Logger = cmp.Or(o.Logger, slog.Default())
	return func(ctx context.Context) iter.Seq2[[][]byte, error] {
		return func(yield func([][]byte, error) bool) {
			w := watch{path: path, o: o}
			for w.next(ctx) {
				if !yield(w.keys, w.err) {
					return
				}
			}
		}
	}
}

// watch reads a file again and again.
type watch struct {
	path string
	o    FileOptions

	keys [][]byte // of the last content, unless there is an err
	err  error

	begun  bool
	sum    [sha256.Size]byte // of the content whose keys were yielded last
	failed string            // the error that was yielded last, unless the keys are those again that were yielded before
	open   bool              // others may read the file, which was said
}

// next waits until there is something to yield.
func (w *watch) next(ctx context.Context) bool {
	for {
		if w.begun && !sleep(ctx, w.o.Every) {
			return false
		}
		text, mode, err := read(w.path)
		if w.begun && err == nil && sha256.Sum256(text) != w.sum {
			if text, mode, err = w.settle(ctx, text); ctx.Err() != nil {
				return false
			}
		}
		w.begun = true
		if w.look(text, mode, err) {
			return true
		}
	}
}

// settle reads the file until it is twice the same.
func (w *watch) settle(ctx context.Context, text []byte) ([]byte, fs.FileMode, error) {
	for {
		if !sleep(ctx, min(settled, w.o.Every)) {
			return nil, 0, ctx.Err()
		}
		again, mode, err := read(w.path)
		if err != nil || string(again) == string(text) {
			return again, mode, err
		}
		text = again
	}
}

// look reports whether what was read is to be yielded.
func (w *watch) look(text []byte, mode fs.FileMode, err error) bool {
	var sum [sha256.Size]byte
	if w.keys, w.err = nil, err; err == nil {
		w.checkMode(mode)
		sum = sha256.Sum256(text)
		if sum == w.sum {
			w.failed = ""
			return false
		}
		if w.keys, w.err = Parse(text); w.err != nil {
			w.err = fmt.Errorf("%s: %w", w.path, w.err)
		}
	}
	if w.err != nil {
		again := w.failed == w.err.Error()
		w.failed = w.err.Error()
		return !again
	}
	w.sum, w.failed = sum, ""
	return true
}

// checkMode says, once, that too many may read or write the file. A group may read it, for that is how a Secret is given to a process.
func (w *watch) checkMode(mode fs.FileMode) {
	open := mode&0o027 != 0 && runtime.GOOS != "windows"
	if open && !w.open {
		w.o.Logger.Warn("too many may read or write a file of keys: let its owner write it, and its group read it at most",
			"file", w.path, "mode", mode.Perm().String())
	}
	w.open = open
}

// read reads a regular file of bounded size.
func read(path string) (text []byte, mode fs.FileMode, err error) {
	info, err := os.Stat(path) // before opening it: that of a pipe waits
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	return text, info.Mode(), err
}

// sleep returns false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
