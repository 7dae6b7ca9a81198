package starling

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/credentials"
	"github.com/starling-go/starling/internal/peersfile"
	"github.com/starling-go/starling/internal/seeds"
	"github.com/starling-go/starling/internal/wire"
)

// Defaults of a Config.
const (
	DefaultBindAddr       = "0.0.0.0:7946"
	DefaultRetentionBytes = 64 << 20
	DefaultRetentionAge   = 60 * time.Second
	DefaultMaxMessageSize = 16 << 20
	DefaultQueueMessages  = 4096
	DefaultQueueBytes     = 16 << 20
	DefaultLinger         = time.Millisecond
)

// Config says how a member takes part. The zero value is a working member of a local network on 0.0.0.0:7946 that knows
// no seeds. New copies it: the caller's struct is never written to and may be used again.
type Config struct {
	// Name is this member's name, unique in the cluster, at most 128 bytes. Default: the host name and a random suffix,
	// so that a restarted process is never refused for its predecessor's sake.
	Name string
	// BindAddr is "host:port" or "host" to listen on, UDP and TCP alike. The host is an IP address; "localhost" stands for 127.0.0.1, and
	// none, as in ":7946", for 0.0.0.0, which is all IPv4 addresses; "[::]" is all of both families. Port 0 lets the system choose. Default
	// 0.0.0.0:7946.
	BindAddr string
	// AdvertiseAddr is "ip:port" or "ip" that the others are told to use. Default: the bound address, or, bound to all
	// addresses, a private address of this host.
	AdvertiseAddr string
	// Seeds are members to join through, besides those given to Join: "host" or "host:port"; every address of a name is tried, as far as
	// it is of a family that BindAddr can reach. A "dns+" before it is allowed and changes nothing. The port defaults to that of BindAddr; if
	// that is 0, a seed must name one. "dnssrv+name" is every target of the name's SRV records ("dnssrv+_starling._tcp.example.org", say),
	// at the ports that they tell, those of a lower priority first. Of more than 1,024 addresses of one name some are tried.
	// Starling resolves them again and again, and joins those that are missing anew, until Leave or Close.
	Seeds []string
	// Resolve, if set, finds seeds by other means (the API of Kubernetes, Consul, the tags of machines): it returns what Seeds takes, of which
	// 1,024 at most are tried. Join asks it at once and then with growing pauses of up to 5 s, and every 15 s Starling asks it again. No seeds
	// are no success: Join goes on. So who may be the first member returns an address of its own. Of what it returns, what is no seed is said in
	// the log, and the rest is tried.
	//
	// It runs on a goroutine of its own, never twice at once, and holds up nobody else. Its context ends after 10 s, and when this member
	// closes: Leave and Close wait for it for 2 s then. One that ignores its context is told of in the log, by WARN after 5 s, and left
	// behind by Close. A panic in it is an error like any other: Join says so, and the log, with the stack. It must not call Join, Leave or Close.
	Resolve func(ctx context.Context) ([]string, error)
	// PeersFile, if set, is the path of a file that remembers the members, so that this one finds them when it is started again though no seed
	// lives. Join tries them beside the seeds, and Starling tries those that are missing further, as it does seeds; but nobody has to be there: if
	// there is no seed but this member itself, Join gives them 3 s at most. It is written a second after the membership has changed, and
	// when this member closes, which waits for that: as another file in the same directory that gets its name, readable for its owner alone. It
	// holds names and addresses of at most 1,024 members; those that failed or left are remembered for 24 h. Members on one machine must not share one.
	//
	// New gives a *ConfigError if it cannot make a file in that directory. A file that cannot be read, is damaged, larger than 1 MiB, or of another
	// Label, is taken for empty and written over, which the log says. If it cannot be written later, the log says so once a minute.
	PeersFile string
	// Label keeps clusters apart: members of another label are not heard. At most 255 bytes. Default: none.
	Label string
	// Keys encrypt all traffic (AES; 16, 24 or 32 bytes each; at most 8). What is received is tried with all of them. What is sent is
	// encrypted by the first one that every live member accepts: see Keyring, which changes them while the member runs.
	Keys [][]byte
	// KeySource, instead of Keys, yields the keys and, whenever they change, all of them anew: a member takes them over while it runs.
	// starlingkeys.File is one that reads a file. New waits for the first keys, 10 s at most. Later an error, an empty list or a malformed
	// key leaves the keys as they are, and is logged. It runs on a goroutine of its own, for as long as it likes, and must return when
	// ctx has ended, because Close waits for it: so it must not call Leave or Close. The keys are copied.
	KeySource func(ctx context.Context) iter.Seq2[[][]byte, error]
	// AcceptPlaintext and SendPlaintext let a member with keys read what is not encrypted, and send without encrypting. They are for the
	// way of a running cluster from plaintext to keys and back, by one restart of each member for each step: see Keyring.
	AcceptPlaintext, SendPlaintext bool
	// TLS, if set, carries everything over TLS 1.3 connections between members, small messages too; no UDP socket is opened then. All
	// members must have it. Each shows its certificate to whom it dials and to who dials it, and each verifies the other's: chain,
	// extended key usages (if there are any, both ClientAuth and ServerAuth), and name. With ServerName, the certificates of
	// all members must be valid for that name; without, each for the IP address that the connection goes to or comes from. RootCAs and
	// ClientCAs stand for each other where one is nil. The system's CAs are not used.
	//
	// TLS is cloned, so its callbacks are the way to change certificates and CAs on a live member. GetConfigForClient, if set, is
	// asked for each connection, dialled ones too (the ClientHelloInfo then has Conn, ServerName and the supported versions and
	// protocols alone), and what it returns is used instead. Or GetCertificate and GetClientCertificate give the certificate. A
	// connection ends when a certificate expires, and after 10 minutes is made anew by what the callbacks give then. ClientAuth, if it is
	// set, and InsecureSkipVerify, with a VerifyConnection of yours, are taken at their word. Sessions are never resumed.
	//
	// A connection that is refused is counted (Traffic.TLSRefused) and logged with its reason. Keys may be set too, and encrypt twice.
	TLS *tls.Config
	// Networks, if set, are the only ones that anything is accepted from.
	Networks []netip.Prefix
	// Meta is what the others see as this member's Member.Meta, at most MaxMetaSize bytes.
	Meta []byte
	// Profile chooses the timing of memberlist. Default ProfileLAN.
	Profile Profile
	// Retention bounds what is kept for members that missed it.
	Retention Retention
	// Queue bounds what Broadcast accepts before it is sent.
	Queue Queue
	// Linger is how long a message may wait, so that others share its packet. It waits only if another one has left less than Linger ago;
	// so a message after a pause leaves at once. Default 1 ms; negative: none waits.
	Linger time.Duration
	// MaxMessageSize is the largest encoded message that Broadcast and Send accept, in bytes, and that is taken from
	// others. Default 16 MiB, at most half of Retention.Bytes, and less than 4 GiB. Above 20 MiB, which is what memberlist takes from one
	// stream, members of other systems get nothing (DropForeignTooLarge). Members should have the same: one with less keeps nothing
	// larger, and so passes it on to nobody. What comes by Send in pieces takes up to four times as much memory, until it is complete.
	MaxMessageSize int
	// MinMembers is how many members there must be, this one included, for Ready. Default: it does not matter.
	MinMembers int
	// Logger gets all that Starling and memberlist have to say. Default slog.Default(). Its handler runs on a goroutine of its
	// own and may take its time, but Leave and Close wait for it, so it must not call them. While 1,024 lines wait for it,
	// further ones are lost; the next that it gets tells their number, as "lines_lost".
	Logger *slog.Logger
	// Transport replaces our own UDP and TCP sockets; BindAddr is then ignored. Starling shuts it down.
	Transport memberlist.Transport
	// Admit, if set, may refuse a member by an error. It runs under memberlist's lock: it must be quick, pure, and call
	// neither Starling nor memberlist. It is asked again whenever the member announces itself.
	Admit func(Member) error
	// AdmitMerge, if set, may refuse the merge with a cluster whose members it is shown, by an error. It must be
	// quick, and call neither Starling nor memberlist.
	AdmitMerge func([]Member) error
	// Tune, if set, has the last word on memberlist's configuration. What Starling itself depends on (Name, Transport,
	// the delegates, Logger) is set after it.
	Tune func(*memberlist.Config)
}

