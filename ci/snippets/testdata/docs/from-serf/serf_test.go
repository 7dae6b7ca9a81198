package fromserf

import (
	"strings"
	"testing"

	"github.com/starling-go/starling/starlingtest"
)

func TestQueries(t *testing.T) {
	queries := map[string]*Queries{}
	open := func(m *starlingtest.Member) (err error) {
		queries[m.Name], err = NewQueries(m.Cluster, strings.ToUpper)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		l.Must(queries["m0"].Ask(t.Context(), Question{Number: 7, Text: "who"}))
		from := map[string]bool{}
		for range 2 {
			m := <-queries["m0"].Answers
			if m.Value != (Answer{7, "WHO"}) {
				t.Errorf("%s answers %v", m.From.Name, m.Value)
			}
			from[m.From.Name] = true
		}
		if len(from) != 2 {
			t.Error("one has answered twice")
		}
	})
}
