package starling_test

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/certtest"
	"github.com/starling-go/starling/starlingtest"
)

// TestTLSCluster: a cluster over TLS does what any does, with small and large messages, while members join, leave and crash; and no
// packet is sent beside the connections.
func TestTLSCluster(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		ca := certtest.New("ca")
		l.configure = func(c *starling.Config) { c.TLS = ca.Config() }
		nodes := slices.Clone(l.members(5))
		var ids []uint64
		for i := range 100 {
			ids = append(ids, l.send(nodes[0], mixed(i)))
		}
		ids = append(ids, l.send(nodes[0], 1<<20))
		l.delivered(time.Second, ids, nodes[0], nodes...)
		late := l.member("late")
		l.join(late, nodes[2])
		ids = l.sendMany(late, 20, 200)
		l.delivered(time.Second, ids, late, l.nodes...)
		l.gone(nodes[1])
		l.Leave("m1")
		l.crash(nodes[4])
		ids = l.sendMany(late, 20, 200)
		l.delivered(time.Second, ids, late, l.nodes...)
		l.whole(l.nodes...)
		l.once(l.nodes...)
		for _, n := range l.nodes {
			if p := l.Counters(n.name).Sent.Packets; p > 0 {
				t.Errorf("%s has sent %d packets beside TLS", n.name, p)
			}
			if tr := n.Stats().Traffic; tr.TLSRefused > 0 || tr.TLSLinks == 0 {
				t.Errorf("%s: %d connections for packets, %d refused", n.name, tr.TLSLinks, tr.TLSRefused)
			}
		}
	})
}

// TestTLSRotation: certificates and the CA are changed under 1,000 messages a second, while a member joins and another leaves.
// Nothing is lost, no connection is refused, and each is made anew once, not all at one time.
func TestTLSRotation(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		old, next := certtest.New("old"), certtest.New("next")
		trust := certtest.Pool(old)
		issuer := old
		configs := map[string]*reloaded{}
		renew := func(r *reloaded) {
			r.set(&tls.Config{
				ServerName: certtest.ClusterName, RootCAs: trust,
				Certificates: []tls.Certificate{issuer.Issue(24*time.Hour, certtest.ClusterName)},
			})
		}
		start := func(name string) *node {
			configs[name] = new(reloaded)
			renew(configs[name])
			l.configure = func(c *starling.Config) { c.TLS = configs[name].config() }
			return l.member(name)
		}
		for i := range 5 {
			n := start(fmt.Sprint("m", i))
			l.join(n, l.nodes[0])
		}
		l.whole(l.nodes...)
		time.Sleep(3 * time.Second)

		var ids []uint64
		busy := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
				ids = append(ids, l.send(l.nodes[0], 200))
			}
		}
		// Each member is changed at another moment, as a roll-out does.
		rotate := func() {
			for _, r := range configs {
				renew(r)
				busy(50 * time.Millisecond)
			}
		}
		busy(200 * time.Millisecond)
		trust = certtest.Pool(old, next)
		rotate()
		issuer = next
		rotate()
		late := start("late")
		l.join(late, l.nodes[1])
		first := len(ids) // late is owed what comes from here on
		left := l.nodes[4]
		l.gone(left)
		l.Leave(left.name)
		delete(configs, left.name)
		trust = certtest.Pool(next)
		rotate()
		l.delivered(2*time.Second, ids[first:], l.nodes[0], late)
		early := slices.DeleteFunc(slices.Clone(l.nodes), func(n *node) bool { return n == late })
		l.delivered(2*time.Second, ids, l.nodes[0], early...)
		l.once(l.nodes...)
		storm(t, "while certificates change", l.nodes, 2*len(l.nodes))

		// Nobody knows the old CA any more, and the links live for ten minutes at most.
		before := links(l.nodes)
		most := 0
		for range 11 * 60 {
			was := links(l.nodes)
			time.Sleep(time.Second)
			most = max(most, links(l.nodes)-was)
		}
		made := links(l.nodes) - before
		t.Logf("%d links of %d members were made anew, at most %d in a second", made, len(l.nodes), most)
		pairs := len(l.nodes) * (len(l.nodes) - 1)
		if made < pairs || made > 2*pairs || most > pairs/2 {
			t.Errorf("%d links, at most %d in a second, for %d pairs of members", made, most, pairs)
		}
		ids = nil
		busy(100 * time.Millisecond)
		l.delivered(time.Second, ids, l.nodes[0], l.nodes...)
		storm(t, "in the end", l.nodes, 4*len(l.nodes))
	})
}

// links counts the connections for packets that members have opened.
func links(nodes []*node) (n int) {
	for _, node := range nodes {
		n += int(node.Stats().Traffic.TLSLinks)
	}
	return n
}

// storm fails the test if a member has opened more connections than it needs, or was refused.
func storm(t *testing.T, when string, nodes []*node, most int) {
	t.Helper()
	for _, n := range nodes {
		if tr := n.Stats().Traffic; tr.TLSRefused > 0 || int(tr.TLSLinks) > most {
			t.Errorf("%s: %s has opened %d links, and %d connections were refused", when, n.name, tr.TLSLinks, tr.TLSRefused)
		}
	}
}

