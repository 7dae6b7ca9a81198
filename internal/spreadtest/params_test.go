package spreadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// params are what a measurement is of.
type params struct {
	n, size, count int
	loss           float64
	latency        time.Duration
	seed           uint64
	out            string
	tls            bool

	warmup   int
	patience time.Duration // for one message to reach all
}

const (
	warmup   = 20
	patience = 30 * time.Second
	smallest = 8 // bytes of payload: it says which message it is
)

// readParams returns small, which a plain go test can afford, unless the environment asks for a measurement.
func readParams(lookup func(string) (string, bool), small params) (params, error) {
	small.loss, small.latency, small.seed, small.patience = 0, time.Millisecond, rand.Uint64(), patience
	text, given := lookup("SPREAD_N")
	if !given {
		return small, nil
	}
	p := params{size: 200, count: 100, latency: small.latency, seed: small.seed, warmup: warmup, patience: patience}
	errs := []error{number(&p.n, "SPREAD_N", text, strconv.Atoi)}
	for name, read := range map[string]func(name, text string) error{
		"SPREAD_LOSS": func(name, text string) error {
			return number(&p.loss, name, text, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
		},
		"SPREAD_SIZE":    func(name, text string) error { return number(&p.size, name, text, strconv.Atoi) },
		"SPREAD_COUNT":   func(name, text string) error { return number(&p.count, name, text, strconv.Atoi) },
		"SPREAD_LATENCY": func(name, text string) error { return number(&p.latency, name, text, time.ParseDuration) },
		"SPREAD_TLS":     func(name, text string) error { return number(&p.tls, name, text, strconv.ParseBool) },
		"SPREAD_SEED": func(name, text string) error {
			return number(&p.seed, name, text, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
		},
	} {
		if text, given := lookup(name); given {
			errs = append(errs, read(name, text))
		}
	}
	p.out, _ = lookup("SPREAD_OUT")
	return p, errors.Join(append(errs, p.validate())...)
}

func number[T any](to *T, name, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s is %q: %w", name, text, err)
	}
	*to = v
	return nil
}

func (p params) validate() error {
	switch {
	case p.n < 2:
		return fmt.Errorf("SPREAD_N is %d: a message spreads among at least 2 members", p.n)
	case !(p.loss >= 0 && p.loss <= 1):
		return fmt.Errorf("SPREAD_LOSS is %v: not between 0 and 1", p.loss)
	case p.size < smallest:
		return fmt.Errorf("SPREAD_SIZE is %d: a payload has at least %d bytes", p.size, smallest)
	case p.count < 1:
		return fmt.Errorf("SPREAD_COUNT is %d: nothing to measure", p.count)
	case p.latency < 0:
		return fmt.Errorf("SPREAD_LATENCY is %v: negative", p.latency)
	}
	return nil
}

// result is the line that a measurement writes.
type result struct {
	TLS                   bool    `json:"tls"`
	N                     int     `json:"n"`
	Loss                  float64 `json:"loss"`
	Size                  int     `json:"size"`
	Count                 int     `json:"count"`
	Delivered             float64 `json:"delivered"`
	Duplicates            int     `json:"duplicates"`
	ToAllP50              float64 `json:"to_all_ms_p50"`
	ToAllMax              float64 `json:"to_all_ms_max"`
	ColdToAllMax          float64 `json:"cold_to_all_ms_max"`
	MemberP50             float64 `json:"member_ms_p50"`
	MemberP99             float64 `json:"member_ms_p99"`
	ReceptionsPerDelivery float64 `json:"receptions_per_delivery"`
	SendsPerDelivery      float64 `json:"sends_per_delivery"`
	BytesPerDelivery      float64 `json:"bytes_per_delivery"`
	Gaps                  int     `json:"gaps"`
}

// appendTo appends r to a file as one line.
func (r result) appendTo(path string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
