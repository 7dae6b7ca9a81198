package main

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMisnamed(t *testing.T) {
	module := fstest.MapFS{
		"join.go":               {Data: []byte("package p\ntype lobby[T any] struct{}\nfunc (*lobby[T]) join()\nfunc open()\n")},
		"internal/wire/wire.go": {Data: []byte("package wire\nconst limit = 1\nfunc (fields) next()\n")},
	}
	for _, tt := range []struct{ line, want string }{
		{"`join.go`, `internal/wire` and `internal/wire/wire.go` are there; `absent` is no file", ""},
		{"see `left.go`", "ARCHITECTURE.md:1: there is no left.go"},
		{"see `internal/wired`", "ARCHITECTURE.md:1: there is no internal/wired"},
		{"see `wire.go`", "ARCHITECTURE.md:1: there is no wire.go"},
		{"| `internal/wire` | `wire.go` (`limit`, `fields.next`), `join.go` (`open`) |", ""},
		{"| `internal/wire` | `wire.go` | `open` |", "ARCHITECTURE.md:1: internal/wire/wire.go does not declare open"},
		{"| `before` | `join.go` | `lobby`, `lobby.join`, `open`, `a b`, `1` |", ""},
		{"| `join.go` | `join` |", "ARCHITECTURE.md:1: join.go does not declare join"},
		{"| `join.go` | `lobby.open` |", "ARCHITECTURE.md:1: join.go does not declare lobby.open"},
		{"`join.go` and `shut`, in no table", ""},
	} {
		got, err := misnamed(tt.line, module)
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.DeleteFunc([]string{tt.want}, func(s string) bool { return s == "" }); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s", tt.line, strings.Join(got, "\n"))
		}
	}
}
