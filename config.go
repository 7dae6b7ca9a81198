package starling

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
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
	// BindAddr is "host:port" or "host" to listen on, UDP and TCP alike. The host is an IP address; port 0 lets the system
	// choose. Default 0.0.0.0:7946.
	BindAddr string
	// AdvertiseAddr is "ip:port" or "ip" that the others are told to use. Default: the bound address, or, bound to all
	// addresses, a private address of this host.
	AdvertiseAddr string
	// Seeds are members to join through, besides those given to Join: "host:port", or "dns+host:port" for a name whose
	// every address is a member. The port defaults to that of BindAddr. They are resolved again and again, and those not
	// in the cluster are joined anew, until Leave or Close.
	Seeds []string
	// Label keeps clusters apart: members of another label are not heard. At most 255 bytes. Default: none.
	Label string
	// Keys encrypt all traffic (AES; 16, 24 or 32 bytes each). The first is used to send, all are tried on receipt.
	Keys [][]byte
	// Networks, if set, are the only ones that anything is accepted from.
	Networks []netip.Prefix
	// Meta is what the others see as this member's Member.Meta, at most MaxMetaSize bytes.
	Meta []byte
	// Profile chooses the timing of memberlist. Default LAN.
	Profile Profile
	// Retention bounds what is kept for members that missed it.
	Retention Retention
	// Queue bounds what Broadcast accepts before it is sent.
	Queue Queue
	// Linger is how long a message may wait for others to fill its packet, if one has left within that time already: one
	// message alone always leaves at once. Default 1 ms; negative: none waits.
	Linger time.Duration
	// MaxMessageSize is the largest encoded message that Broadcast and Send accept, in bytes, and that is taken from
	// others. Default 16 MiB, at most half of Retention.Bytes, and less than 20 MiB.
	MaxMessageSize int
	// Logger gets all that Starling and memberlist have to say. Default slog.Default().
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
	LAN   Profile = iota // one data centre
	WAN                  // between data centres
	Local                // one machine
)

func (p Profile) String() string {
	switch p {
	case LAN:
		return "LAN"
	case WAN:
		return "WAN"
	case Local:
		return "Local"
	}
	return fmt.Sprintf("Profile(%d)", int(p))
}

func (p Profile) memberlist() *memberlist.Config {
	switch p {
	case WAN:
		return memberlist.DefaultWANConfig()
	case Local:
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

// maxNameSize keeps a control frame's sender small against a packet.
const maxNameSize = 128

// settle clones, completes and validates a Config, and reports all its faults at once.
func (c Config) settle() (*settings, error) {
	s := &settings{Config: c.clone()}
	s.complete()
	var faults []error
	fault := func(field string, value any, format string, args ...any) {
		faults = append(faults, &ConfigError{Field: field, Value: value, Err: fmt.Errorf(format, args...)})
	}
	s.checkNames(fault)
	s.checkAddrs(fault)
	s.checkBounds(fault)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s.tune()
	if s.tuned.ProbeTimeout > s.tuned.ProbeInterval {
		fault("Tune", s.tuned.ProbeTimeout, "ProbeTimeout is longer than ProbeInterval (%v)", s.tuned.ProbeInterval)
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
	c.Keys = slices.Clone(c.Keys)
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
	setDefault(&s.MaxMessageSize, min(DefaultMaxMessageSize, s.Retention.Bytes/2))
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
	return host[:min(len(host), maxNameSize-9)] + "-" + hex.EncodeToString(suffix[:])
}

type faultFunc func(field string, value any, format string, args ...any)

func (s *settings) checkNames(fault faultFunc) {
	if len(s.Name) > maxNameSize {
		fault("Name", s.Name, "%d bytes, limit %d", len(s.Name), maxNameSize)
	}
	if len(s.Label) > memberlist.LabelMaxSize {
		fault("Label", s.Label, "%d bytes, limit %d", len(s.Label), memberlist.LabelMaxSize)
	}
	if len(s.Meta) > MaxMetaSize {
		fault("Meta", fmt.Sprintf("%d bytes", len(s.Meta)), "limit %d", MaxMetaSize)
	}
	for i, key := range s.Keys {
		if memberlist.ValidateKey(key) != nil {
			fault(fmt.Sprintf("Keys[%d]", i), fmt.Sprintf("%d bytes", len(key)), "a key has 16, 24 or 32 bytes")
		}
	}
	for i, seed := range s.Seeds {
		if _, err := parseSeed(seed, 1); err != nil {
			fault(fmt.Sprintf("Seeds[%d]", i), seed, "%w", err)
		}
	}
	if s.Profile < LAN || s.Profile > Local {
		fault("Profile", s.Profile, "no such profile")
	}
}

func (s *settings) checkAddrs(fault faultFunc) {
	var err error
	if s.bind, err = parseIPPort(s.BindAddr, memberlist.DefaultLANConfig().BindPort); err != nil {
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
	for i, p := range s.Networks {
		if !p.IsValid() {
			fault(fmt.Sprintf("Networks[%d]", i), p, "not a network")
		}
	}
}

func (s *settings) checkBounds(fault faultFunc) {
	if s.Retention.Bytes < minRetentionBytes {
		fault("Retention.Bytes", s.Retention.Bytes, "must be at least %d", minRetentionBytes)
	}
	if s.Retention.Age < 0 {
		fault("Retention.Age", s.Retention.Age, "negative")
	}
	if s.Queue.Messages < 0 || s.Queue.Messages > maxQueueMessages {
		fault("Queue.Messages", s.Queue.Messages, "must be between 1 and %d", maxQueueMessages)
	}
	if s.Queue.Bytes < 0 {
		fault("Queue.Bytes", s.Queue.Bytes, "negative")
	}
	switch limit := min(s.Retention.Bytes/2, maxStreamSize); {
	case s.MaxMessageSize < 0:
		fault("MaxMessageSize", s.MaxMessageSize, "negative")
	case s.MaxMessageSize > limit:
		fault("MaxMessageSize", s.MaxMessageSize, "limit %d: half of Retention.Bytes, and what memberlist takes from a stream", limit)
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

// parseIPPort reads "ip", "ip:port" or "[ip]:port".
func parseIPPort(s string, defaultPort int) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(unbracket(s)); err == nil {
		return netip.AddrPortFrom(ip, uint16(defaultPort)), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("want ip:port: %w", err)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("want an IP address: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q: must be between 0 and 65535", port)
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}