// Retention bounds the history that members keep for each other: a member that was cut off for less than this misses
// nothing.
type Retention struct {
	Bytes int           // default 64 MiB
	Age   time.Duration // default 60 s
}

// Queue bounds what a member has accepted from its own Broadcast calls and not sent yet. A message larger than the room
// that is left waits; one larger than Bytes is accepted when nothing else waits.
type Queue struct {
	Messages int // default 4096
	Bytes    int // default 16 MiB
}

// Profile is a set of timings that suit a kind of network.
type Profile int

const (
	ProfileLAN   Profile = iota // one data centre
	ProfileWAN                  // between data centres
	ProfileLocal                // one machine
)

var profiles = []string{"LAN", "WAN", "Local"}

func (p Profile) String() string { return nameOf(p, profiles) }

func (p Profile) memberlist() *memberlist.Config {
	switch p {
	case ProfileWAN:
		return memberlist.DefaultWANConfig()
	case ProfileLocal:
		return memberlist.DefaultLocalConfig()
	}
	return memberlist.DefaultLANConfig()
}

// settings is a Config that was copied, completed and found valid, with its addresses parsed.
type settings struct {
	Config
	bind          netip.AddrPort
	advertiseIP   string
	advertisePort int
	tuned         *memberlist.Config
}

// minRetentionBytes is where the largest message, half of it, fits the history with the longest key and all overhead.
const minRetentionBytes = 1024

