package starlingstatus

import (
	"encoding/json"
	"time"
)

// A Status is what one member sees and has done: what the page shows. Counters start with the member and only grow.
type Status struct {
	Time     time.Time    `json:"time"`               // of the picture
	Self     string       `json:"self"`               // name of the member whose picture it is
	Ready    bool         `json:"ready"`              // see starling.Cluster.Ready
	NotReady *NotReady    `json:"notReady,omitempty"` // why it is not
	Members  []Member     `json:"members"`            // the live ones, by name
	Channels []Channel    `json:"channels"`           // those that are open, by key; those of maps too
	Drops    []Drop       `json:"drops"`              // what was not delivered or not sent, inbound first
	Maps     []MapState   `json:"maps"`               // those of Options.Maps
	Queue    Queue        `json:"queue"`              // accepted and not finished sending
	History  History      `json:"history"`            // kept for members that missed it
	Lost     uint64       `json:"lost"`               // messages that the member was owed and nobody has any more
	Relayed  uint64       `json:"relayed"`            // messages of others that were sent on
	Repaired uint64       `json:"repaired"`           // messages that were sent because somebody lacked them
	Traffic  Traffic      `json:"traffic"`
	Gaps     []Gap        `json:"gaps"`              // the last 100 since the handler was made, newest first
	Happened []Event      `json:"happened"`          // the last 100 changes of the membership since then, newest first
	Keys     *Keys        `json:"keys,omitempty"`    // nil: it has no keys
	Label    string       `json:"label,omitempty"`   // starling.Config.Label
	Seeds    []Seed       `json:"seeds,omitempty"`   // those at which no member answers; see starling.Contacts
	Refused  []Refusal    `json:"refused,omitempty"` // bytes of others that were refused, by reason
	Probe    ProbeOptions `json:"probe"`
}

// A Change is a Status in which Members are only those that are new, or not as they were in the event before; Gone are the names of
// those that are no members any more. All else is as in a Status: whole.
type Change struct {
	Status
	Gone []string `json:"gone,omitempty"`
}

// NotReady tells why a member is not ready, as starling.NotReadyError does.
type NotReady struct {
	Reason  string   `json:"reason"`            // "join", "alone", "members", "state", "unsettled" or "closed"
	Text    string   `json:"text"`              // the same for people
	Channel string   `json:"channel,omitempty"` // whose state is waited for, by its key
	OfMap   bool     `json:"ofMap,omitempty"`   // the key is that of a map
	Members []string `json:"members,omitempty"` // who is waited for
	Have    int      `json:"have,omitempty"`    // how many members there are, if Config.MinMembers is waited for
	Want    int      `json:"want,omitempty"`
}

// The states of a Member.
const (
	StateAlive   = "alive"
	StateSilent  = "silent"  // it is a member, and has answered nothing for long
	StateForeign = "foreign" // it does not speak this version of Starling
)

// A Member is one participant of the cluster.
type Member struct {
	Name    string   `json:"name"`
	ID      string   `json:"id,omitempty"` // of this run of it, 16 hex digits; empty: it is foreign
	Addr    string   `json:"addr"`
	State   string   `json:"state"`
	Self    bool     `json:"self,omitempty"`
	RTT     Duration `json:"rttMs,omitempty"`   // of the last probe by memberlist; 0: there was none
	Heard   Duration `json:"heardMs,omitempty"` // how long ago its last packet came; 0: none did. That it grows or shrinks is told to no listener
	Version int      `json:"version,omitempty"` // of Starling's wire
	Zone    string   `json:"zone,omitempty"`    // by Options.Zone
	Meta    string   `json:"meta,omitempty"`    // by Options.Meta
	Key     string   `json:"key,omitempty"`     // fingerprint of the key that it sends by
	Lagging bool     `json:"lagging,omitempty"` // it is not known to accept the key that this member wants to use
}

// A Seed is one at which no member has answered when it was tried last.
type Seed struct {
	Seed  string `json:"seed"`
	Error string `json:"error"`
}

// A Refusal is bytes of others that were refused for one reason; see starling.Refusal.
type Refusal struct {
	Reason string    `json:"reason"` // "label", "keys" or "other"
	Count  uint64    `json:"count"`
	From   string    `json:"from"` // where the last came from
	Last   time.Time `json:"last"`
	Said   string    `json:"said"`
}

// A Channel is what one channel did on this member; see starling.ChannelStats.
type Channel struct {
	Key         string   `json:"key"`
	Accepted    uint64   `json:"accepted"`
	Sent        uint64   `json:"sent"`
	Queued      uint64   `json:"queued"` // accepted, not superseded, and not sent yet
	Superseded  uint64   `json:"superseded"`
	Received    uint64   `json:"received"`
	Duplicates  uint64   `json:"duplicates"`
	Delivered   uint64   `json:"delivered"`
	Inbox       int      `json:"inbox"`
	Deferred    int      `json:"deferred"`
	HandlerTime Duration `json:"handlerMs"`     // spent in the handler, in all
	HandlerMean Duration `json:"handlerMeanMs"` // the same for one message
	Running     Duration `json:"runningMs"`     // for how long the handler has been running
	Differing   int      `json:"differing"`     // members whose state is not known to be equal
	Drops       []Drop   `json:"drops"`         // of Status.Drops, those that are known to be of this channel
}

