package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// table is a database that takes its time. Its methods may be called concurrently.
type table struct {
	slow time.Duration
	gets atomic.Int64

	mu   sync.Mutex
	rows map[string]string
}

func newTable(slow time.Duration) *table { return &table{slow: slow, rows: map[string]string{}} }

// get reads first and is slow then, so that what it returns may be old already.
func (t *table) get(_ context.Context, key string) (string, error) {
	t.gets.Add(1)
	t.mu.Lock()
	row, ok := t.rows[key]
	t.mu.Unlock()
	time.Sleep(t.slow)
	if !ok {
		return "", otter.ErrNotFound
	}
	return row, nil
}

func (t *table) put(_ context.Context, key, row string) error {
	time.Sleep(t.slow)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[key] = row
	return nil
}

// remote is a table in another process, that serves it by routes.
type remote struct{ addr string }

var client = &http.Client{Timeout: 5 * time.Second}

func (r remote) get(ctx context.Context, key string) (string, error) {
	return r.do(ctx, http.MethodGet, key, "")
}

func (r remote) put(ctx context.Context, key, row string) error {
	_, err := r.do(ctx, http.MethodPut, key, row)
	return err
}

func (r remote) do(ctx context.Context, method, key, body string) (string, error) {
	q, err := http.NewRequestWithContext(ctx, method, "http://"+r.addr+"/rows/"+url.PathEscape(key), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(q)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return "", otter.ErrNotFound
	case resp.StatusCode >= 300:
		return "", fmt.Errorf("the database says %s", resp.Status)
	}
	return string(answer), err
}
