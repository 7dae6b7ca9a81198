package starling_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/certtest"
)

// TestTLSStrangers: whoever does not show a certificate of the cluster's CA for the cluster's name is no member, from either
// side, and none of its bytes is handled. It is told why, is counted, and is one line in the log.
func TestTLSStrangers(t *testing.T) {
	ca, other := certtest.New("ca"), certtest.New("other")
	for _, tt := range []struct {
		name  string
		conf  func() *tls.Config
		told  string // what the stranger's Join says
		tells string // what the member's log says of it
	}{
		{
			name: "no certificate", told: "which has shown no certificate", tells: "it has shown no certificate",
			conf: func() *tls.Config {
				return &tls.Config{
					ServerName: certtest.ClusterName, RootCAs: certtest.Pool(ca),
					GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") },
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil },
				}
			},
		},
		{
			name: "expired", told: "refuses this member's certificate, which has expired", tells: "its certificate has expired",
			conf: func() *tls.Config {
				c := ca.Config()
				c.Certificates = []tls.Certificate{ca.Issue(-time.Minute, certtest.ClusterName)}
				return c
			},
		},
		{
			name: "another CA", told: "of a CA that it does not know", tells: "of a CA that this member does not know",
			conf: func() *tls.Config {
				c := other.Config()
				c.RootCAs = certtest.Pool(ca)
				cert := c.Certificates[0] // shown although the member does not ask for such
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				return c
			},
		},
		{
			name: "wrong name", told: "not valid for the name or address that it expects", tells: "not valid for the name or address that this member expects",
			conf: func() *tls.Config {
				c := ca.Config()
				c.Certificates = []tls.Certificate{ca.Issue(time.Hour, "another.test")}
				return c
			},
		},
		{name: "no TLS", told: "TLS on one side only", tells: "it does not speak TLS", conf: func() *tls.Config { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				ca, other = certtest.New("ca"), certtest.New("other") // anew: in each bubble it is the year 2000
				lines := &logCounter{from: slog.LevelWarn}
				l.configure = func(c *starling.Config) { c.TLS, c.Logger = ca.Config(), slog.New(lines) }
				nodes := slices.Clone(l.members(2))
				lines.taken()
				l.configure = func(c *starling.Config) { c.TLS = tt.conf() }
				stranger := l.member("stranger")
				l.gone(stranger)
				before := nodes[0].Stats().Traffic
				err := stranger.Join(endsIn(t, 20*time.Second), addr(nodes[0].Cluster))
				if err == nil || !strings.Contains(err.Error(), tt.told) {
					t.Errorf("the stranger's Join: %v", err)
				}
				if err := nodes[0].Join(endsIn(t, 20*time.Second), addr(stranger.Cluster)); err == nil {
					t.Error("a member has joined the stranger") // and tries again and again from now on
				}
				outside := newOutsider(t, l.Lab, "outside")
				_, b := l.payload(stranger, 100)
				for range 10 {
					stranger.ch.TryBroadcast(b)
					outside.raw(nodes[0].Self().Addr, append([]byte{rawUser}, b...))
					time.Sleep(time.Second)
				}
				for _, n := range nodes {
					if len(n.Members()) != 2 || len(n.deliveries()) > 0 || slices.Contains(names(n.Cluster), "stranger") {
						t.Errorf("%s sees %v, and has handled %d messages", n.name, names(n.Cluster), len(n.deliveries()))
					}
				}
				after := nodes[0].Stats().Traffic
				if after.TLSRefused < before.TLSRefused+5 || after.PacketsRefused < 10 {
					t.Errorf("%d connections and %d packets are counted as refused", after.TLSRefused-before.TLSRefused, after.PacketsRefused)
				}
				n, said := lines.taken()
				if !strings.Contains(strings.Join(said, "\n"), tt.tells) || n > 8 {
					t.Errorf("%d lines are logged: %s", n, fewLines(said))
				}
			})
		})
	}
}

