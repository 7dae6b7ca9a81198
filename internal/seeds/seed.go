// Package seeds reads where other members may be found, and finds their addresses: by the seed itself, by DNS, or by a function of
// the user's.
package seeds

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A Seed is where members may be found. Seeds are comparable: equal ones are found in the same way.
type Seed struct {
	Text string // as it was given

	ip   netip.Addr // the host, where it is an address
	host string     // else its name, whose every address is tried
	port uint16     // 0: records of the name tell it
}

// IP returns the seed's address, which is invalid where the seed is a name.
func (s Seed) IP() netip.Addr { return s.ip }

// The schemes, each without its "+".
const (
	schemeDNS = "dns"
	schemeSRV = "dnssrv"
)

var schemes = []string{schemeDNS, schemeSRV}

// Parse reads "host" or "host:port", "dns+" before either, which changes nothing, or "dnssrv+name". A defaultPort of 0 is none.
func Parse(text string, defaultPort int) (Seed, error) {
	if err := CheckWritten(text); err != nil {
		return Seed{}, err
	}
	scheme, rest, plus := strings.Cut(text, "+")
	if !plus {
		scheme, rest = schemeDNS, text
	}
	if err := checkScheme(scheme, rest); err != nil {
		return Seed{}, err
	}
	if scheme == schemeSRV {
		return parseName(text, rest)
	}
	return parseHost(text, rest, defaultPort)
}

// checkScheme refuses a scheme that is none, and two of them.
func checkScheme(scheme, rest string) error {
	if !slices.Contains(schemes, scheme) {
		return fmt.Errorf(`unknown scheme "%s+": "%s+" are known`, scheme, strings.Join(schemes, `+" and "`))
	}
	if second, _, two := strings.Cut(rest, "+"); two {
		return fmt.Errorf(`"%s+" after "%s+": give one`, second, scheme)
	}
	return nil
}

// parseName reads what follows "dnssrv+".
func parseName(text, name string) (Seed, error) {
	if _, err := netip.ParseAddr(Unbracket(name)); err == nil {
		return Seed{}, errors.New("an address has no records: a name is wanted")
	}
	if strings.Contains(name, ":") {
		return Seed{}, errors.New("the records tell the port: give none")
	}
	if name == "" {
		return Seed{}, errNoHost
	}
	return Seed{Text: text, host: name}, nil
}

// parseHost reads "host" or "host:port".
func parseHost(text, rest string, defaultPort int) (Seed, error) {
	host, port := Unbracket(rest), strconv.Itoa(defaultPort)
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(rest, ":") {
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return Seed{}, fmt.Errorf("want host:port: %w", err)
		}
	} else if defaultPort == 0 && host != "" {
		return Seed{}, errNoPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case host == "":
		return Seed{}, errNoHost
	case err != nil || n == 0:
		return Seed{}, fmt.Errorf("port %q: must be between 1 and 65535", port)
	}
	s := Seed{Text: text, port: uint16(n)}
	if ip, err := netip.ParseAddr(host); err != nil {
		s.host = host
	} else if s.ip = ip.Unmap(); ip.IsUnspecified() {
		return Seed{}, errors.New("nobody can be reached at an unspecified address")
	}
	return s, nil
}

var (
	errNoHost = errors.New("no host")
	errNoPort = errors.New("no port, and port 0 of BindAddr is no default")
)

// CheckWritten refuses what people write in configuration files and what can never be a host and a port.
func CheckWritten(s string) error {
	switch {
	case strings.Contains(s, ","):
		return errors.New("several in one string: give one string for each")
	case strings.ContainsFunc(s, unicode.IsSpace):
		return errors.New("white space in it")
	case strings.ContainsAny(s, "${}"):
		return errors.New("a variable that nobody has filled in")
	}
	return nil
}

// Unbracket takes the brackets off that an IPv6 address without a port may wear.
func Unbracket(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// String is the host and the port as they were understood.
func (s Seed) String() string {
	if s.ip.IsValid() {
		return netip.AddrPortFrom(s.ip, s.port).String()
	}
	return net.JoinHostPort(s.host, strconv.Itoa(int(s.port)))
}
