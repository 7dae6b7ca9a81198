package starlingprom

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// filler gives every number of a value another one, and notes where each went.
type filler struct {
	t    *testing.T
	last int64
	path map[float64]string // by what a metric should say
}

func (f *filler) fill(v reflect.Value, path string) {
	f.last++
	switch v.Interface().(type) {
	case time.Duration:
		v.SetInt(f.last * int64(time.Second))
		f.path[float64(f.last)] = path
		return
	case map[string]starling.ChannelStats:
		s := reflect.New(v.Type().Elem()).Elem()
		f.fill(s, path+"[key]")
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), s)
		return
	case map[starling.Drop]uint64:
		v.Set(reflect.MakeMap(v.Type()))
		for _, d := range named[starling.Drop]() {
			f.last++
			v.SetMapIndex(reflect.ValueOf(d), reflect.ValueOf(uint64(f.last)))
			f.path[float64(f.last)] = fmt.Sprintf("%s[%v]", path, d)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(f.last)
		f.path[float64(f.last)] = path
	case reflect.Uint64:
		v.SetUint(uint64(f.last))
		f.path[float64(f.last)] = path
	default:
		f.t.Fatalf("%s is a %s: teach this test, and the Collector, what it means", path, v.Type())
	}
}

// TestEveryCounterIsShown: whoever adds a field to Stats, or to what it is made of, or a reason for drops, and forgets the Collector is told here.
func TestEveryCounterIsShown(t *testing.T) {
	f := &filler{t: t, last: 1000, path: map[float64]string{}}
	p := &picture{maps: []mapPicture{{key: "map"}}}
	f.fill(reflect.ValueOf(&p.stats).Elem(), "Stats")
	f.fill(reflect.ValueOf(&p.maps[0].stats).Elem(), "MapStats")
	shown := map[float64]int{}
	for _, s := range New(nil, nil).samples(p) {
		shown[s.value]++
	}
	for value, path := range f.path {
		if shown[value] != 1 {
			t.Errorf("%s is shown %d times", path, shown[value])
		}
	}
	if len(f.path) < 75 {
		t.Errorf("only %d numbers were looked for", len(f.path))
	}
}

// TestEnumerations: all reasons are known, and their names are labels as they should be.
func TestEnumerations(t *testing.T) {
	drops, reasons := named[starling.Drop](), named[starling.NotReadyReason]()
	if got := drops[len(drops)-1]; got != starling.DropPacketFailed {
		t.Errorf("the last reason for drops is %v", got)
	}
	if got := reasons[len(reasons)-1]; got != starling.NotReadyClosed {
		t.Errorf("the last reason for being not ready is %v", got)
	}
	if got := label(starling.DropWrittenOff); got != "written_off" {
		t.Errorf("a label is %q", got)
	}
}

// gathered is what a scrape has brought, by name.
type gathered map[string]*dto.MetricFamily

func gather(t *testing.T, c prometheus.Collector) gathered {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	g := gathered{}
	for _, family := range families {
		g[family.GetName()] = family
	}
	return g
}

// get returns the one value of a metric with these labels, such as "channel=prices", or nil.
func (g gathered) get(name string, labels ...string) *dto.Metric {
	for _, m := range g[name].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if all := strings.Join(have, ","); all == strings.Join(labels, ",") {
			return m
		}
	}
	return nil
}

func (g gathered) value(name string, labels ...string) float64 {
	if m := g.get(name, labels...); m.GetCounter() != nil {
		return m.GetCounter().GetValue()
	} else if m != nil {
		return m.GetGauge().GetValue()
	}
	return -1
}

// member is one with a channel and a Map, and what it shows.
type member struct {
	prices  *starling.Channel[[]byte]
	flags   *starling.Map[string]
	metrics *Collector
}

func openMember(c *starling.Cluster, o Options) (m *member, err error) {
	m = &member{}
	if m.flags, err = starling.NewMap(c, "flags", starling.JSON[string](), nil); err != nil {
		return nil, err
	}
	o.Maps = []Map{m.flags}
	m.metrics = New(c, &o)
	show := func(context.Context, starling.Message[[]byte]) {}
	m.prices, err = starling.NewChannelOf(c, "prices", Handler(m.metrics, "prices", show), starling.Bytes(), nil)
	return m, err
}

