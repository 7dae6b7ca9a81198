package starling

import (
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// faults returns the ConfigErrors joined in err.
func faults(err error) []*ConfigError {
	var found []*ConfigError
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *ConfigError:
			found = append(found, e)
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		}
	}
	walk(err)
	return found
}

// TestConfigFaults: each fault is a *ConfigError that names the field, and the limit where there is one.
func TestConfigFaults(t *testing.T) {
	for _, tt := range []struct {
		field string
		says  string
		cfg   Config
	}{
		{"Name", "limit 128", Config{Name: strings.Repeat("n", 129)}},
		{"BindAddr", "IP address", Config{BindAddr: "name:7946"}},
		{"BindAddr", "ip:port", Config{BindAddr: "nonsense"}},
		{"BindAddr", `"name:7946": not an IP address`, Config{BindAddr: "name:7946"}},
		{"BindAddr", "port", Config{BindAddr: ":"}},
		{"BindAddr", "port", Config{BindAddr: ":http"}},
		{"BindAddr", "a variable that nobody has filled in", Config{BindAddr: "${POD_IP}:7946"}},
		{"BindAddr", "such as 127.0.0.1", Config{BindAddr: "localhosts"}},
		{"AdvertiseAddr", "a variable that nobody has filled in", Config{AdvertiseAddr: "${POD_IP}"}},
		{"Seeds[0]", "no port, and port 0 of BindAddr is no default", Config{BindAddr: "127.0.0.1:0", Seeds: []string{"dns+peers"}}},
		{"Seeds[0]", "no port, and port 0 of BindAddr is no default", Config{BindAddr: "127.0.0.1:0", Seeds: []string{"10.0.0.1"}}},
		{"Seeds[0]", `Seeds[0] = "a:1\n": white space`, Config{Seeds: []string{"a:1\n"}}},
		{"BindAddr", "65535", Config{BindAddr: "127.0.0.1:65536"}},
		{"BindAddr", "65535", Config{BindAddr: "127.0.0.1:-1"}},
		{"BindAddr", "ip:port", Config{BindAddr: "[::1"}},
		{"AdvertiseAddr", "IP address", Config{AdvertiseAddr: "name:1"}},
		{"AdvertiseAddr", "unspecified", Config{AdvertiseAddr: "0.0.0.0:7946"}},
		{"AdvertiseAddr", "65535", Config{AdvertiseAddr: "127.0.0.1:99999"}},
		{"Seeds[1]", "port", Config{Seeds: []string{"good:1", "bad:port"}}},
		{"Seeds[0]", "no host", Config{Seeds: []string{""}}},
		{"Name", `Name = "caf\xe9": not UTF-8`, Config{Name: "caf\xe9"}},
		{"Label", "Label = 256: limit 255 bytes", Config{Label: strings.Repeat("l", 256)}},
		{"Keys[1]", "Keys[1] = 15: a key has 16, 24 or 32 bytes", Config{Keys: [][]byte{make([]byte, 16), make([]byte, 15)}}},
		{"Keys", "Keys = []: give nil", Config{Keys: [][]byte{}}},
		{"Keys[0]", "16, 24 or 32", Config{Keys: [][]byte{nil}}},
		{"Networks[0]", "not a network", Config{Networks: []netip.Prefix{{}}}},
		{"Meta", "Meta = 401: limit 400 bytes", Config{Meta: make([]byte, MaxMetaSize+1)}},
		{"Profile", "no such profile", Config{Profile: ProfileLocal + 1}},
		{"Profile", "no such profile", Config{Profile: -1}},
		{"Retention.Bytes", "at least 1024", Config{Retention: Retention{Bytes: -1}}},
		{"Retention.Age", "negative", Config{Retention: Retention{Age: -1}}},
		{"MaxMessageSize", "negative", Config{MaxMessageSize: -1}},
		{"MaxMessageSize", "limit 1000: half of Retention.Bytes", Config{MaxMessageSize: 1001, Retention: Retention{Bytes: 2000}}},
		{"Retention.Bytes", "at least 1024", Config{Retention: Retention{Bytes: 1023}}},
		{"MaxMessageSize", "limit 4294967295", Config{MaxMessageSize: 1 << 32, Retention: Retention{Bytes: 1 << 34}}},
		{"Queue.Messages", "65536", Config{Queue: Queue{Messages: 65537}}},
		{"Queue.Messages", "65536", Config{Queue: Queue{Messages: -1}}},
		{"Queue.Bytes", "negative", Config{Queue: Queue{Bytes: -1}}},
		{"Tune", "512", Config{Tune: func(c *memberlist.Config) { c.UDPBufferSize = 511 }}},
		{"Tune", "65487", Config{Tune: func(c *memberlist.Config) { c.UDPBufferSize = 65488 }}},
		{"Tune", "ProbeInterval", Config{Tune: func(c *memberlist.Config) { c.ProbeTimeout = 2 * c.ProbeInterval }}},
	} {
		c, err := New(tt.cfg)
		if c != nil {
			c.Close()
			t.Fatalf("%s: New made a cluster of %+v", tt.field, tt.cfg)
		}
		found := faults(err)
		if len(found) != 1 || found[0].Field != tt.field || !strings.Contains(err.Error(), tt.field) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, which should say %q", tt.field, err, tt.says)
		}
	}
}

