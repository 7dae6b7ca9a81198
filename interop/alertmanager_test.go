package interop

import (
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/alertmanager/cluster"
	"github.com/prometheus/client_golang/prometheus"
)

// alertmanager is the part of a real Alertmanager that talks to its cluster, put together as its own program does it.
type alertmanager struct {
	*memory
	peer     *cluster.Peer
	reg      *prometheus.Registry
	journal  *journal
	sil, nfl cluster.ClusterChannel
	left     bool
}

// options is what tests vary.
type options struct {
	label    string
	pushPull time.Duration // 0: states pass at the join alone
	mute     bool          // changes are not broadcast: only whole states pass
}

// startAlertmanager makes a peer that knows these, and lets it join as soon as it has its states. Probes would find nobody
// dead here, and be late on a busy machine.
func startAlertmanager(tb testing.TB, o options, known ...string) *alertmanager {
	tb.Helper()
	a := &alertmanager{reg: prometheus.NewRegistry(), journal: new(journal)}
	a.memory = newMemory(tb, a.reg)
	var err error
	a.peer, err = cluster.Create(slog.New(a.journal), a.reg, "127.0.0.1:0", "", known, false, o.pushPull,
		20*time.Millisecond, cluster.DefaultTCPTimeout, cluster.DefaultResolvePeersTimeout,
		time.Second, time.Hour, nil, false, o.label, "alertmanager")
	must(tb, err)
	tb.Cleanup(func() { a.stop(tb) })
	a.sil = a.peer.AddState(silencesKey, a.silences, a.reg)
	a.nfl = a.peer.AddState(logKey, a.log, a.reg)
	if !o.mute {
		a.silences.SetBroadcast(a.sil.Broadcast)
		a.log.SetBroadcast(a.nfl.Broadcast)
	}
	return a
}

// join dials whom it knows.
func (a *alertmanager) join(tb testing.TB) {
	tb.Helper()
	must(tb, a.peer.Join(0, 0))
}

// stop closes the sockets too. A Peer keeps its memberlist to itself and never shuts it down, since its program ends there.
func (a *alertmanager) stop(tb testing.TB) {
	if err := a.leave(); err != nil {
		tb.Logf("Leave: %v", err)
	}
	field := reflect.ValueOf(a.peer).Elem().FieldByName("mlist")
	if err := (*(**memberlist.Memberlist)(unsafe.Pointer(field.UnsafeAddr()))).Shutdown(); err != nil {
		tb.Errorf("Shutdown: %v", err)
	}
}

// leave says goodbye, once: a Peer's Leave panics when it is called again.
func (a *alertmanager) leave() error {
	if a.left {
		return nil
	}
	a.left = true
	return a.peer.Leave(10 * time.Second)
}

func (a *alertmanager) addr() string { return a.peer.Self().Address() }

// sees returns the names of its members.
func (a *alertmanager) sees() []string {
	var names []string
	for _, m := range a.peer.Peers() {
		names = append(names, m.Name())
	}
	slices.Sort(names)
	return names
}

// count returns one of Alertmanager's own counters, that with this label if there are many.
func (a *alertmanager) count(tb testing.TB, name, label string) int {
	tb.Helper()
	families, err := a.reg.Gather()
	must(tb, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					return int(m.GetCounter().GetValue())
				}
			}
		}
	}
	tb.Fatalf("Alertmanager has no counter %s of %q", name, label)
	return 0
}

// streamed is how many large messages of a key it has sent by stream, to all members together.
func (a *alertmanager) streamed(tb testing.TB, key string) int {
	tb.Helper()
	return a.count(tb, "alertmanager_oversized_gossip_message_sent_total", key)
}
