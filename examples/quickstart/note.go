package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// note is one message to be broadcast.
type note struct {
	title   string
	content []byte
	sum     [sha256.Size]byte
}

func newNote(title string, content []byte) note {
	return note{title: title, content: content, sum: sha256.Sum256(content)}
}

// compose returns the small messages and the file, in the order in which they are broadcast.
func compose(o options) ([]note, error) {
	content, err := os.ReadFile(o.file)
	if err != nil {
		return nil, fmt.Errorf("%w (-file names the file to broadcast; the default is README.md in the current directory)", err)
	}
	if len(content) <= streamAbove {
		return nil, fmt.Errorf("%s has %d bytes; -file needs more than %d, so that it travels by stream",
			o.file, len(content), streamAbove)
	}
	var notes []note
	for i := range o.messages {
		title := fmt.Sprintf("note %d", i+1)
		notes = append(notes, newNote(title, fmt.Appendf(nil, "This is %s, small enough for a packet.", title)))
	}
	return append(notes, newNote(filepath.Base(o.file), content)), nil
}
