package interop

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The keys under which an Alertmanager gossips its states.
const (
	silencesKey = "sil"
	logKey      = "nfl"
)

// memory is what Alertmanagers keep equal: real silences and a real notification log. Both sides of a test have one.
type memory struct {
	silences *silence.Silences
	log      *nflog.Log
}

func newMemory(tb testing.TB, reg prometheus.Registerer) *memory {
	tb.Helper()
	s, err := silence.New(silence.Options{Retention: time.Hour, Metrics: reg})
	must(tb, err)
	l, err := nflog.New(nflog.Options{Retention: time.Hour, Metrics: reg})
	must(tb, err)
	return &memory{s, l}
}

// noise returns n characters that memberlist cannot compress to fewer bytes than a packet has, if n is large.
func noise(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}

// mute sets a new silence with a comment of so many bytes and returns its id.
func (m *memory) mute(tb testing.TB, size int) string {
	tb.Helper()
	s := &silencepb.Silence{
		MatcherSets: []*silencepb.MatcherSet{{Matchers: []*silencepb.Matcher{
			{Type: silencepb.Matcher_EQUAL, Name: "service", Pattern: "checkout"},
		}}},
		EndsAt:    timestamppb.New(time.Now().Add(time.Hour)),
		CreatedBy: "interop",
		Comment:   noise(size),
	}
	must(tb, m.silences.Set(tb.Context(), s))
	return s.Id
}

// silence returns the silence of that id, or nil.
func (m *memory) silence(tb testing.TB, id string) *silencepb.Silence {
	tb.Helper()
	s, err := m.silences.QueryOne(tb.Context(), silence.QIDs(id))
	if err != nil && !errors.Is(err, silence.ErrNotFound) {
		tb.Error(err)
	}
	return s
}

// sameSilence waits until to has the silence exactly as from has it.
func sameSilence(tb testing.TB, from, to *memory, id string) {
	tb.Helper()
	want := from.silence(tb, id)
	if want == nil {
		tb.Fatalf("no silence %s to compare with", id)
	}
	eventually(tb, "both have silence "+id, func() bool { return proto.Equal(to.silence(tb, id), want) })
}

var receiver = &nflogpb.Receiver{GroupName: "team", Integration: "email"}

// note logs a notification about so many alerts.
func (m *memory) note(tb testing.TB, group string, alerts int) {
	tb.Helper()
	must(tb, m.log.Log(receiver, group, slices.Repeat([]uint64{1<<63 + 5}, alerts), nil, nil, 0))
}

// noted returns the entry of the group, or nil.
func (m *memory) noted(tb testing.TB, group string) *nflogpb.Entry {
	tb.Helper()
	es, err := m.log.Query(nflog.QReceiver(receiver), nflog.QGroupKey(group))
	if err != nil {
		if !errors.Is(err, nflog.ErrNotFound) {
			tb.Error(err)
		}
		return nil
	}
	return es[0]
}

// sameNote waits until to has the group's entry exactly as from has it.
func sameNote(tb testing.TB, from, to *memory, group string) {
	tb.Helper()
	want := from.noted(tb, group)
	if want == nil {
		tb.Fatalf("no entry %q to compare with", group)
	}
	eventually(tb, "both have entry "+group, func() bool { return proto.Equal(to.noted(tb, group), want) })
}
