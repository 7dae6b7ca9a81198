package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPush: every member that is owed a file is given it as it is: not the one that is killed, and the one that joins from the next file on.
func TestPush(t *testing.T) {
	var paths, sums []string
	for i, size := range []int{12 << 20, 200_000, 10} {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		path := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		paths, sums = append(paths, path), append(sums, fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	var out bytes.Buffer
	if err := run(t.Context(), 4, paths, &out); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{3, 4, 4} {
		if n := strings.Count(out.String(), sums[i]); n != want {
			t.Errorf("file %d is with %d members, want %d", i, n, want)
		}
	}
	if strings.Count(out.String(), "killed") != 3 || strings.Count(out.String(), "joined midway") != 1 {
		t.Errorf("printed:\n%s", &out)
	}
}

// TestCompare: a member that was given something else is named.
func TestCompare(t *testing.T) {
	c := &cluster{out: new(bytes.Buffer), members: []*member{
		{name: "a"}, {name: "b", sums: make(chan [sha256.Size]byte, 1)}, {name: "c", dead: true}, {name: "d"},
	}}
	c.members[1].sums <- sha256.Sum256([]byte("else"))
	if err := c.compare(t.Context(), sha256.Sum256([]byte("this")), 3); err == nil || err.Error() != "b was given something else" {
		t.Errorf("%v", err)
	}
}