// maxRetentionAge keeps ages, and twice the retention, within what a part can carry: 32 bits of milliseconds.
const maxRetentionAge = 14 * 24 * time.Hour

// settle clones, completes and validates a Config, and reports all its faults at once.
func (c Config) settle() (*settings, error) {
	s := &settings{Config: c.clone()}
	s.complete()
	var faults []error
	fault := func(field string, value any, format string, args ...any) {
		faults = append(faults, &ConfigError{Field: field, Value: value, Err: fmt.Errorf(format, args...)})
	}
	s.checkAddrs(fault) // first: seedPort needs s.bind
	s.checkNames(fault)
	s.checkBounds(fault)
	s.checkTLS(fault)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s.tune()
	if s.tuned.ProbeTimeout > s.tuned.ProbeInterval {
		fault("Tune", s.tuned.ProbeTimeout, "ProbeTimeout is longer than ProbeInterval (%v)", s.tuned.ProbeInterval)
	}
	if s.tuned.TCPTimeout <= 0 {
		fault("Tune", s.tuned.TCPTimeout, "TCPTimeout must be positive: no stream could be opened")
	}
	if s.tuned.UDPBufferSize < minPacketSize || s.tuned.UDPBufferSize > maxPacketSize {
		fault("Tune", s.tuned.UDPBufferSize, "UDPBufferSize must be between %d and %d", minPacketSize, maxPacketSize)
	}
	return s, errors.Join(faults...)
}

func (c Config) clone() Config {
	c.Seeds = slices.Clone(c.Seeds)
	c.Networks = slices.Clone(c.Networks)
	c.Meta = bytes.Clone(c.Meta)
	c.TLS = c.TLS.Clone()         // nil for nil
	c.Keys = slices.Clone(c.Keys) // which keeps an empty list apart from none
	for i, k := range c.Keys {
		c.Keys[i] = bytes.Clone(k)
	}
	return c
}

func (s *settings) complete() {
	if s.Name == "" {
		s.Name = randomName()
	}
	setDefault(&s.BindAddr, DefaultBindAddr)
	setDefault(&s.Retention.Bytes, DefaultRetentionBytes)
	setDefault(&s.Retention.Age, DefaultRetentionAge)
	setDefault(&s.MaxMessageSize, min(DefaultMaxMessageSize, max(s.Retention.Bytes/2, 1)))
	setDefault(&s.Queue.Messages, DefaultQueueMessages)
	setDefault(&s.Queue.Bytes, DefaultQueueBytes)
	setDefault(&s.Linger, DefaultLinger)
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func randomName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "member"
	}
	var suffix [4]byte
	rand.Read(suffix[:]) // never fails
	return host[:min(len(host), wire.MaxNameSize-9)] + "-" + hex.EncodeToString(suffix[:])
}

type faultFunc func(field string, value any, format string, args ...any)

func (s *settings) checkNames(fault faultFunc) {
	if !utf8.ValidString(s.Name) {
		fault("Name", s.Name, "not UTF-8")
	}
	if !utf8.ValidString(s.Label) {
		fault("Label", s.Label, "not UTF-8")
	}
	if len(s.Name) > wire.MaxNameSize {
		fault("Name", s.Name, "%d bytes, limit %d", len(s.Name), wire.MaxNameSize)
	}
	if len(s.Label) > memberlist.LabelMaxSize {
		fault("Label", len(s.Label), "limit %d bytes", memberlist.LabelMaxSize)
	}
	if len(s.Meta) > MaxMetaSize {
		fault("Meta", len(s.Meta), "limit %d bytes", MaxMetaSize)
	}
	s.checkEncryption(fault)
	for i, seed := range s.Seeds {
		if _, err := seeds.Parse(seed, s.seedPort()); err != nil {
			fault(fmt.Sprintf("Seeds[%d]", i), seed, "%w", err)
		}
	}
	if s.Profile < ProfileLAN || s.Profile > ProfileLocal {
		fault("Profile", s.Profile, "no such profile")
	}
}

// seedPort is the port of a seed that names none: that of BindAddr; 0 means that a seed must name one. If BindAddr is wrong it is
// memberlist's port, so that one fault is not reported for each seed again.
func (s *settings) seedPort() int {
	if !s.bind.IsValid() {
		return memberlist.DefaultLANConfig().BindPort
	}
	return int(s.bind.Port())
}

