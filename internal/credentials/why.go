package credentials

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
)

// ErrCrowd says that too many connections are open, of one address or in all.
var ErrCrowd = errors.New("too many connections")

// ErrExpired says that a certificate has expired while its connection was open.
var ErrExpired = errors.New("the certificate has expired since the handshake")

// ErrGreeting says that a peer has finished its handshake and then said what no member says.
var ErrGreeting = errors.New("not the greeting of a member")

// said is what the errors of crypto/tls say, and what that means. What comes after "remote error" the other side says, of us.
var said = []struct{ hint, why string }{
	{"remote error: tls: expired certificate", "it refuses this member's certificate, which has expired"},
	{"remote error: tls: unknown certificate authority", "it refuses this member's certificate, which is of a CA that it does not know"},
	{"remote error: tls: bad certificate", "it refuses this member's certificate, which is not valid for the name or address that it expects"},
	{"remote error: tls: certificate required", "it refuses this member, which has shown no certificate"},
	{"remote error: tls: no application protocol", "it is not a member, or not of this kind"},
	{"remote error: tls: protocol version not supported", "it does not speak TLS 1.3"},
	{"remote error", "it refuses this member"},
	{"didn't provide a certificate", "it has shown no certificate"},
	{"unsupported versions", "it does not speak TLS 1.3"},
	{"protocol version not supported", "it does not speak TLS 1.3"},
	{"application protocol", "it is not a member, or not of this kind"},
	{"does not look like a tls handshake", "it does not speak TLS"},
}

// Why says why a connection to or from "it" came to nothing. The texts are few, so that lines can be told apart by them.
func Why(err error) string {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrExpired), errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or is not valid yet"
	case errors.As(err, &authority):
		return "its certificate is of a CA that this member does not know"
	case errors.As(err, &name):
		return "its certificate is not valid for the name or address that this member expects"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.Is(err, ErrCrowd):
		return "too many connections are open, of its address or in all"
	case errors.Is(err, ErrGreeting):
		return "it is not a member, or not of this version"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it has not finished its handshake in time"
	}
	text := strings.ToLower(err.Error())
	for _, s := range said {
		if strings.Contains(text, s.hint) {
			return s.why
		}
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it closed the connection during the handshake: it may have no TLS, or too much to do"
	case strings.Contains(text, "certificate"):
		return "its certificate is refused"
	}
	return "the handshake failed"
}
