package starlingkeys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// MaxFileSize is the most that a file of keys may have, in bytes.
const MaxFileSize = 64 << 10

// ErrNoKey is returned for what has no key in it. It never means plaintext.
var ErrNoKey = errors.New("no key in it")

// A LineError tells which line is no key. It says nothing of what is on the line.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Parse reads keys as a file has them, see the package. It returns all of them, or none: a *LineError for the first line that is no key, ErrNoKey if there
// is none, another error above MaxFileSize. The keys share no memory with text.
func Parse(text []byte) (keys [][]byte, err error) {
	if len(text) > MaxFileSize {
		return nil, errTooLarge
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, &LineError{n, err}
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	return keys, nil
}

var errTooLarge = fmt.Errorf("larger than %d bytes", MaxFileSize)

func parseKey(line []byte) ([]byte, error) {
	key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(key, line)
	switch {
	case err != nil: // which may quote it
		return nil, errors.New("not a key in standard base64")
	case n != 16 && n != 24 && n != 32:
		return nil, fmt.Errorf("a key has 16, 24 or 32 bytes, not %d", n)
	}
	return key[:n:n], nil
}
