package starlingprom

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// metric is one number of a picture S.
type metric[S any] struct {
	name  string
	kind  prometheus.ValueType
	value func(S) float64
	help  string
}

// memberMetrics are of the member as a whole.
var memberMetrics = []metric[*picture]{
	{"cluster_members", gauge, func(p *picture) float64 { return float64(p.stats.Members) }, "Live members that this one sees, itself included."},
	{"cluster_foreign_members", gauge, func(p *picture) float64 { return float64(p.stats.Foreign) }, "Live members that do not speak Starling."},
	{"cluster_silent_members", gauge, func(p *picture) float64 { return float64(len(p.health.Silent)) },
		"Live members that have answered this one nothing for long."},
	{"peer_position", gauge, func(p *picture) float64 { return float64(p.position) }, "Position of this member among the live ones, from 0, by name."},
	{"ready", gauge, func(p *picture) float64 { return truth(p.health.NotReady == nil) }, "Whether this member is ready to serve: 1, or 0."},
	{"keys_lagging_members", gauge, func(p *picture) float64 { return float64(len(p.keys.Lagging)) },
		"Live members that are not known to accept the key that this one wants to send by."},

	{"cluster_messages_queued", gauge, func(p *picture) float64 { return float64(p.stats.Queue.Messages) },
		"Messages of this member that were accepted and are not finished."},
	{"cluster_queued_bytes", gauge, func(p *picture) float64 { return float64(p.stats.Queue.Bytes) }, "Bytes of those messages."},
	{"cluster_queue_oldest_seconds", gauge, func(p *picture) float64 { return p.stats.Queue.Oldest.Seconds() }, "Age of the oldest of those messages."},
	{"history_messages", gauge, func(p *picture) float64 { return float64(p.stats.History.Messages) },
		"Messages that are kept for members that missed them, and for handlers."},
	{"history_bytes", gauge, func(p *picture) float64 { return float64(p.stats.History.Bytes) }, "Bytes of them as charged against Retention.Bytes."},

	{"messages_relayed_total", counter, func(p *picture) float64 { return float64(p.stats.Relayed) }, "Messages of others that were passed on."},
	{"messages_repaired_total", counter, func(p *picture) float64 { return float64(p.stats.Repaired) }, "Messages that were sent because somebody lacked them."},
	{"messages_lost_total", counter, func(p *picture) float64 { return float64(p.stats.Lost) },
		"Messages that this member was owed and nobody has any more: gaps."},

	{"packets_sent_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketsSent) }, "Packets given to the network."},
	{"packets_received_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketsReceived) },
		"Packets that came from an allowed source."},
	{"packet_sent_bytes_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketBytesSent) }, "Bytes in packets that were sent."},
	{"packet_received_bytes_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketBytesReceived) },
		"Bytes in packets that were received."},
	{"packets_refused_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketsRefused) },
		"Packets from outside the allowed networks."},
	{"packets_dropped_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketsDropped) },
		"Received packets that were empty, or caught by the shutdown."},
	{"packet_errors_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketErrors) },
		"Packets that could not be written, and failed reads of the socket."},
	{"streams_dialed_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamsDialed) }, "Streams opened to other members."},
	{"streams_accepted_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamsAccepted) },
		"Streams opened by other members."},
	{"streams_reused_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamsReused) },
		"Messages that went by a connection that was open already."},
	{"streams_refused_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamsRefused) },
		"Streams from outside the allowed networks."},
	{"stream_errors_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamErrors) },
		"Dials and accepts that failed, and streams that took no deadline."},
	{"stream_sent_bytes_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamBytesSent) }, "Bytes written to streams."},
	{"stream_received_bytes_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.StreamBytesReceived) },
		"Bytes read from streams."},
	{"packets_unsent_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.PacketsUnsent) },
		"With TLS: of the packets sent, those that no connection took."},
	{"tls_links_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.TLSLinks) },
		"With TLS: connections opened to other members for packets."},
	{"tls_refused_total", counter, func(p *picture) float64 { return float64(p.stats.Traffic.TLSRefused) },
		"With TLS: connections whose handshake failed on either side."},
}

// channelMetrics are of each channel that is open, a Map's and a State's too.
var channelMetrics = []metric[*starling.ChannelStats]{
	{"channel_messages_accepted_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Accepted) },
		"Messages that this member has accepted for sending."},
	{"channel_messages_sent_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Sent) }, "Messages that have left this member."},
	{"channel_messages_superseded_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Superseded) },
		"Messages that a newer one replaced before they left."},
	{"channel_messages_received_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Received) },
		"Messages that arrived for the first time; of a Map also those by which members compare it."},
	{"channel_messages_duplicate_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Duplicates) },
		"Messages that arrived again, and were not delivered again."},
	{"channel_messages_delivered_total", counter, func(s *starling.ChannelStats) float64 { return float64(s.Delivered) },
		"Messages that the handler has returned from."},
	{"channel_inbox_messages", gauge, func(s *starling.ChannelStats) float64 { return float64(s.Inbox) }, "Messages that wait for the handler."},
	{"channel_deferred_messages", gauge, func(s *starling.ChannelStats) float64 { return float64(s.Deferred) },
		"Messages that wait for their turn, or for the first state."},
	{"channel_handler_seconds_total", counter, func(s *starling.ChannelStats) float64 { return s.HandlerTime.Seconds() },
		"Time spent in the handler, in calls that have returned."},
	{"channel_handler_running_seconds", gauge, func(s *starling.ChannelStats) float64 { return s.Running.Seconds() },
		"For how long the handler has been running; 0: it is not."},
	{"channel_state_differing_members", gauge, func(s *starling.ChannelStats) float64 { return float64(s.Differing) },
		"Members whose state is not known to be equal to this one's."},
}

// mapMetrics are of each Map in Options.Maps.
var mapMetrics = []metric[*starling.MapStats]{
	{"map_entries", gauge, func(s *starling.MapStats) float64 { return float64(s.Entries) }, "Keys with a value."},
	{"map_hidden_entries", gauge, func(s *starling.MapStats) float64 { return float64(s.Hidden) },
		"Entries that are held and not read, of an owned Map."},
	{"map_bytes", gauge, func(s *starling.MapStats) float64 { return float64(s.Bytes) }, "Bytes as charged against MapOptions.MaxBytes."},
	{"map_tombstones", gauge, func(s *starling.MapStats) float64 { return float64(s.Tombstones) }, "Deletions that are remembered."},
	{"map_clock_skew_seconds", gauge, func(s *starling.MapStats) float64 { return s.Skew.Seconds() },
		"How far the clock of another member was ahead of ours at most, lately."},
	{"map_comparisons_total", counter, func(s *starling.MapStats) float64 { return float64(s.Compared) },
		"Comparisons with other members that came to their end."},
	{"map_comparisons_unequal_total", counter, func(s *starling.MapStats) float64 { return float64(s.Unequal) },
		"Those of them that found a difference."},
	{"map_entries_fetched_total", counter, func(s *starling.MapStats) float64 { return float64(s.Fetched) }, "Entries that comparisons have brought."},
	{"map_entries_refused_total", counter, func(s *starling.MapStats) float64 { return float64(s.Refused) },
		"Entries of others that are not here: beyond the bounds, or undecodable."},
	{"map_entries_dropped_total", counter, func(s *starling.MapStats) float64 { return float64(s.Dropped) },
		"Entries dropped because this member was away for longer than deletions are remembered."},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// enum is a number with a name, as starling.Drop.
type enum interface {
	~int
	String() string
}

// named returns the values of an enumeration: those from 0 on that have a name, for all others are printed as "starling.Drop(99)".
func named[E enum]() (list []E) {
	for e := E(0); !strings.Contains(e.String(), "("); e++ {
		list = append(list, e)
	}
	return list
}

// label returns the name of a value as the value of a label: "written_off".
func label[E enum](e E) string { return strings.ReplaceAll(e.String(), " ", "_") }
