package credentials

import (
	"crypto/tls"
	"errors"
)

// A Fault is what makes a configuration unfit.
type Fault struct {
	Field string // of tls.Config
	Value any
	Err   error
}

// Faults returns what makes a configuration unfit for members, or nothing. Where GetConfigForClient is set, what that returns is
// looked at for each connection instead.
func Faults(c *tls.Config) []Fault {
	if c.GetConfigForClient != nil {
		return nil
	}
	return faultsOf(c)
}

// faultsOf returns what makes a configuration unfit for one connection.
func faultsOf(c *tls.Config) (faults []Fault) {
	fault := func(field string, value any, text string) {
		faults = append(faults, Fault{field, value, errors.New(text)})
	}
	if c.MaxVersion != 0 && c.MaxVersion < tls.VersionTLS13 {
		fault("MaxVersion", tls.VersionName(c.MaxVersion), "members speak TLS 1.3: leave MaxVersion at 0")
	}
	if n := len(c.Certificates); n == 0 {
		switch {
		case c.GetCertificate == nil && c.GetClientCertificate == nil:
			fault("Certificates", n, "no certificate: set Certificates, or both GetCertificate and GetClientCertificate, or GetConfigForClient")
		case c.GetCertificate == nil:
			fault("GetCertificate", nil, "nothing gives the certificate that is shown to those who dial this member")
		case c.GetClientCertificate == nil:
			fault("GetClientCertificate", nil, "nothing gives the certificate that is shown to those whom this member dials")
		}
	}
	if c.InsecureSkipVerify {
		if !verifies(c) {
			fault("InsecureSkipVerify", true, "nobody would verify the members that are dialled: set VerifyConnection")
		}
	} else if c.RootCAs == nil && c.ClientCAs == nil {
		fault("RootCAs", nil, "name the CA of the members: those of the system would let in whoever has a certificate of any of them")
	}
	return faults
}