// TestCluster: what members of a cluster show while it works, while it is cut, and when it is over.
func TestCluster(t *testing.T) {
	members := map[string]*member{}
	open := func(m *starlingtest.Member) (err error) {
		members[m.Name], err = openMember(m.Cluster, Options{})
		return err
	}
	starlingtest.Run(t, 4, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		want := func(when, name string, value float64, labels ...string) {
			t.Helper()
			if got := gather(t, members["m0"].metrics).value(name, labels...); got != value {
				t.Errorf("%s: %s%v is %v, want %v", when, name, labels, got, value)
			}
		}
		l.Must(members["m0"].prices.Confirm(t.Context(), []byte("1"), &starling.ConfirmOptions{Handled: true}))
		l.Must(members["m1"].prices.Confirm(t.Context(), []byte("2"), &starling.ConfirmOptions{Handled: true}))
		l.Must(members["m1"].flags.Confirm(t.Context(), "dark", "on", &starling.ConfirmOptions{Handled: true}))
		l.Must(members["m1"].prices.Send(t.Context(), "m0", []byte("3")))
		time.Sleep(time.Second)
		want("whole", "starling_cluster_members", 4)
		want("whole", "starling_ready", 1)
		want("whole", "starling_not_ready", 0, "reason=members")
		want("whole", "starling_peer_position", 0)
		want("whole", "starling_channel_messages_accepted_total", 1, "channel=prices")
		want("whole", "starling_channel_messages_delivered_total", 2, "channel=prices")
		want("whole", "starling_map_entries", 1, "channel=flags")
		want("whole", "starling_messages_dropped_total", 0, "direction=outbound", "reason=written_off")
		delay := gather(t, members["m0"].metrics).get("starling_delivery_delay_seconds", "channel=prices").GetHistogram()
		if delay.GetSampleCount() != 1 || delay.Schema == nil || len(delay.Bucket) != len(DefaultBuckets()) {
			t.Errorf("the delay of the one message that says its age: %v", delay)
		}
		l.Must(l.Net.Partition([]string{"m0"}, []string{"m1", "m2", "m3"}))
		time.Sleep(3 * time.Second)
		want("not noticed yet", "starling_cluster_silent_members", 0)
		time.Sleep(time.Minute)
		want("cut", "starling_cluster_members", 1)
		l.Must(members["m0"].metrics.cluster.Close())
		want("closed", "starling_ready", 0)
		want("closed", "starling_not_ready", 1, "reason=closed")
		want("closed", "starling_cluster_members", 1)
	})
}

// TestTwoInOneProcess: members of one process are told apart by labels, and not without.
func TestTwoInOneProcess(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(New(nil, &Options{ConstLabels: prometheus.Labels{"cluster": "a"}})); err != nil {
		t.Error(err)
	}
	if err := registry.Register(New(nil, &Options{ConstLabels: prometheus.Labels{"cluster": "b"}})); err != nil {
		t.Error(err)
	}
	if err := registry.Register(New(nil, &Options{ConstLabels: prometheus.Labels{"cluster": "b"}})); err == nil {
		t.Error("two without a difference are registered")
	}
	if err := registry.Register(New(nil, &Options{ConstLabels: prometheus.Labels{"channel": "b"}})); err == nil {
		t.Error("a label that metrics have is registered")
	}
}

// TestConstLabels: they are on all that is shown.
func TestConstLabels(t *testing.T) {
	c := New(nil, &Options{ConstLabels: prometheus.Labels{"cluster": "a"}})
	p := &picture{maps: []mapPicture{{key: "map"}}}
	(&filler{t: t, path: map[float64]string{}}).fill(reflect.ValueOf(&p.stats).Elem(), "Stats")
	for _, s := range c.samples(p) {
		m := &dto.Metric{}
		if err := s.Write(m); err != nil || !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "cluster" }) {
			t.Errorf("%v lacks it: %v %v", s.Desc(), m, err)
		}
	}
}

// TestAged: what does not say how old it is counts for no delay.
func TestAged(t *testing.T) {
	c := New(nil, &Options{Buckets: []float64{}})
	handled := 0
	handle := Handler(c, "k", func(context.Context, starling.Message[int]) { handled++ })
	for i, m := range []starling.Message[int]{
		{Via: starling.ViaGossip, Seq: 1}, {Via: starling.ViaStream, Seq: 1}, {Via: starling.ViaRepair, Seq: 1}, {Via: starling.ViaGossip},
		{Via: starling.ViaSync, Seq: 1}, {Via: starling.ViaDirect}, {Via: starling.ViaEcho, Seq: 1},
	} {
		m.Age = time.Second << i
		handle(t.Context(), m)
	}
	families := make(chan prometheus.Metric, 1)
	c.delay.Collect(families)
	m := &dto.Metric{}
	if err := (<-families).Write(m); err != nil {
		t.Fatal(err)
	}
	if h := m.GetHistogram(); handled != 7 || h.GetSampleCount() != 3 || h.GetSampleSum() != 1+2+4 || len(h.GetBucket()) != 0 {
		t.Errorf("of %d messages: %v", handled, h)
	}
}
