package starlingkeys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// line is a line with a key of so many bytes, all the same.
func line(b byte, size int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, size)) + "\n"
}

// TestParse: keys come in the order of their lines, and a line that is no key is named, and not shown.
func TestParse(t *testing.T) {
	text := "# the new one\n" + line(1, 32) + "\r\n\n  " + strings.TrimSpace(line(2, 16)) + "\t# the old one\r\n" + strings.TrimSpace(line(3, 24))
	keys, err := Parse([]byte(text))
	if err != nil || len(keys) != 3 || len(keys[0]) != 32 || len(keys[1]) != 16 || len(keys[2]) != 24 || keys[0][0] != 1 || keys[2][0] != 3 {
		t.Errorf("keys %v, %v", keys, err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"size":   {line(1, 16) + line(1, 15), "line 2: a key has 16, 24 or 32 bytes, not 15"},
		"base64": {"#\nsecret!\n", "line 2: not a key in standard base64"},
		"bits":   {"AAAAAAAAAAAAAAAAAAAAAB==\n", "line 1: not a key in standard base64"},
		"cut":    {line(1, 32)[:41], "line 1: not a key in standard base64"},
		"empty":  {"", "no key in it"}, "comments": {"#\n\n# nothing\n", "no key in it"},
		"large": {strings.Repeat("\n", MaxFileSize) + line(1, 16), "larger than 65536 bytes"},
	} {
		if keys, err := Parse([]byte(tt.text)); err == nil || err.Error() != tt.want || keys != nil {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
	var e *LineError
	if _, err := Parse([]byte("x")); !errors.As(err, &e) || e.Line != 1 {
		t.Errorf("%v", err)
	}
	if _, err := Parse(nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
}

// FuzzParse: whatever a file has in it, what comes of it are keys or an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(line(1, 16) + "# comment\n" + line(2, 32)))
	f.Add([]byte("no key"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := Parse(text)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if len(k) != 16 && len(k) != 24 && len(k) != 32 || cap(k) != len(k) {
				t.Fatalf("a key of %d bytes", len(k))
			}
		}
	})
}