// TestConfigAllFaults: all are told at once, and no key is in the text.
func TestConfigAllFaults(t *testing.T) {
	secret := []byte("hunter2hunter2")
	_, err := New(Config{
		Name: strings.Repeat("n", 129), BindAddr: "x", AdvertiseAddr: "y", Label: strings.Repeat("l", 256),
		Keys: [][]byte{secret}, Meta: make([]byte, 600), Seeds: []string{"a:b"}, Profile: 9, MaxMessageSize: -1,
		Queue: Queue{Messages: -1, Bytes: -1}, Retention: Retention{Bytes: -1, Age: -1}, Networks: make([]netip.Prefix, 1),
	})
	found := map[string]bool{}
	for _, f := range faults(err) {
		found[f.Field] = true
		if f.Unwrap() == nil || !errors.Is(err, f) {
			t.Errorf("%v: cannot be found in %v", f, err)
		}
	}
	for _, field := range []string{
		"Name", "BindAddr", "AdvertiseAddr", "Label", "Keys[0]", "Meta", "Seeds[0]", "Profile", "MaxMessageSize",
		"Queue.Messages", "Queue.Bytes", "Retention.Bytes", "Retention.Age", "Networks[0]",
	} {
		if !found[field] {
			t.Errorf("%s is not among %v", field, err)
		}
	}
	if strings.Contains(err.Error(), string(secret)) {
		t.Errorf("a key is in the text: %v", err)
	}
}

