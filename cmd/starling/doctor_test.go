package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/cmd/starling/internal/doctor"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingstatus"
	"github.com/starling-go/starling/starlingtest"
)

// pagedLab is a cluster in memory whose members have status pages.
type pagedLab struct {
	*starlingtest.Lab
	t     *testing.T
	pages map[string]http.Handler
	flags map[string]*starling.Map[bool]
	ends  []func() // of strangers
}

// inPagedLab runs a body with a cluster of three healthy members. Members that change alters, by name, are started by the body.
func inPagedLab(t *testing.T, change func(name string, c *starling.Config), body func(w *pagedLab)) {
	w := &pagedLab{pages: map[string]http.Handler{}, flags: map[string]*starling.Map[bool]{}}
	o := starlingtest.Options{
		Config: func(name string) (c starling.Config) {
			if change != nil {
				change(name, &c)
			}
			return c
		},
		Open: func(m *starlingtest.Member) (err error) {
			w.flags[m.Name], err = starling.NewMap(m.Cluster, "flags", starling.JSON[bool](), nil)
			if err == nil {
				shown := []starlingstatus.Map{starlingstatus.Sizes(w.flags[m.Name]), starlingstatus.Values(w.flags[m.Name], nil)}
				w.pages[m.Name] = starlingstatus.Handler(m.Cluster, &starlingstatus.Options{Maps: shown})
			}
			return err
		},
	}
	starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
		w.Lab, w.t = l, t
		time.Sleep(10 * time.Second)
		defer func() {
			for _, end := range w.ends {
				end()
			}
		}()
		body(w)
	})
}

// stranger starts a member that the lab does not know, which tries to join m0 until the end of the test.
func (w *pagedLab) stranger(host string, c starling.Config) *starling.Cluster {
	w.t.Helper()
	tr, err := w.Net.Transport(host)
	w.Must(err)
	if c.Transport == nil {
		c.Transport = tr
	}
	if wrapped, ok := c.Transport.(*elsewhere); ok {
		wrapped.Transport = tr
	}
	c.Name = cmp.Or(c.Name, host)
	c.Logger = slog.New(slog.DiscardHandler)
	c.Seeds = append(c.Seeds, w.Member("m0").Cluster.Self().Addr.String())
	m, err := starling.New(c)
	w.Must(err)
	w.pages[host] = starlingstatus.Handler(m, nil)
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		_ = m.Join(ctx) // which may never return nil
	}()
	w.ends = append(w.ends, func() {
		cancel()
		<-joined
		_ = m.Close()
	})
	return m
}

// examine returns what the doctor finds by the pages of members.
func (w *pagedLab) examine(names ...string) []doctor.Finding {
	w.t.Helper()
	var sources []*source
	for _, name := range names {
		sources = append(sources, w.at(name))
	}
	views, failed := look(context.Background(), &options{timeout: time.Second, observer: observerOptions{transport: noTransport{}}}, sources)
	w.Must(errors.Join(failed...))
	return doctor.Examine(views)
}

type noTransport struct{ *starlingtest.Transport }

// expect fails the test unless exactly one fault was found, of these members, in words that contain the texts.
func (w *pagedLab) expect(found []doctor.Finding, fault doctor.Fault, members []string, texts ...string) {
	w.t.Helper()
	all, _ := json.MarshalIndent(found, "", "  ")
	if len(found) != 1 || found[0].Fault != fault || !slices.Equal(found[0].Members, members) {
		w.t.Errorf("want %s of %v alone, found %s", fault, members, all)
	}
	for _, text := range texts {
		if !strings.Contains(string(all), text) {
			w.t.Errorf("it does not say %q: %s", text, all)
		}
	}
}

// TestNothingWrong: a healthy cluster has no finding, and one that has just had a member leave neither.
func TestNothingWrong(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		if found := w.examine("m0", "m1", "m2"); len(found) > 0 {
			w.t.Errorf("found %+v", found)
		}
		w.Leave("m2")
		if found := w.examine("m0", "m1"); len(found) > 0 {
			w.t.Errorf("after a leave: %+v", found)
		}
		w.Start("m2")
		time.Sleep(time.Second)
		if found := w.examine("m0", "m1", "m2"); len(found) > 0 {
			w.t.Errorf("after a start: %+v", found)
		}
	})
}

// TestPacketsBlockedOneWay: packets of m0 do not reach m1; streams do.
func TestPacketsBlockedOneWay(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		k, err := w.Net.Link("m0", "m1")
		w.Must(err)
		k.BlockPackets = true
		w.Must(w.Net.SetLink("m0", "m1", k))
		time.Sleep(30 * time.Second)
		w.expect(w.examine("m0", "m1", "m2"), doctor.NoPackets, []string{"m0", "m1"}, "packets from m0 do not reach m1", "one way")
		w.Must(w.Net.SetLink("m1", "m0", k))
		time.Sleep(30 * time.Second)
		w.expect(w.examine("m0", "m1", "m2"), doctor.NoPackets, []string{"m0", "m1"}, "in neither direction")
	})
}

// TestOtherLabel: by both pages, and by the page of the one that refuses.
func TestOtherLabel(t *testing.T) {
	inPagedLab(t, func(_ string, c *starling.Config) { c.Label = "eu" }, func(w *pagedLab) {
		w.stranger("x", starling.Config{Label: "us"})
		time.Sleep(20 * time.Second)
		w.expect(w.examine("m0", "m1", "x"), doctor.OtherLabel, []string{"m0", "m1", "x"}, `m0, m1 is \"eu\"`, `x is \"us\"`)
		w.expect(w.examine("m0", "m1"), doctor.OtherLabel, []string{"m0"}, "somebody at 10.0.0.4", "us")
		w.expect(w.examine("x"), doctor.LabelOrKeys, []string{"x"})
	})
}

