package featureflags

import (
	"log/slog"
	"testing"

	"github.com/starling-go/starling/starlingtest"
)

func TestFlags(t *testing.T) {
	flags := map[string]*Flags{}
	open := func(m *starlingtest.Member) (err error) {
		flags[m.Name], err = NewFlags(m.Cluster)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		go flags["m2"].Log(t.Context(), slog.New(slog.DiscardHandler)) // it ends with the cluster
		l.Must(flags["m0"].Turn(t.Context(), "dark", true))
		l.Start("m3")
		l.Must(l.Member("m3").Cluster.Ready(t.Context()))
		for name, f := range flags {
			if !f.On("dark") || f.On("other") {
				t.Errorf("%s has not the same flags", name)
			}
		}
	})
}
