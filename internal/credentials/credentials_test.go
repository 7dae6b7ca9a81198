package credentials

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/certtest"
)

const here = "192.0.2.1:7"

// connected returns both ends of a connection. A pipe would do, had it a buffer: both sides may write at the same time.
func connected(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// shake lets a client and a server shake hands over a connection, each as from here. The client waits for the server's word, as members do.
func shake(t *testing.T, client, server *tls.Config) (state tls.ConnectionState, shown *Peer, clientErr, serverErr error) {
	t.Helper()
	near, far := connected(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		var c *tls.Conn
		c, shown = New(server).Accept(far, here)
		if serverErr = c.Handshake(); serverErr == nil {
			_, serverErr = c.Write([]byte{1})
		}
		_, _ = io.Copy(io.Discard, far) // until the client has read what is said, and closes
	}()
	c, _, clientErr := New(client).Dial(near, here)
	if clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
		state = c.ConnectionState()
	}
	near.Close()
	<-done
	return state, shown, clientErr, serverErr
}

// TestNamesAndAddresses: who has a certificate of the CA is accepted for the name that all have, or else for its address.
func TestNamesAndAddresses(t *testing.T) {
	ca := certtest.New("ca")
	of := func(serverName string, names ...string) *tls.Config {
		return &tls.Config{ServerName: serverName, RootCAs: certtest.Pool(ca), Certificates: []tls.Certificate{ca.Issue(time.Hour, names...)}}
	}
	const wrongForUs, wrongForIt = "not valid for the name or address that this member expects", "not valid for the name or address that it expects"
	for name, test := range map[string]struct {
		client, server     *tls.Config
		toClient, toServer string // reasons
	}{
		"name":                  {of("a", "a"), of("a", "a"), "", ""},
		"client of other name":  {of("a", "b"), of("a", "a"), wrongForIt, wrongForUs},
		"server of other name":  {of("a", "a"), of("a", "b"), wrongForUs, wrongForIt},
		"address":               {of("", "192.0.2.1"), of("", "192.0.2.1", "a"), "", ""},
		"client elsewhere":      {of("", "192.0.2.2", "a"), of("", "192.0.2.1"), wrongForIt, wrongForUs},
		"server elsewhere":      {of("", "192.0.2.1"), of("", "192.0.2.2"), wrongForUs, wrongForIt},
		"name where address is": {of("", "192.0.2.1"), of("a", "192.0.2.1", "a"), wrongForIt, wrongForUs},
	} {
		state, shown, clientErr, serverErr := shake(t, test.client, test.server)
		for who, got := range map[string]struct {
			err  error
			want string
		}{"client": {clientErr, test.toClient}, "server": {serverErr, test.toServer}} {
			if (got.err == nil) != (got.want == "") || got.err != nil && !strings.Contains(Why(got.err), got.want) {
				t.Errorf("%s: the %s: %v", name, who, got.err)
			}
		}
		if clientErr == nil && (state.Version != tls.VersionTLS13 || len(shown.Names) == 0 || shown.Left < 59*time.Minute) {
			t.Errorf("%s: version %x, shown %+v", name, state.Version, shown)
		}
	}
}

// TestNoResumption: each connection verifies anew, whatever the configuration says of sessions.
func TestNoResumption(t *testing.T) {
	ca := certtest.New("ca")
	client, server := ca.Config(), ca.Config()
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	server.SetSessionTicketKeys([][32]byte{{1}})
	for range 3 {
		if state, _, err, _ := shake(t, client, server); err != nil || state.DidResume {
			t.Errorf("resumed: %v, %v", state.DidResume, err)
		}
	}
}

// TestCallbacks: the callbacks of a configuration decide, on both sides, and what they return is held to the same rules.
func TestCallbacks(t *testing.T) {
	ca, other := certtest.New("ca"), certtest.New("other")
	by := func(c *tls.Config, err error) *tls.Config {
		return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c, err }}
	}
	if _, _, err, _ := shake(t, by(ca.Config(), nil), by(ca.Config(), nil)); err != nil {
		t.Error(err)
	}
	unfit := ca.Config()
	unfit.RootCAs = nil
	for name, c := range map[string]*tls.Config{
		"unfit": by(unfit, nil), "an error": by(nil, errors.New("not now")), "nothing": by(nil, nil), "another CA": by(other.Config(), nil),
	} {
		if _, _, err, _ := shake(t, c, ca.Config()); err == nil {
			t.Errorf("%s: a client is accepted", name)
		}
		if _, _, err, _ := shake(t, ca.Config(), c); err == nil {
			t.Errorf("%s: a server is accepted", name)
		}
	}
	// Who verifies by itself needs no CA and no name, and its word counts on both sides.
	said := errors.New("I do not like it")
	own := func(verdict error) *tls.Config {
		return &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{other.Issue(time.Hour, "whatever")},
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 {
					return errors.New("no certificate")
				}
				return verdict
			},
		}
	}
	if _, shown, err, _ := shake(t, own(nil), own(nil)); err != nil || len(shown.Names) != 1 {
		t.Errorf("%v, shown %+v", err, shown)
	}
	if _, _, err, _ := shake(t, own(said), own(nil)); !errors.Is(err, said) {
		t.Error(err)
	}
	if _, _, _, err := shake(t, own(nil), own(said)); !errors.Is(err, said) {
		t.Error(err)
	}
}

// TestOtherProtocols: a certificate that is right for something else, or a client of another protocol or version, opens nothing.
func TestOtherProtocols(t *testing.T) {
	ca := certtest.New("ca")
	for name, change := range map[string]func(*tls.Config){
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"TLS 1.2":          func(c *tls.Config) { c.NextProtos, c.MaxVersion = []string{protocol}, tls.VersionTLS12 },
	} {
		near, far := connected(t)
		client := ca.Config()
		change(client)
		go func() {
			_ = tls.Client(near, client).Handshake()
			near.Close()
		}()
		c, _ := New(ca.Config()).Accept(far, here)
		if err := c.Handshake(); err == nil {
			t.Errorf("%s: accepted", name)
		} else if why := Why(err); !strings.Contains(why, "it is not a member") && !strings.Contains(why, "TLS 1.3") {
			t.Errorf("%s: %s, for %v", name, why, err)
		}
	}
}

// TestWhy: what happens without certificates has its reasons too.
func TestWhy(t *testing.T) {
	for text, err := range map[string]error{
		"in time":            context.DeadlineExceeded,
		"may have no TLS":    io.EOF,
		"too many":           ErrCrowd,
		"has expired":        ErrExpired,
		"not of this":        ErrGreeting,
		"does not speak TLS": tls.RecordHeaderError{Msg: "tls: first record does not look like a TLS handshake"},
		"handshake failed":   errors.New("something"),
	} {
		if got := Why(err); !strings.Contains(got, text) {
			t.Errorf("%v: %s", err, got)
		}
	}
}
