package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingkeys"
	"github.com/starling-go/starling/starlingstatus"
)

const (
	observerPrefix = "observer-"
	leaveWithin    = 5 * time.Second
	answerWithin   = 500 * time.Millisecond
)

// observerOptions say how this process joins a cluster.
type observerOptions struct {
	label, keyFile, bind, advertise string
	cert, key, ca, serverName       string
	profile                         string
	verbose                         bool

	transport memberlist.Transport // tests: instead of sockets
}

func (o *observerOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.label, "label", "", "with -seed: the cluster's Config.Label")
	fs.StringVar(&o.keyFile, "key-file", "", "with -seed: `file` with the cluster's keys, one in base64 on each line")
	fs.StringVar(&o.bind, "bind", "0.0.0.0:0", "with -seed: `host:port` to listen on, UDP and TCP, which the members must reach")
	fs.StringVar(&o.advertise, "advertise", "", "with -seed: `ip:port` that the members are told to use")
	fs.StringVar(&o.cert, "tls-cert", "", "with -seed, in a cluster with TLS: `file` with a certificate (PEM)")
	fs.StringVar(&o.key, "tls-key", "", "`file` with its key (PEM)")
	fs.StringVar(&o.ca, "tls-ca", "", "`file` with the CAs of the members' certificates (PEM)")
	fs.StringVar(&o.serverName, "tls-name", "", "`name` for which the members' certificates are valid; empty: each for its address")
	fs.StringVar(&o.profile, "profile", "lan", "with -seed: the cluster's timing: lan, wan or local")
	fs.BoolVar(&o.verbose, "v", false, "with -seed: show what this member logs")
}

// config returns the configuration of the observer.
func (o *observerOptions) config(logs io.Writer) (c starling.Config, err error) {
	var random [4]byte
	rand.Read(random[:]) // never fails
	c = starling.Config{
		Name: observerPrefix + hex.EncodeToString(random[:]), BindAddr: o.bind, AdvertiseAddr: o.advertise, Label: o.label, Transport: o.transport,
		Logger: slog.New(slog.DiscardHandler),
	}
	if o.verbose {
		c.Logger = slog.New(slog.NewTextHandler(logs, nil))
	}
	if o.keyFile != "" {
		text, err := os.ReadFile(o.keyFile)
		if err == nil {
			c.Keys, err = starlingkeys.Parse(text)
		}
		if err != nil {
			return c, fmt.Errorf("-key-file %s: %w", o.keyFile, err)
		}
	}
	profiles := map[string]starling.Profile{"lan": starling.ProfileLAN, "wan": starling.ProfileWAN, "local": starling.ProfileLocal}
	p, ok := profiles[strings.ToLower(o.profile)]
	if !ok {
		return c, fmt.Errorf("-profile %q: it is lan, wan or local", o.profile)
	}
	c.Profile = p
	c.TLS, err = o.tls()
	return c, err
}

func (o *observerOptions) tls() (*tls.Config, error) {
	if o.cert == "" && o.key == "" && o.ca == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("-tls-ca: %w", err)
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("-tls-ca: no certificate in %s", o.ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: cas, ClientCAs: cas, ServerName: o.serverName}, nil
}

// observerNeeds is what a subcommand needs of an observer.
type observerNeeds struct {
	probe    bool // the channel of the probe, the only one that an observer has
	unjoined bool // it is of use although no seed has answered
	open     func(*starling.Cluster) error
}

// observer is a member that only looks.
type observer struct {
	cluster *starling.Cluster
	page    http.Handler
}

// observe joins the cluster. It gives the others a moment, so that what it shows is not half of it.
func (o *options) observe(ctx context.Context, need observerNeeds) (*observer, error) {
	cfg, err := o.observer.config(os.Stderr)
	if err != nil {
		return nil, err
	}
	c, err := starling.New(cfg)
	if err != nil {
		return nil, err
	}
	ob := &observer{c, starlingstatus.Handler(c, &starlingstatus.Options{NoProbe: !need.probe})}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if need.open != nil {
		err = need.open(c)
	}
	if err == nil {
		err = c.Join(ctx, o.seeds...)
	}
	if err == nil {
		err = c.Ready(ctx)
	}
	var malformed *starling.ConfigError
	if err != nil && (!need.unjoined || errors.As(err, &malformed)) {
		ob.awaitAnswer()
		_ = ob.leave()
		return nil, err
	}
	return ob, nil
}

// awaitAnswer waits for an answer that is under way to a Join that was cut short: whoever gives it has this observer as a member already, and
// can be told goodbye only when it is one here.
func (ob *observer) awaitAnswer() {
	for begun := time.Now(); len(ob.cluster.Members()) == 1 && time.Since(begun) < answerWithin; {
		time.Sleep(answerWithin / 50)
	}
}

// leave says goodbye, whatever has ended the command.
func (ob *observer) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	return ob.cluster.Leave(ctx)
}

func (ob *observer) source() *source {
	return &source{at: "this observer", base: &url.URL{Scheme: "http", Host: "observer", Path: "/"}, do: inProcess{ob.page}}
}

// inProcess has a handler of this process answer requests.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	body, write := io.Pipe()
	w := &pipedAnswer{header: http.Header{}, body: write, begun: make(chan *http.Response, 1)}
	done := make(chan struct{})
	go func() { // who closes the body ends it, and waits for it
		defer close(done)
		p.ServeHTTP(w, r.WithContext(ctx))
		w.WriteHeader(http.StatusOK)
		write.Close()
	}()
	answer := <-w.begun
	answer.Request, answer.Body = r, pipedBody{body, func() { cancel(); body.Close(); <-done }}
	return answer, nil
}

type pipedBody struct {
	io.Reader
	end func()
}

func (b pipedBody) Close() error {
	b.end()
	return nil
}

// pipedAnswer is a http.ResponseWriter whose answer is read while it is written.
type pipedAnswer struct {
	header http.Header
	body   *io.PipeWriter
	begun  chan *http.Response // holds what comes before the body, once
	told   bool
}

func (w *pipedAnswer) Header() http.Header { return w.header }

func (w *pipedAnswer) WriteHeader(code int) {
	if !w.told {
		w.told = true
		w.begun <- &http.Response{StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), Header: w.header.Clone()}
	}
}

func (w *pipedAnswer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *pipedAnswer) Flush() {}