func (s *settings) checkAddrs(fault faultFunc) {
	var err error
	if s.bind, err = parseIPPort(bindHost(s.BindAddr), memberlist.DefaultLANConfig().BindPort); err != nil {
		fault("BindAddr", s.BindAddr, "%w", err)
	}
	if s.AdvertiseAddr != "" {
		addr, err := parseIPPort(s.AdvertiseAddr, int(s.bind.Port()))
		switch {
		case err != nil:
			fault("AdvertiseAddr", s.AdvertiseAddr, "%w", err)
		case addr.Addr().IsUnspecified():
			fault("AdvertiseAddr", s.AdvertiseAddr, "nobody can reach an unspecified address")
		default:
			s.advertiseIP, s.advertisePort = addr.Addr().String(), int(addr.Port())
		}
	}
	if s.PeersFile != "" {
		if err := peersfile.Check(s.PeersFile); err != nil {
			fault("PeersFile", s.PeersFile, "%w", err)
		}
	}
	for i, p := range s.Networks {
		if !p.IsValid() {
			fault(fmt.Sprintf("Networks[%d]", i), p, "not a network")
		}
	}
}

func (s *settings) checkBounds(fault faultFunc) {
	kept := s.Retention.Bytes >= minRetentionBytes
	if !kept {
		fault("Retention.Bytes", s.Retention.Bytes, "must be at least %d", minRetentionBytes)
	}
	switch {
	case s.Retention.Age < 0:
		fault("Retention.Age", s.Retention.Age, "negative")
	case s.Retention.Age > maxRetentionAge:
		fault("Retention.Age", s.Retention.Age, "limit %v", maxRetentionAge)
	}
	if s.Queue.Messages < 0 || s.Queue.Messages > maxQueueMessages {
		fault("Queue.Messages", s.Queue.Messages, "must be between 1 and %d", maxQueueMessages)
	}
	if s.Queue.Bytes < 0 {
		fault("Queue.Bytes", s.Queue.Bytes, "negative")
	}
	switch {
	case s.MaxMessageSize < 0:
		fault("MaxMessageSize", s.MaxMessageSize, "negative")
	case int64(s.MaxMessageSize) > math.MaxUint32:
		fault("MaxMessageSize", s.MaxMessageSize, "limit %d", uint32(math.MaxUint32))
	case kept && s.MaxMessageSize > s.Retention.Bytes/2:
		fault("MaxMessageSize", s.MaxMessageSize, "limit %d: half of Retention.Bytes", s.Retention.Bytes/2)
	}
}

func (s *settings) checkTLS(fault faultFunc) {
	if s.TLS == nil {
		return
	}
	for _, f := range credentials.Faults(s.TLS) {
		fault("TLS."+f.Field, f.Value, "%w", f.Err)
	}
}

// tune builds memberlist's configuration, all but what the cluster itself puts in.
func (s *settings) tune() {
	c := s.Profile.memberlist()
	c.Label = s.Label
	c.BindAddr, c.BindPort = s.bind.Addr().String(), int(s.bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = s.advertiseIP, s.advertisePort
	// LZW costs more CPU than all the rest together, and makes what cannot be compressed larger.
	c.EnableCompression = false
	// A crashed name may come back at a new address soon, instead of being refused until it is reaped.
	c.DeadNodeReclaimTime = 10 * time.Second
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = !s.AcceptPlaintext, !s.SendPlaintext
	// Our packets pin only their own size, so a deep hand-off costs little and saves a burst.
	c.HandoffQueueDepth = 16384
	for _, p := range s.Networks {
		c.CIDRsAllowed = append(c.CIDRsAllowed, *ipNet(p))
	}
	if s.Tune != nil {
		s.Tune(c)
	}
	s.tuned = c
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bindHost puts addresses for the two hosts of BindAddr that are none: for no host, as in ":7946", and for "localhost". Other names would
// have to be looked up.
func bindHost(addr string) string {
	host, port, colon := strings.Cut(addr, ":")
	switch {
	case host == "" && colon && !strings.Contains(port, ":"):
		return "0.0.0.0:" + port
	case host == "localhost":
		return "127.0.0.1" + strings.TrimPrefix(addr, host)
	}
	return addr
}

var (
	errNoIP = errors.New("no host")
	errName = errors.New("not an IP address: want ip:port or an IP address, such as 127.0.0.1")
)

// parseIPPort reads "ip", "ip:port" or "[ip]:port".
func parseIPPort(s string, defaultPort int) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(seeds.Unbracket(s)); err == nil {
		return netip.AddrPortFrom(ip, uint16(defaultPort)), nil
	}
	if err := seeds.CheckWritten(s); err != nil {
		return netip.AddrPort{}, err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil && strings.Contains(s, ":") {
		return netip.AddrPort{}, fmt.Errorf("want ip:port: %w", err)
	} else if err != nil {
		return netip.AddrPort{}, errName
	}
	if host == "" {
		return netip.AddrPort{}, errNoIP
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, errName
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q: must be between 0 and 65535", port)
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}