// A Drop is how often something was dropped for one reason; see starling.Drop.
type Drop struct {
	Reason    string `json:"reason"`
	Direction string `json:"direction"` // "inbound" or "outbound"
	Count     uint64 `json:"count"`
}

// A MapState is the size of a map and, if it was made by [Values], its first values.
type MapState struct {
	Key        string   `json:"key"`
	Entries    int      `json:"entries"`
	Hidden     int      `json:"hidden"`
	Bytes      int      `json:"bytes"`
	Tombstones int      `json:"tombstones"`
	Skew       Duration `json:"skewMs"`
	Compared   uint64   `json:"compared"`
	Unequal    uint64   `json:"unequal"`
	Fetched    uint64   `json:"fetched"`
	Refused    uint64   `json:"refused"`
	Dropped    uint64   `json:"dropped"`
	Values     []Value  `json:"values,omitempty"` // at most 100, by key
}

// A Value is an entry of a map, as text. What is longer than 200 bytes is cut off and ends in "…".
type Value struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Queue is what the member has accepted and not finished sending.
type Queue struct {
	Messages int      `json:"messages"`
	Bytes    int      `json:"bytes"`
	Oldest   Duration `json:"oldestMs"` // age of the oldest
}

// History is what the member keeps for those that missed it.
type History struct {
	Messages int `json:"messages"`
	Bytes    int `json:"bytes"`
}

// Traffic is what the member's transport has carried; see starling.Traffic, whose fields it has.
type Traffic struct {
	PacketsSent         uint64 `json:"packetsSent"`
	PacketsReceived     uint64 `json:"packetsReceived"`
	PacketBytesSent     uint64 `json:"packetBytesSent"`
	PacketBytesReceived uint64 `json:"packetBytesReceived"`
	PacketsRefused      uint64 `json:"packetsRefused"`
	PacketsDropped      uint64 `json:"packetsDropped"`
	PacketErrors        uint64 `json:"packetErrors"`
	StreamsDialed       uint64 `json:"streamsDialed"`
	StreamsReused       uint64 `json:"streamsReused"`
	StreamsAccepted     uint64 `json:"streamsAccepted"`
	StreamsRefused      uint64 `json:"streamsRefused"`
	StreamErrors        uint64 `json:"streamErrors"`
	StreamBytesSent     uint64 `json:"streamBytesSent"`
	StreamBytesReceived uint64 `json:"streamBytesReceived"`
	PacketsUnsent       uint64 `json:"packetsUnsent"`
	TLSLinks            uint64 `json:"tlsLinks"`
	TLSRefused          uint64 `json:"tlsRefused"`
}

// A Gap is messages that are lost to the member; see starling.Gap.
type Gap struct {
	Time    time.Time `json:"time"`   // when it was told
	Origin  string    `json:"origin"` // name of the member that broadcast them
	First   uint64    `json:"first"`
	Last    uint64    `json:"last"`
	Skipped int       `json:"skipped,omitempty"` // gaps before this one that were not told
}

// An Event is a change of the membership, or of what is known of a state; see starling.Event.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // as starling.EventKind says it
	Member  string    `json:"member,omitempty"`
	Channel string    `json:"channel,omitempty"`
	Text    string    `json:"text"` // for people
}

// Keys is which keys the member has, by their fingerprints; see starling.KeyringStatus.
type Keys struct {
	Uses    string   `json:"uses"`
	Wants   string   `json:"wants"`
	Accepts []string `json:"accepts"`
	Dropped []string `json:"dropped,omitempty"`
	Lagging []string `json:"lagging,omitempty"` // names of members that are not known to accept Wants
}

// ProbeOptions tells whether there is a probe.
type ProbeOptions struct {
	Channel string `json:"channel,omitempty"` // key of its channel
	Off     string `json:"off,omitempty"`     // why there is none; empty: there is
}

// A Probe is what became of an empty message: who holds it, and how long members take to answer.
type Probe struct {
	Time      time.Time `json:"time"`            // when it began
	Confirmed bool      `json:"confirmed"`       // every member holds the message
	Took      Duration  `json:"tookMs"`          // until that was known, or until it was given up
	Error     string    `json:"error,omitempty"` // why nothing was sent
	Answers   []Answer  `json:"answers"`         // of every other member: first those that lack it, then the slowest
}

// An Answer is what a probe has learnt of one member.
type Answer struct {
	Member string   `json:"member"`
	ID     string   `json:"id,omitempty"`
	Lacks  string   `json:"lacks,omitempty"` // why it is not known to hold the message, as starling.MissingReason says it, or "foreign"; empty: it holds it
	RTT    Duration `json:"rttMs,omitempty"` // of an empty message to it alone; 0: it has not answered that
	Error  string   `json:"error,omitempty"` // why there is no answer, as starling.SendReason says it
}

// A Duration is a time that is a number of milliseconds in JSON.
type Duration time.Duration

// MarshalJSON returns d in milliseconds, to the microsecond.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(d).Microseconds()) / 1000)
}

// UnmarshalJSON takes milliseconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	*d = Duration(ms * float64(time.Millisecond))
	return nil
}

// String returns d as people write it, with three digits or so: "1.25ms".
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= time.Minute {
		return t.Round(time.Second).String()
	}
	step := time.Microsecond
	for t >= 1000*step {
		step *= 10
	}
	return t.Round(step).String()
}
