// Package credentials prepares a user's tls.Config for the connections between members: TLS 1.3, mutual, with names checked on both
// sides. It says what a configuration lacks, what a peer has shown, and why one was refused. It starts no goroutine.
package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// protocol is what members negotiate (ALPN). A certificate that serves HTTPS too opens no connection of the one kind to the other.
const protocol = "starling"

// Credentials are a configuration that has no faults. All methods may be called concurrently.
type Credentials struct{ base *tls.Config }

// New returns the credentials of a configuration, which is copied. Faults(c) must be empty.
func New(c *tls.Config) *Credentials { return &Credentials{c.Clone()} }

// Peer is what the certificate of the other side has shown. It is complete when the handshake has ended without an error.
type Peer struct {
	// Names are the DNS names, IP addresses and URIs in the certificate; nil if nobody has verified it.
	Names []string
	// Left is for how long the certificates are valid; 0: no bound is known.
	Left time.Duration
}

// Accept returns the server's side of a connection from addr. What GetConfigForClient returns takes the place of the configuration.
func (c *Credentials) Accept(conn net.Conn, addr string) (*tls.Conn, *Peer) {
	p := new(Peer)
	name := hostOf(addr)
	server := c.harden(c.base, name, true, p)
	if c.base.GetConfigForClient != nil {
		server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := c.choose(hello)
			if err != nil {
				return nil, err
			}
			return c.harden(chosen, name, true, p), nil
		}
	}
	return tls.Server(conn, server), p
}

// Dial returns the client's side of a connection to a member at addr. GetConfigForClient is asked here too: what a member trusts
// and shows does not depend on who of two dials.
func (c *Credentials) Dial(conn net.Conn, addr string) (*tls.Conn, *Peer, error) {
	p := new(Peer)
	name := hostOf(addr)
	conf := c.base
	if c.base.GetConfigForClient != nil {
		var err error
		conf, err = c.choose(&tls.ClientHelloInfo{
			Conn: conn, ServerName: c.base.ServerName, SupportedVersions: []uint16{tls.VersionTLS13}, SupportedProtos: []string{protocol},
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return tls.Client(conn, c.harden(conf, name, false, p)), p, nil
}

// choose returns the configuration for one connection, by the user's callback.
func (c *Credentials) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	chosen, err := c.base.GetConfigForClient(hello)
	if err != nil {
		return nil, fmt.Errorf("GetConfigForClient: %w", err)
	}
	if chosen == nil {
		chosen = c.base
	}
	if faults := faultsOf(chosen); len(faults) > 0 {
		return nil, fmt.Errorf("what GetConfigForClient returns: %s: %w", faults[0].Field, faults[0].Err)
	}
	return chosen, nil
}

// harden returns a copy of a configuration for one connection. address is that of the other side; p gets what it has shown.
func (c *Credentials) harden(conf *tls.Config, address string, server bool, p *Peer) *tls.Config {
	h := conf.Clone()
	h.GetConfigForClient = nil
	h.MinVersion, h.MaxVersion = tls.VersionTLS13, 0
	h.NextProtos = []string{protocol}
	// A session that is resumed would outlive the certificates that it began with.
	h.SessionTicketsDisabled, h.ClientSessionCache = true, nil
	h.DynamicRecordSizingDisabled = true // it is for browsers, and costs CPU
	if h.Time == nil {
		h.Time = c.base.Time
	}
	if h.ServerName == "" {
		h.ServerName = c.base.ServerName
	}
	if h.ServerName == "" {
		h.ServerName = address
	}
	if h.RootCAs == nil {
		h.RootCAs = h.ClientCAs
	}
	if h.ClientCAs == nil {
		h.ClientCAs = h.RootCAs
	}
	if h.ClientAuth == tls.NoClientCert {
		h.ClientAuth = tls.RequireAndVerifyClientCert
		if h.InsecureSkipVerify && h.ClientCAs == nil {
			h.ClientAuth = tls.RequireAnyClientCert // the user's own callback verifies it
		}
	}
	verify, byUser := h.VerifyConnection, verifies(h)
	h.VerifyConnection = func(s tls.ConnectionState) error {
		if server && !h.InsecureSkipVerify && len(s.PeerCertificates) > 0 {
			// crypto/tls verifies the name of a server alone.
			if err := s.PeerCertificates[0].VerifyHostname(h.ServerName); err != nil {
				return err
			}
		}
		if verify != nil {
			if err := verify(s); err != nil {
				return err
			}
		}
		*p = shown(s, byUser, now(h))
		return nil
	}
	return h
}

// shown is what a peer has shown at a time. byUser says that a callback of the user's has verified it.
func shown(s tls.ConnectionState, byUser bool, now time.Time) (p Peer) {
	if len(s.PeerCertificates) == 0 || len(s.VerifiedChains) == 0 && !byUser {
		return p
	}
	leaf := s.PeerCertificates[0]
	p.Names = slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		p.Names = append(p.Names, ip.String())
	}
	for _, u := range leaf.URIs {
		p.Names = append(p.Names, u.String())
	}
	ends := leaf.NotAfter
	for i, chain := range s.VerifiedChains {
		if end := endOf(chain); i == 0 || end.After(ends) {
			ends = end
		}
	}
	p.Left = max(0, ends.Sub(now))
	return p
}

// endOf is when the first certificate of a chain expires.
func endOf(chain []*x509.Certificate) time.Time {
	first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return first.NotAfter
}

func verifies(c *tls.Config) bool { return c.VerifyConnection != nil || c.VerifyPeerCertificate != nil }

func now(c *tls.Config) time.Time {
	if c.Time != nil {
		return c.Time()
	}
	return time.Now()
}

// hostOf is the address without its port and zone: what a certificate is valid for.
func hostOf(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap.Addr().Unmap().WithZone("").String()
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