// TestOtherKeys: the same for keys.
func TestOtherKeys(t *testing.T) {
	inPagedLab(t, func(_ string, c *starling.Config) { c.Keys = [][]byte{bytes.Repeat([]byte("a"), 32)} }, func(w *pagedLab) {
		w.stranger("x", starling.Config{Keys: [][]byte{bytes.Repeat([]byte("b"), 32)}})
		time.Sleep(20 * time.Second)
		w.expect(w.examine("m0", "m1", "x"), doctor.OtherKeys, []string{"m0", "m1", "x"}, starling.KeyFingerprint(bytes.Repeat([]byte("b"), 32)))
		w.expect(w.examine("m0", "m1"), doctor.OtherKeys, []string{"m0"}, "somebody at 10.0.0.4")
	})
}

// TestStaleSeed: nobody lives at a seed of m1, and at one address of a seed of two nobody need live.
func TestStaleSeed(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.Member("m1").Cluster.Join(ctx, "10.9.9.9:7946", w.Member("m0").Cluster.Self().Addr.String())
		time.Sleep(time.Minute)
		w.expect(w.examine("m0", "m1", "m2"), doctor.StaleSeed, []string{"m1"}, "10.9.9.9:7946")
	})
}

// elsewhere is a transport that advertises an address where nobody lives.
type elsewhere struct{ *starlingtest.Transport }

func (elsewhere) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(172, 17, 0, 1), 7946, nil
}

// TestAddressOutOfReach: x advertises an address that nobody reaches.
func TestAddressOutOfReach(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		w.stranger("x", starling.Config{Transport: &elsewhere{}})
		for _, after := range []time.Duration{2 * time.Second, 20 * time.Second, 20 * time.Second, time.Minute} {
			time.Sleep(after)
			w.expect(w.examine("m0", "m1", "m2", "x"), doctor.BadAddress, []string{"x"}, "172.17.0.1:7946")
		}
	})
}

// TestSameName: a second m1, seen by both pages, and by the page of m0 alone.
func TestSameName(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		w.stranger("x", starling.Config{Name: "m1"})
		time.Sleep(20 * time.Second)
		w.expect(w.examine("m0", "m1", "m2", "x"), doctor.SameName, []string{"m1"}, "10.0.0.2:7946", "10.0.0.4:7946")
		w.expect(w.examine("m0", "m2"), doctor.SameName, []string{"m1"})
		w.expect(w.examine("m0", "x"), doctor.SameName, []string{"m1"})
	})
}

// ahead is a page whose clock is off.
func ahead(page http.Handler, by time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			page.ServeHTTP(w, r)
			return
		}
		answer, err := inProcess{page}.RoundTrip(r)
		if err != nil {
			panic(err)
		}
		defer answer.Body.Close()
		var s starlingstatus.Status
		if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
			panic(err)
		}
		s.Time = s.Time.Add(by)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s)
	})
}

// TestClock: that of one member is 10 s off, either way.
func TestClock(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		page := w.pages["m1"]
		for by, says := range map[time.Duration]string{10 * time.Second: "10s ahead of", -10 * time.Second: "10s behind"} {
			w.pages["m1"] = ahead(page, by)
			w.expect(w.examine("m0", "m1", "m2"), doctor.WrongClock, []string{"m1"}, says)
			w.expect(w.examine("m1"), doctor.WrongClock, []string{"m1"}, says, "this machine")
			w.expect(w.examine("m0", "m1"), doctor.WrongClock, []string{"m1"}, says)
		}
	})
}

// laterDelegate tells metadata of a later version of Starling, which does not understand this one.
type laterDelegate struct{ meta []byte }

func (d laterDelegate) NodeMeta(int) []byte             { return d.meta }
func (laterDelegate) NotifyMsg([]byte)                  {}
func (laterDelegate) GetBroadcasts(int, int) [][]byte   { return nil }
func (laterDelegate) LocalState(bool) []byte            { return nil }
func (laterDelegate) MergeRemoteState(_ []byte, _ bool) {}

// TestOtherVersion: a member speaks a later version of Starling, and understands none of ours.
func TestOtherVersion(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		tr, err := w.Net.Transport("x")
		w.Must(err)
		meta := wire.EncodeMeta(7, 0, nil)
		meta[3], meta[12] = wire.Version+1, wire.Version+1 // what it speaks, and what it understands
		conf := memberlist.DefaultLANConfig()
		conf.Name, conf.Transport, conf.Delegate, conf.LogOutput = "x", tr, laterDelegate{meta}, io.Discard
		x, err := memberlist.Create(conf)
		w.Must(err)
		_, err = x.Join([]string{w.Member("m0").Cluster.Self().Addr.String()})
		w.Must(err)
		time.Sleep(10 * time.Second)
		w.expect(w.examine("m0", "m1"), doctor.OtherVersion, []string{"m0", "m1", "x"}, "x is foreign to m0: it speaks version 3")
		w.Must(x.Shutdown())
	})
}

// TestSymptoms: what has no known cause is told as it looks: two that do not know each other, one that has crashed.
func TestSymptoms(t *testing.T) {
	inPagedLab(t, nil, func(w *pagedLab) {
		w.StartAlone("alone")
		w.expect(w.examine("m0", "alone"), doctor.Strangers, []string{"alone", "m0"})
		w.Crash("m2")
		time.Sleep(30 * time.Second)
		w.expect(w.examine("m0", "m1"), doctor.Failed, []string{"m2"})
	})
}
