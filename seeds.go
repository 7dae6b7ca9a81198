package starling

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// lookupTimeout bounds one look-up of a name.
const lookupTimeout = 10 * time.Second

// seed is one parsed seed.
type seed struct {
	text string // as given
	host string // an address, or a name whose every address is tried
	port uint16
}

// parseSeed reads "host" or "host:port". A "dns+" before it is allowed and changes nothing. A defaultPort of 0 is none.
func parseSeed(text string, defaultPort int) (seed, error) {
	s := seed{text: text}
	rest := strings.TrimPrefix(text, "dns+")
	if err := checkWritten(rest); err != nil {
		return s, err
	}
	if err := checkPrefix(rest); err != nil {
		return s, err
	}
	if ip, err := netip.ParseAddr(unbracket(rest)); err == nil {
		if defaultPort == 0 {
			return s, errNoPort
		}
		s.host, s.port = ip.String(), uint16(defaultPort)
		return s, checkSeedIP(ip)
	}
	host, port := rest, strconv.Itoa(defaultPort)
	if strings.Contains(rest, ":") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return s, fmt.Errorf("want host:port: %w", err)
		}
	} else if defaultPort == 0 {
		return s, errNoPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return s, fmt.Errorf("port %q: must be between 1 and 65535", port)
	}
	if host == "" {
		return s, errors.New("no host")
	}
	s.host, s.port = host, uint16(n)
	if ip, err := netip.ParseAddr(host); err == nil {
		return s, checkSeedIP(ip)
	}
	return s, nil
}

var errNoPort = errors.New("no port, and port 0 of BindAddr is no default")

// checkWritten refuses what people write in configuration files and what can never be a host and a port.
func checkWritten(s string) error {
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

// checkPrefix refuses what may be mistaken for "dns+".
func checkPrefix(rest string) error {
	scheme, _, plus := strings.Cut(rest, "+")
	switch {
	case plus && scheme == "dns":
		return errors.New(`"dns+" twice`)
	case plus:
		return fmt.Errorf(`unknown prefix "%s+": "dns+" is the only one`, scheme)
	}
	return nil
}

func checkSeedIP(ip netip.Addr) error {
	if ip.IsUnspecified() {
		return errors.New("nobody can be reached at an unspecified address")
	}
	return nil
}

// unbracket takes the brackets off that an IPv6 address without a port may wear.
func unbracket(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// resolve returns the addresses of a seed that this member could reach by the family it is bound to.
func (s seed) resolve(ctx context.Context, local netip.Addr) ([]netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, s.port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		if ip = ip.Unmap(); !local.IsValid() || local.Is6() && local.IsUnspecified() || ip.Is4() == local.Is4() {
			addrs = append(addrs, netip.AddrPortFrom(ip, s.port))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("none of its %d addresses is of the family of %v", len(ips), local)
	}
	return addrs, nil
}
