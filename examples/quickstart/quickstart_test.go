package main

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/starling-go/starling"
)

func TestLedgerFindsFaults(t *testing.T) {
	content := []byte("as it was sent")
	for name, tc := range map[string]struct {
		got  func(l *ledger)
		want string
	}{
		"verified":      {func(l *ledger) { l.receive("b", "a", 0, content, starling.ViaGossip) }, ""},
		"missing":       {func(*ledger) {}, "missing"},
		"unknown note":  {func(l *ledger) { l.receive("b", "a", 1, content, starling.ViaGossip) }, "missing"},
		"one byte less": {func(l *ledger) { l.receive("b", "a", 0, content[1:], starling.ViaGossip) }, "differs"},
		"wrong sender":  {func(l *ledger) { l.receive("b", "c", 0, content, starling.ViaGossip) }, "wrong sender"},
		"twice": {func(l *ledger) {
			l.receive("b", "a", 0, content, starling.ViaGossip)
			l.receive("b", "a", 0, content, starling.ViaGossip)
		}, "repeated"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger([]note{newNote("n", content)})
			l.expect("b")
			l.send(0, "a")
			tc.got(l)
			rows := l.rows()
			if len(rows) != 1 || rows[0].fault() != tc.want {
				t.Fatalf("got %d rows, the first with fault %q, want one with %q", len(rows), rows[0].fault(), tc.want)
			}
			code := exitVerified
			if tc.want != "" {
				code = exitFaulty
			}
			if got := judge(io.Discard, rows); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			var table strings.Builder
			printTable(&table, rows)
			if !strings.Contains(table.String(), cmp.Or(tc.want, "ok")) {
				t.Errorf("table does not say %q:\n%s", cmp.Or(tc.want, "ok"), &table)
			}
		})
	}
}

func TestAwaitEndsWithTheLastDelivery(t *testing.T) {
	l := newLedger([]note{newNote("n", nil)})
	l.expect("a")
	l.expect("b")
	l.receive("a", "a", 0, nil, starling.ViaEcho)
	select {
	case <-l.complete:
		t.Fatal("complete with one delivery of two")
	default:
	}
	l.receive("b", "a", 0, nil, starling.ViaGossip)
	<-l.complete
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, n int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte{'x'}, n), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	small, large := file("small", streamAbove), file("large", streamAbove+1)
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"all verified":   {[]string{"-members", "2", "-messages", "1", "-file", large}, exitVerified, "All 4 deliveries arrived"},
		"no file":        {[]string{"-file", filepath.Join(dir, "none")}, exitUsage, "-file names the file"},
		"file too small": {[]string{"-file", small}, exitUsage, "needs more than 700"},
		"lonely":         {[]string{"-members", "1"}, exitUsage, "must be 2 to 50"},
		"unknown flag":   {[]string{"-nope"}, exitUsage, "not defined"},
		"argument":       {[]string{"README.md"}, exitUsage, "takes flags only"},
		"help":           {[]string{"-help"}, 0, "-members"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if code := run(context.Background(), tc.args, &out, &out); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(out.String(), tc.says) {
				t.Errorf("says\n%s\nand not %q", out.String(), tc.says)
			}
		})
	}
}

func TestBroadcastReportsErrors(t *testing.T) {
	f, err := start(2, newLogger(io.Discard, false), newLedger(nil))
	defer f.leave()
	if err != nil {
		t.Fatal(err)
	}
	f[0].notes.Close()
	if err := f.broadcast(t.Context(), []note{newNote("n", nil)}, newLedger([]note{newNote("n", nil)})); err == nil {
		t.Error("a broadcast on a closed channel is no error")
	}
}
