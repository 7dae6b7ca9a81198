package starlingstatus

import (
	"context"
	"embed"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/starling-go/starling"
)

const (
	DefaultProbeChannel = "starling.status.probe"
	DefaultProbeTimeout = 3 * time.Second
	DefaultListeners    = 32
)

// Options says what a page shows and allows. A nil pointer means the zero value. Where a number is negative, the default is taken.
type Options struct {
	// Maps are the maps to show, in this order. Values of a map are shown only if it was made by [Values].
	Maps []Map
	// Zone, if set, tells a member's zone, from its metadata, say. Meta tells how metadata is shown: as text if it is some, else in hex, unless
	// it is set. What is longer than 200 bytes is cut off. They must be quick, and are called concurrently.
	Zone, Meta func(starling.Member) string
	// NoProbe leaves the probe out: nothing on the page sends anything then.
	NoProbe bool
	// ProbeChannel is the key of the probe's channel. Default DefaultProbeChannel.
	ProbeChannel string
	// ProbeTimeout is how long a probe waits until every member has confirmed, and then until every one has answered. Default 3 s.
	ProbeTimeout time.Duration
	// Listeners is how many may wait for events at once: pages that are open in browsers, and programs. Beyond it they are
	// refused by 503. Default 32.
	Listeners int
}

// Handler returns the page of a member. Make one for each member, before Join: it opens the channel of the probe, and from then on it
// remembers gaps and changes of the membership. For that it has one goroutine, which ends when the cluster is closed, and so do all
// that wait for events. If the channel cannot be opened (its key is taken, or the cluster closed) the page says so, and has no probe.
//
// On members that have no such page a probe counts as dropped for an unknown key (starling.DropUnknownKey); they confirm it all the same.
//
// The request of a listener ends only with the listener or the cluster: http.Server.Shutdown waits for it. Close the cluster first, or
// end the requests' contexts by http.Server.BaseContext.
func Handler(c *starling.Cluster, o *Options) http.Handler {
	options := withDefaults(o)
	m := member{Cluster: c}
	probe := ProbeOptions{Channel: options.ProbeChannel}
	if options.NoProbe {
		probe = ProbeOptions{Off: "it is turned off"}
	} else {
		ignore := func(context.Context, starling.Message[[]byte]) {}
		var err error
		if m.probe, err = starling.NewChannelOf(c, options.ProbeChannel, ignore, starling.Bytes(), nil); err != nil {
			probe = ProbeOptions{Off: err.Error()}
		}
	}
	p := newPage(m, options, probe)
	known := map[string]uint64{}
	for _, k := range c.Members() {
		known[k.Name] = k.ID
	}
	go p.recent.follow(c.Events(context.Background()), known)
	return p
}

func withDefaults(o *Options) Options {
	var options Options
	if o != nil {
		options = *o
	}
	if options.Meta == nil {
		options.Meta = metaText
	}
	if options.ProbeChannel == "" {
		options.ProbeChannel = DefaultProbeChannel
	}
	if options.ProbeTimeout <= 0 {
		options.ProbeTimeout = DefaultProbeTimeout
	}
	if options.Listeners <= 0 {
		options.Listeners = DefaultListeners
	}
	return options
}

//go:embed page/style.css page/page.js
var assets embed.FS

// page is the handler of one member.
type page struct {
	from      source
	o         Options
	probe     ProbeOptions
	recent    *recent
	listeners chan struct{} // a place for each
	shared    shared
	prober    prober
}

func newPage(from source, o Options, probe ProbeOptions) *page {
	return &page{from: from, o: o, probe: probe, recent: new(recent), listeners: make(chan struct{}, o.Listeners)}
}

// policy lets the page have what this handler serves, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	method := http.MethodGet
	serve := p.serveStatus
	switch r.URL.Path {
	case "":
		redirectInside(w, r)
		return
	case "/":
	case "/events":
		serve = p.serveEvents
	case "/fragments":
		serve = p.serveFragments
	case "/probe":
		method, serve = http.MethodPost, p.serveProbe
	case "/style.css", "/page.js":
		serve = serveAsset
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
		h.Set("Allow", method)
		http.Error(w, r.Method+" is not allowed here", http.StatusMethodNotAllowed)
		return
	}
	serve(w, r)
}

// redirectInside adds the slash that relative links need. What the prefix was is known to the request's line alone.
func redirectInside(w http.ResponseWriter, r *http.Request) {
	at := "."
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		at = "./" + path.Base(u.EscapedPath())
	}
	w.Header().Set("Location", at+"/")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, assets, "page"+r.URL.Path)
}

func (p *page) serveStatus(w http.ResponseWriter, r *http.Request) {
	if s := p.status(); wantsJSON(w, r) {
		writeJSON(w, http.StatusOK, s)
	} else {
		writeHTML(w, http.StatusOK, whole(s))
	}
}

// wantsJSON tells whether a request prefers JSON to a page. Who does not care gets the page.
func wantsJSON(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Add("Vary", "Accept")
	quality := map[string]float64{}
	for _, header := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(header, ",") {
			name, params, err := mime.ParseMediaType(kind)
			if err != nil {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			if err != nil {
				q = 1
			}
			quality[name] = q
		}
	}
	return quality["application/json"] > max(quality["text/html"], quality["application/xhtml+xml"])
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}

func writeHTML(w http.ResponseWriter, code int, b []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	w.Write(b)
}
