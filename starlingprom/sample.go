package starlingprom

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/starling-go/starling"
)

// naming is how a Collector names its metrics.
type naming struct {
	namespace string
	labels    prometheus.Labels // on all of them
}

// family is the metrics of one name.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (n naming) family(kind prometheus.ValueType, name, help string, labels ...string) *family {
	return &family{prometheus.NewDesc(prometheus.BuildFQName(n.namespace, "", name), help, labels, n.labels), kind}
}

// labelled makes the labels of a metric.
func (f *family) labelled(values ...string) *labels {
	return &labels{prometheus.MakeLabelPairs(f.desc, values)}
}

// labels are those of one metric or of several.
type labels struct{ pairs []*dto.LabelPair }

// measure is how a metric follows from a picture S.
type measure[S any] struct {
	*family
	value func(S) float64
}

func measures[S any](n naming, metrics []metric[S], labels ...string) (list []measure[S]) {
	for _, m := range metrics {
		list = append(list, measure[S]{n.family(m.kind, m.name, m.help, labels...), m.value})
	}
	return list
}

// sample is one value of a metric. It does what prometheus.MustNewConstMetric does, but is small, and made without an allocation: a scrape
// has a thousand of them.
type sample struct {
	*family
	labels *labels
	value  float64
}

func (s *sample) Desc() *prometheus.Desc { return s.desc }

func (s *sample) Write(m *dto.Metric) error {
	m.Label = s.labels.pairs
	if s.kind == counter {
		m.Counter = &dto.Counter{Value: &s.value}
	} else {
		m.Gauge = &dto.Gauge{Value: &s.value}
	}
	return nil
}

// samples returns all values of a picture. The delays are in none.
func (c *Collector) samples(p *picture) []sample {
	list := make([]sample, 0, len(c.member)+len(c.channel)*len(p.stats.Channels)+len(c.inMap)*len(p.maps)+len(c.drops)+len(c.reasons)+16)
	list = appendAll(list, c.member, p, c.own)
	list = append(list, sample{c.peer, c.peer.labelled(p.self.Name, strconv.FormatUint(p.self.ID, 10)), 1})
	for i, l := range c.reasons {
		is := p.health.NotReady != nil && p.health.NotReady.Reason == starling.NotReadyReason(i)
		list = append(list, sample{c.notReady, l, truth(is)})
	}
	for i, l := range c.drops {
		list = append(list, sample{c.dropped, l, float64(p.stats.Dropped[starling.Drop(i)])})
	}
	var s starling.ChannelStats // one for all, since it escapes
	for key := range p.stats.Channels {
		s = p.stats.Channels[key]
		list = appendAll(list, c.channel, &s, c.labels.of(key))
		for d, n := range s.Dropped {
			list = append(list, sample{c.droppedOn, c.droppedOn.labelled(label(d), d.Direction().String(), key), float64(n)})
		}
	}
	for i := range p.maps {
		list = appendAll(list, c.inMap, &p.maps[i].stats, c.labels.of(p.maps[i].key))
	}
	return list
}

// appendAll appends the values that a part of the picture has.
func appendAll[S any](list []sample, metrics []measure[S], part S, l *labels) []sample {
	for i := range metrics {
		list = append(list, sample{metrics[i].family, l, metrics[i].value(part)})
	}
	return list
}

// channelLabels keeps the labels of channels from one scrape to the next, since to make them takes longer than all else.
type channelLabels struct {
	any *family // of those that have them

	mu    sync.Mutex
	byKey map[string]*labels
}

// maxLabels bounds the labels that are kept, of channels that were closed too.
const maxLabels = 4096

func (cl *channelLabels) of(key string) *labels {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	l := cl.byKey[key]
	if l == nil {
		if len(cl.byKey) >= maxLabels {
			clear(cl.byKey)
		}
		l = cl.any.labelled(key)
		cl.byKey[key] = l
	}
	return l
}