// TestConfigLimits: what is just allowed is allowed.
func TestConfigLimits(t *testing.T) {
	for name, cfg := range map[string]Config{
		"zero":    {},
		"name":    {Name: strings.Repeat("n", 128)},
		"label":   {Label: strings.Repeat("l", 255)},
		"keys":    {Keys: [][]byte{make([]byte, 16), make([]byte, 24), make([]byte, 32)}},
		"meta":    {Meta: make([]byte, MaxMetaSize)},
		"message": {MaxMessageSize: wire.MaxStreamSize + 1},
		"queue":   {Queue: Queue{Messages: maxQueueMessages, Bytes: 1}},
		"IPv6":    {BindAddr: "[::1]:0", AdvertiseAddr: "[::1]:5", Seeds: []string{"[::1]:80", "dns+a:1"}},
		"seeds":   {Seeds: []string{"::1", "dns+a", "127.0.0.1"}},
		"bare":    {BindAddr: "127.0.0.1"},
		"packet":  {Tune: func(c *memberlist.Config) { c.UDPBufferSize = 512 }},
	} {
		if _, err := cfg.settle(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConfigBindAddr: no host is all IPv4 addresses, and "localhost" is known without a look-up.
func TestConfigBindAddr(t *testing.T) {
	for given, is := range map[string]string{
		":7000": "0.0.0.0:7000", ":0": "0.0.0.0:0", "localhost": "127.0.0.1:7946", "localhost:7000": "127.0.0.1:7000", "::1": "[::1]:7946", "::": "[::]:7946", "[::]:7000": "[::]:7000",
	} {
		if s, err := (Config{BindAddr: given}).settle(); err != nil || s.bind.String() != is {
			t.Errorf("BindAddr %q: %v, want %s", given, err, is)
		}
	}
}

// TestConfigDefaults: the zero value is complete.
func TestConfigDefaults(t *testing.T) {
	s, err := Config{}.settle()
	if err != nil {
		t.Fatal(err)
	}
	if s.bind != netip.MustParseAddrPort("0.0.0.0:7946") || s.Retention != (Retention{64 << 20, time.Minute}) ||
		s.MaxMessageSize != 16<<20 || s.Queue != (Queue{4096, 16 << 20}) || s.Logger != slog.Default() {
		t.Errorf("defaults %+v", s.Config)
	}
	if again, _ := (Config{}).settle(); again.Name == s.Name || s.Name == "" || len(s.Name) > wire.MaxNameSize {
		t.Errorf("names %q and %q", s.Name, again.Name)
	}
	c := s.tuned
	if c.GossipInterval != 200*time.Millisecond || c.GossipNodes != 3 || c.RetransmitMult != 4 || c.ProbeInterval != time.Second ||
		c.ProbeTimeout != 500*time.Millisecond || c.PushPullInterval != 30*time.Second || c.TCPTimeout != 10*time.Second ||
		c.UDPBufferSize != MaxGossipPacketSize || c.EnableCompression || c.DeadNodeReclaimTime != 10*time.Second {
		t.Errorf("memberlist's defaults %+v", c)
	}
	for profile, interval := range map[Profile]time.Duration{ProfileWAN: 500 * time.Millisecond, ProfileLocal: 100 * time.Millisecond} {
		if s, err := (Config{Profile: profile}).settle(); err != nil || s.tuned.GossipInterval != interval {
			t.Errorf("%v: %v", profile, err)
		}
	}
	if s, err := (Config{Retention: Retention{Bytes: 1 << 20}}).settle(); err != nil || s.MaxMessageSize != 1<<19 {
		t.Errorf("with little retention: %v", err)
	}
	if s, err := (Config{BindAddr: "127.0.0.1:80", AdvertiseAddr: "127.0.0.2"}).settle(); err != nil || s.advertiseIP != "127.0.0.2" || s.advertisePort != 80 {
		t.Errorf("advertise without a port: %v", err)
	}
}

// TestConfigIsTheCallers: New writes nothing of it, and what the caller writes later changes nothing.
func TestConfigIsTheCallers(t *testing.T) {
	make := func() Config {
		return Config{
			BindAddr: "127.0.0.1:0", Seeds: []string{"127.0.0.1:1"}, Keys: [][]byte{[]byte("0123456789abcdef")},
			Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}, Meta: []byte("meta"),
			Logger: slog.New(slog.DiscardHandler),
		}
	}
	cfg := make()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !reflect.DeepEqual(cfg, make()) {
		t.Errorf("New wrote %+v", cfg)
	}
	cfg.Seeds[0], cfg.Keys[0][0], cfg.Networks[0], cfg.Meta[0] = "changed:1", 'X', netip.Prefix{}, 'X'
	if s := c.cfg; s.Seeds[0] != "127.0.0.1:1" || s.Keys[0][0] != '0' || !s.Networks[0].IsValid() || string(c.Self().Meta) != "meta" {
		t.Errorf("the caller changed %+v", s.Config)
	}
}

// TestTakenPort: the system's error, with the address.
func TestTakenPort(t *testing.T) {
	cfg := Config{BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cfg.BindAddr = c.Self().Addr.String()
	if _, err := New(cfg); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), cfg.BindAddr) ||
		!strings.Contains(err.Error(), "port 0 lets the system choose") {
		t.Errorf("taken port: %v", err)
	}
}

// TestTuneHasNotTheVeryLastWord: what Starling depends on is set after Tune.
func TestTuneHasNotTheVeryLastWord(t *testing.T) {
	c, err := New(Config{Name: "ours", BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Tune: func(c *memberlist.Config) {
		c.Name, c.Delegate, c.Events, c.Transport, c.GossipNodes = "theirs", nil, nil, nil, 7
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Self().Name != "ours" || c.cfg.tuned.GossipNodes != 7 {
		t.Errorf("self %+v", c.Self())
	}
}
