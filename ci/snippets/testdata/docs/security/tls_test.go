package security

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// TestClusterTLS: two members with the files of one CA are a cluster, and a third with those of another one is told why it is none.
func TestClusterTLS(t *testing.T) {
	dirs := map[string]string{"m0": files(t), "other": files(t)}
	dirs["m1"] = dirs["m0"]
	config := func(name string) starling.Config {
		return starling.Config{TLS: ClusterTLS(dirs[name], "cluster.internal")}
	}
	starlingtest.Run(t, 2, starlingtest.Options{Config: config}, func(t *testing.T, l *starlingtest.Lab) {
		other, err := l.Net.Transport("other")
		l.Must(err)
		cfg := config("other")
		cfg.Transport = other
		c, err := starling.New(cfg)
		l.Must(err)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := c.Join(ctx, l.Member("m0").Cluster.Self().Addr.String()); err == nil {
			t.Error("a stranger has joined")
		}
		l.WaitAll(time.Second)
	})
}

// files writes the files of a member: its certificate is its own CA.
func files(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"cluster.internal"}, IsCA: true, BasicConstraintsValid: true,
		// Bubbles begin in the year 2000.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: der},
		"ca.crt":  {Type: "CERTIFICATE", Bytes: der},
		"tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