// TestTLSExpiry: a member whose certificate expires is out, at once and with a reason, and nobody else; with a new certificate it
// is back.
func TestTLSExpiry(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		ca := certtest.New("ca")
		lines := &logCounter{from: slog.LevelWarn}
		l.configure = func(c *starling.Config) { c.TLS, c.Logger = ca.Config(), slog.New(lines) }
		l.members(3)
		forgetful := new(reloaded)
		conf := ca.Config()
		conf.Certificates = []tls.Certificate{ca.Issue(5*time.Minute, certtest.ClusterName)}
		forgetful.set(conf)
		l.configure = func(c *starling.Config) { c.TLS = forgetful.config() }
		began := time.Now()
		m3 := l.member("m3")
		l.join(m3, l.nodes[0])
		l.whole(l.nodes...)
		time.Sleep(5*time.Minute - time.Since(began) - time.Second)
		l.whole(l.nodes...)
		lines.taken()
		before := l.nodes[0].Stats().Traffic.TLSRefused

		took := l.whole(l.nodes[:3]...)
		if took > 20*time.Second {
			t.Errorf("the expired member is out after %v", took)
		}
		ids := l.sendMany(l.nodes[0], 10, 200)
		ids = append(ids, l.sendMany(m3, 10, 200)...)
		time.Sleep(10 * time.Second)
		if lacks := m3.lacks(ids[:10]); lacks != 10 {
			t.Errorf("the expired member was given %d messages", 10-lacks)
		}
		if lacks := l.nodes[1].lacks(ids[10:]); lacks != 10 {
			t.Errorf("%d messages of the expired member were handled", 10-lacks)
		}
		if l.nodes[0].Stats().Traffic.TLSRefused == before {
			t.Error("nothing is counted")
		}
		if n, said := lines.taken(); n == 0 || !strings.Contains(strings.Join(said, "\n"), "its certificate has expired") {
			t.Errorf("logged: %d lines, %s", n, fewLines(said))
		}
		forgetful.set(ca.Config())
		if took := l.whole(l.nodes...); took > 15*time.Second {
			t.Errorf("with its new certificate it is back after %v", took)
		}
		ids = l.sendMany(m3, 10, 200)
		l.delivered(5*time.Second, ids, m3, l.nodes...)
	})
}

// TestTLSPartition: links that a partition has stalled are given up, so that a cluster heals over TLS as fast as without.
func TestTLSPartition(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		ca := certtest.New("ca")
		l.configure = func(c *starling.Config) { c.TLS = ca.Config() }
		nodes := l.members(5)
		for _, lasts := range []time.Duration{2 * time.Second, 30 * time.Second} {
			l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2", "m3", "m4"}))
			time.Sleep(lasts / 2)
			ids := l.sendMany(nodes[0], 20, 200)
			ids = append(ids, l.sendMany(nodes[3], 20, 200)...)
			time.Sleep(lasts / 2)
			l.Net.Heal()
			took := l.whole(nodes...)
			t.Logf("cut for %v: whole after %v", lasts, took)
			if took > 12*time.Second {
				t.Errorf("whole after %v", took)
			}
			l.delivered(5*time.Second, ids[:20], nodes[0], nodes...)
			l.delivered(5*time.Second, ids[20:], nodes[3], nodes...)
		}
		l.once(nodes...)
	})
}

// TestTLSFrozenMember: a member that reads nothing any more holds up nobody, and is back when it reads again.
func TestTLSFrozenMember(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		ca := certtest.New("ca")
		l.configure = func(c *starling.Config) { c.TLS = ca.Config() }
		nodes := l.members(4)
		l.Must(l.Net.Freeze("m3"))
		for range 5 {
			began := time.Now()
			ids := l.sendMany(nodes[0], 100, 1000)
			l.delivered(time.Second, ids, nodes[0], nodes[:3]...)
			if took := time.Since(began); took > time.Second {
				t.Errorf("100 messages took %v beside a frozen member", took)
			}
			time.Sleep(2 * time.Second)
		}
		l.Must(l.Net.Thaw("m3"))
		if took := l.whole(nodes...); took > 15*time.Second {
			t.Errorf("thawed, it is back after %v", took)
		}
		ids := l.sendMany(nodes[0], 20, 200)
		l.delivered(5*time.Second, ids, nodes[0], nodes...)
	})
}

// TestTLSAdmit: Admit is told the names in a member's certificate, so that nobody gets in by another's name.
func TestTLSAdmit(t *testing.T) {
	var ca *certtest.Authority // made in the bubble, where it is the year 2000
	o := starlingtest.Options{Config: func(name string) starling.Config {
		if ca == nil {
			ca = certtest.New("ca")
		}
		certified := name
		if name == "impostor" {
			certified = "m7"
		}
		return starling.Config{TLS: ca.Config(certified + ".m"), Admit: func(m starling.Member) error {
			if slices.Contains(m.VerifiedNames, m.Name+".m") || name == "impostor" {
				return nil
			}
			return fmt.Errorf("its certificate is for %q", m.VerifiedNames)
		}}
	}}
	starlingtest.Run(t, 6, o, func(t *testing.T, l *starlingtest.Lab) {
		c := l.StartAlone("impostor").Cluster
		ctx := endsIn(t, 10*time.Second)
		err := c.Join(ctx, l.Member("m0").Cluster.Self().Addr.String())
		if err == nil || !strings.Contains(err.Error(), `its certificate is for ["m7.m" "starling.test"]`) {
			t.Errorf("the impostor's Join: %v", err)
		}
		for _, m := range l.Members() {
			if m.Name != "impostor" && len(m.Cluster.Members()) != 6 {
				t.Errorf("%s sees %v", m.Name, names(m.Cluster))
			}
		}
	})
}
