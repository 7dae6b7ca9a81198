package starlingprom

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

// DefaultNamespace is how the names of metrics begin.
const DefaultNamespace = "starling"

// Options say what a Collector shows, and by which names. The zero value will do.
type Options struct {
	// Namespace is how the names of the metrics begin. Default DefaultNamespace. "alertmanager" gives those that mean the same as metrics
	// of Alertmanager's cluster package the same names.
	Namespace string
	// ConstLabels are on every metric. They tell the members apart where one process has several: for each a Collector, with other labels.
	ConstLabels prometheus.Labels
	// Maps are those whose MapStats are shown. As channels, all that are open are shown.
	Maps []Map
	// Buckets are the upper bounds, in seconds and ascending, of the classic buckets of the delay, beside the native ones: for a
	// Prometheus that does not take those. Default DefaultBuckets; an empty list that is not nil: none.
	Buckets []float64
}

// Map is what a Collector needs of a Map. A *starling.Map is one.
type Map interface {
	Key() string
	Stats() starling.MapStats
}

// A Collector shows one member to Prometheus: register it. Its methods may be called concurrently, before Join and after Close, when
// it goes on showing the last picture.
type Collector struct {
	cluster *starling.Cluster
	maps    []Map

	member  []measure[*picture]
	channel []measure[*starling.ChannelStats]
	inMap   []measure[*starling.MapStats]

	peer, notReady, dropped, droppedOn *family

	own     *labels       // of what is of the whole member
	labels  channelLabels // of what is of a channel
	drops   []*labels     // of each starling.Drop
	reasons []*labels     // of each starling.NotReadyReason

	delay *prometheus.HistogramVec
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a Collector for a member. It starts nothing. o may be nil. An error in the options, such as a label that is no label, is
// told by Prometheus when the Collector is registered. Buckets that do not ascend panic, as they do in Prometheus' own histograms.
func New(c *starling.Cluster, o *Options) *Collector {
	if o == nil {
		o = &Options{}
	}
	n := naming{cmp.Or(o.Namespace, DefaultNamespace), o.ConstLabels}
	m := &Collector{
		cluster:  c,
		maps:     o.Maps,
		member:   measures(n, memberMetrics),
		channel:  measures(n, channelMetrics, "channel"),
		inMap:    measures(n, mapMetrics, "channel"),
		peer:     n.family(gauge, "cluster_peer_info", "Always 1: the name of this member, and the id of this run of it, as in the log.", "peer", "id"),
		notReady: n.family(gauge, "not_ready", "Whether this member is not ready for this reason: 1, or 0.", "reason"),
		dropped:  n.family(counter, "messages_dropped_total", "What was not delivered or not sent, and why.", "reason", "direction"),
		droppedOn: n.family(counter, "channel_messages_dropped_total",
			"Of these, what is known to be of an open channel; it is absent until something is.", "reason", "direction", "channel"),
		delay: newDelay(n, o.Buckets),
	}
	m.own = m.member[0].labelled()
	m.labels = channelLabels{any: m.channel[0].family, byKey: map[string]*labels{}}
	for _, d := range named[starling.Drop]() {
		m.drops = append(m.drops, m.dropped.labelled(label(d), d.Direction().String()))
	}
	for _, r := range named[starling.NotReadyReason]() {
		m.reasons = append(m.reasons, m.notReady.labelled(label(r)))
	}
	return m
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range []*family{c.peer, c.notReady, c.dropped, c.droppedOn} {
		descs <- f.desc
	}
	describe(descs, c.member)
	describe(descs, c.channel)
	describe(descs, c.inMap)
	c.delay.Describe(descs)
}

func describe[S any](descs chan<- *prometheus.Desc, metrics []measure[S]) {
	for _, m := range metrics {
		descs <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	samples := c.samples(c.take())
	for i := range samples {
		metrics <- &samples[i]
	}
	c.delay.Collect(metrics)
}

// picture is what a member tells when it is asked.
type picture struct {
	self     starling.Member
	position int
	stats    starling.Stats
	health   starling.Health
	keys     starling.KeyringStatus
	maps     []mapPicture
}

type mapPicture struct {
	key   string
	stats starling.MapStats
}

func (c *Collector) take() *picture {
	p := &picture{
		self: c.cluster.Self(), stats: c.cluster.Stats(), health: c.cluster.Health(), keys: c.cluster.Keyring().Status(),
		maps: make([]mapPicture, len(c.maps)),
	}
	p.position, _ = c.cluster.Position()
	for i, m := range c.maps {
		p.maps[i] = mapPicture{m.Key(), m.Stats()}
	}
	return p
}
