package starling_test

import (
	"crypto/tls"
	"sync"
)

// reloaded is a configuration that changes while it is used.
type reloaded struct {
	mu  sync.Mutex
	now *tls.Config
}

func (r *reloaded) set(c *tls.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = c
}

func (r *reloaded) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now, nil
	}}
}
