package starling

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
)

// newMemberlistLogger returns what memberlist wants to log to, at the level that each line names for itself.
func newMemberlistLogger(l *slog.Logger) *log.Logger {
	return log.New(levelWriter{l}, "", 0)
}

// levelWriter turns lines like "[WARN] memberlist: text" into records of their own level.
type levelWriter struct{ log *slog.Logger }

var levelNames = map[string]slog.Level{
	"DEBUG": slog.LevelDebug,
	"INFO":  slog.LevelInfo,
	"WARN":  slog.LevelWarn,
	"ERR":   slog.LevelError,
	"ERROR": slog.LevelError,
}

func (w levelWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, string(bytes.TrimSpace(line))
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if name, rest, ok := strings.Cut(rest, "]"); ok {
			if l, ok := levelNames[name]; ok {
				level, text = l, strings.TrimSpace(rest)
			}
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	w.log.Log(context.Background(), level, text, slog.String("component", "memberlist"))
	return len(line), nil
}