// TestTLSFlood: whoever opens thousands of connections, and says nothing or rubbish, keeps nobody else out, and holds few of them.
func TestTLSFlood(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		ca := certtest.New("ca")
		l.configure = func(c *starling.Config) { c.TLS = ca.Config() }
		nodes := l.members(3)
		outside := newOutsider(t, l.Lab, "outside")
		var conns []net.Conn
		for i := range 3000 {
			c, err := outside.tr.DialTimeout(addr(nodes[0].Cluster), time.Second)
			if err != nil {
				continue
			}
			conns = append(conns, c)
			if i%3 == 0 {
				_, _ = c.Write([]byte("\x16\x03\x01\x02\x00\x01")) // a handshake that begins and goes on no more
			}
		}
		began := time.Now()
		ids := l.sendMany(nodes[0], 50, 200)
		ids2 := l.sendMany(nodes[1], 50, 200)
		l.delivered(time.Second, ids, nodes[0], nodes...)
		l.delivered(time.Second, ids2, nodes[1], nodes...)
		late := l.member("late")
		l.join(late, nodes[0])
		if took := time.Since(began); took > time.Second {
			t.Errorf("beside the flood, messages and a join took %v", took)
		}
		time.Sleep(10 * time.Second)
		open := 0
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(time.Microsecond))
			if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
				open++
			}
			_ = c.Close()
		}
		t.Logf("%d connections were taken, %d are open after 10 s; %+v", len(conns), open, nodes[0].Stats().Traffic)
		if len(conns) < 1000 || open > 0 {
			t.Errorf("%d connections were taken, %d are open after 10 s", len(conns), open)
		}
		if refused := nodes[0].Stats().Traffic.TLSRefused; refused < uint64(len(conns)) {
			t.Errorf("%d of %d are counted", refused, len(conns))
		}
		l.whole(l.nodes...)
	})
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// TestTLSSockets: over sockets, with certificates for IP addresses; no UDP port is taken.
func TestTLSSockets(t *testing.T) {
	t.Parallel()
	ca := certtest.New("ca")
	conf := func(names ...string) *tls.Config {
		return &tls.Config{RootCAs: certtest.Pool(ca), Certificates: []tls.Certificate{ca.Issue(time.Hour, names...)}}
	}
	members := startMembers(t, 3, func(_ int, c *starling.Config) { c.TLS = conf("127.0.0.1") })
	chs, rs := channels(t, members, "ch", nil)
	join(t, members...)
	large := strings.Repeat("large", 100_000)
	must(t, chs[0].Broadcast(soon(t), say("small")))
	must(t, chs[1].Broadcast(soon(t), say(large)))
	hears(t, "m02", rs[2], "small", large)
	hears(t, "m00", rs[0], large)
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(members[0].Self().Addr))
	if err != nil {
		t.Errorf("the UDP port is taken: %v", err)
	} else {
		udp.Close()
	}
	cfg := config(t, "elsewhere")
	cfg.TLS = conf("127.0.0.2", "localhost")
	elsewhere := start(t, cfg)
	err = joinFails(t, elsewhere, addr(members[0]), "not valid for the name or address that it expects")
	if err == nil || !strings.Contains(err.Error(), "not valid for the name or address that it expects") {
		t.Errorf("Join with a certificate for another address: %v", err)
	}
	if err = members[0].Join(brief(t), addr(elsewhere)); err == nil || len(members[0].Members()) != 3 {
		t.Errorf("members %v, %v", names(members[0]), err)
	}
	must(t, members[1].Leave(soon(t)))
	allSee(t, members[0], members[2])
}

// TestTLSConfig: what cannot work is an error of New.
func TestTLSConfig(t *testing.T) {
	t.Parallel()
	ca := certtest.New("ca")
	for field, change := range map[string]func(*tls.Config){
		"TLS.MaxVersion":           func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"TLS.Certificates":         func(c *tls.Config) { c.Certificates = nil },
		"TLS.GetClientCertificate": func(c *tls.Config) { c.GetCertificate, c.Certificates = getCertificate, nil },
		"TLS.GetCertificate":       func(c *tls.Config) { c.GetClientCertificate, c.Certificates = getClientCertificate, nil },
		"TLS.RootCAs":              func(c *tls.Config) { c.RootCAs = nil },
		"TLS.InsecureSkipVerify":   func(c *tls.Config) { c.InsecureSkipVerify = true },
	} {
		cfg := config(t, "m")
		cfg.TLS = ca.Config()
		change(cfg.TLS)
		if c, err := starling.New(cfg); !faultOf(err, field) {
			t.Errorf("%s: %v", field, err)
			if err == nil {
				c.Close()
			}
		}
	}
}

func getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)              { return nil, nil }
func getClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }
