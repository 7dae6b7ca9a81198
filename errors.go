package starling

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-go/starling/internal/replica"
)

// ErrClosed is what the methods of a Cluster and of its channels return once Leave or Close has begun, and those of a Channel after its
// own Close too. Members, Self, Position and Stats keep the last picture; Events ends; Leave and Close may be called again.
// errors.Is(err, net.ErrClosed) holds for it too. There is no way back: make a new Cluster.
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "starling: closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

// ErrInHandler is returned by Leave when it is called with the context of a handler that is running, or with one made of that: it would wait
// for that handler for ever. Let another goroutine call it, with a context of its own.
var ErrInHandler = errors.New("starling: called in a handler, whose end it would wait for; let another goroutine do it, with another context")

// ErrQueueFull is returned by TryBroadcast, and by StateChannel.Broadcast, when what this member still has to send leaves
// no room for another message. The message was not accepted. Try again later, or use Broadcast, which waits.
var ErrQueueFull = errors.New("starling: queue full")

// ErrNilMessage is returned when a nil message is given to Broadcast, TryBroadcast, Confirm or Send of a protobuf channel.
var ErrNilMessage = errors.New("starling: nil message")

// ErrChannelKey is matched by the *ConfigError of the key of a channel or Map that is empty, longer than 255 bytes, no UTF-8, or
// open already.
var ErrChannelKey = errors.New("starling: channel key")

// named names a channel, or a Map, in the text of an error.
func named(ofMap bool, key string) string {
	if ofMap {
		return fmt.Sprintf("map %q", key)
	}
	return fmt.Sprintf("channel %q", key)
}

// keyError is what is wrong with the key of a channel, as a whole sentence. It matches ErrChannelKey.
type keyError string

func (e keyError) Error() string        { return string(e) }
func (e keyError) Is(target error) bool { return target == ErrChannelKey }

// A TooLargeError tells that an encoded message is larger than may be sent. The message was not accepted; nothing else is
// affected. Raise Config.MaxMessageSize on every member, or send less.
type TooLargeError struct {
	Channel string // key of the channel, or of the Map
	OfMap   bool   // the key is that of a Map, and the size that of an entry as it travels
	Size    int    // bytes of the encoded message
	Limit   int    // bytes allowed
}

func (e *TooLargeError) Error() string {
	what := "message"
	if e.OfMap {
		what = "entry"
	}
	return fmt.Sprintf("starling: %s: %s of %d bytes is larger than the limit of %d (Config.MaxMessageSize, on every member)",
		named(e.OfMap, e.Channel), what, e.Size, e.Limit)
}

// A StateTooLargeError tells that the state of a channel on another member, or one item of it, is too large for this member.
type StateTooLargeError struct {
	Channel string // key of the channel
	Member  string // name of the member whose state it is
	Item    bool   // it is one item that is too large
	Size    int    // bytes, as far as they were counted
	Limit   int    // bytes allowed: MaxStateSize, or, for an item, Config.MaxMessageSize
}

func (e *StateTooLargeError) Error() string {
	what, limit := "the state", "MaxStateSize"
	if e.Item {
		what, limit = "an item of the state", "Config.MaxMessageSize"
	}
	return fmt.Sprintf("starling: channel %q: %s of %s is larger than the limit of %d bytes (%s): this member's state lacks it",
		e.Channel, what, e.Member, e.Limit, limit)
}

// An OtherTypeError tells that a member has a channel, or Map, open that carries another type than this one's of the same key. No handler
// is given messages of another type; they are counted as DropOtherType. Give every member the same type, or the new type a key of its
// own. A restart of the member with the right type heals it.
type OtherTypeError struct {
	Channel string // key of the channel, or of the Map
	OfMap   bool   // it is that of a Map on this member
	Type    string // what it carries on this member, such as "protobuf:shop.v1.Price"; see Named
	Member  string // name of the other member
	Other   string // what it carries there
}

func (e *OtherTypeError) Error() string {
	return fmt.Sprintf("starling: %s carries %q here and %q on %s: neither is given the other's messages",
		named(e.OfMap, e.Channel), e.Type, e.Other, e.Member)
}

// A MapLimitError tells which bound of a Map a change would exceed. Nothing was changed.
type MapLimitError struct {
	Map   string // key of the Map
	Field string // the field of MapOptions; "key" for the length of the key itself
	Value int    // what it would be
	Limit int
}

func (e *MapLimitError) Error() string {
	if e.Field == "key" {
		return fmt.Sprintf("starling: map %q: key of %d bytes, limit %d", e.Map, e.Value, e.Limit)
	}
	return fmt.Sprintf("starling: map %q: %d is more than its limit of %d (MapOptions.%s, on every member)", e.Map, e.Value, e.Limit, e.Field)
}

// ErrNotOwner is returned by Map.Delete and Map.ConfirmDelete in a Map with MapOptions.Owned, for a key that others have set and this
// member has not. Nothing was changed. Let the member that has set it delete it.
var ErrNotOwner = errors.New("starling: another member's entry (MapOptions.Owned)")

// A SeedError tells why one seed could not be joined. Join returns one for each seed, joined by errors.Join.
type SeedError struct {
	Seed string // as it was given
	Err  error  // what went wrong last
}

func (e *SeedError) Error() string { return fmt.Sprintf("starling: seed %q: %v", e.Seed, e.Err) }
func (e *SeedError) Unwrap() error { return e.Err }

// A NotTakenInError tells which members had not taken this one in when the context of Join ended.
type NotTakenInError struct {
	Members []NotTakenIn // by name; at least one
}

// NotTakenIn is a member that has not taken this one in.
type NotTakenIn struct {
	Name   string
	Addr   netip.AddrPort
	Reason string // why it refuses this member, as it has said; empty: it has not answered
}

func (e *NotTakenInError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "starling: join: not taken in by %s:", count(len(e.Members), "member"))
	for _, m := range e.Members[:min(len(e.Members), maxNamed)] {
		fmt.Fprintf(&b, " %s at %v (%s)", m.Name, m.Addr, cmp.Or(m.Reason, "no answer"))
	}
	if len(e.Members) > maxNamed {
		b.WriteString(" …")
	}
	return b.String()
}

func notTakenIn(pending []replica.Pending) error {
	e := new(NotTakenInError)
	for _, p := range pending {
		e.Members = append(e.Members, NotTakenIn{p.Name, p.Addr, p.Refusal})
	}
	slices.SortFunc(e.Members, func(a, b NotTakenIn) int { return cmp.Compare(a.Name, b.Name) })
	return e
}

// ErrNoKeys is returned by the methods of a Keyring of a member that has no keys. A running member cannot change from plaintext to
// keys: restart it with Config.Keys or Config.KeySource, as Keyring says.
var ErrNoKeys = errors.New("starling: keyring: this member has no keys (Config.Keys, Config.KeySource)")

// ErrUnknownKey is returned by Keyring.Use and Keyring.Forget for a key that the member does not have. Give it to Keyring.Accept first.
var ErrUnknownKey = errors.New("starling: keyring: no such key")

// A KeyringError tells that a change of the keys would cut members off. Nothing was changed. Change the keys of those members first, or
// force it.
type KeyringError struct {
	Op      string   // "use" or "forget"
	Key     string   // its fingerprint, see KeyFingerprint
	Members []string // who would not understand this member, or not be understood, by name; at least one
}

func (e *KeyringError) Error() string {
	why := "do not accept it"
	if e.Op == "forget" {
		why = "need it"
	}
	return fmt.Sprintf("starling: keyring: %s %s: these members %s: %s", e.Op, e.Key, why, listed(e.Members))
}

// listed is a list of names, cut.
func listed(names []string) string {
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if len(names) > maxNamed {
		text += " …"
	}
	return text
}

// A SendReason tells why Send could not give a message to a member.
type SendReason int

const (
	SendUnknown    SendReason = iota // no live member has that name
	SendForeign                      // the member does not speak Starling, it could never acknowledge
	SendNoChannel                    // the member has no channel of that key open
	SendBusy                         // the member's inbox stayed full until the context ended, or it had no room to put together a message in pieces
	SendNoAnswer                     // no acknowledgement until the context ended: it may or may not have the message
	SendMemberGone                   // this run of the member left or failed: it may or may not have the message
	SendTooLarge                     // the member takes no message of that size
	SendOtherType                    // the member's channel of that key carries another type
)

var sendReasons = []string{"unknown member", "foreign member", "no such channel there", "inbox full", "no answer", "member gone", "too large there", "other type there"}

func (r SendReason) String() string { return nameOf(r, sendReasons) }

// explain is String, or what the text of an error has to say beyond it: whose limit it is, and what is wanted.
func (r SendReason) explain() string {
	switch r {
	case SendUnknown:
		return "no live member has that name (a name is wanted, not an address; see Members)"
	case SendBusy:
		return "inbox full (ChannelOptions.Inbox of the receiver)"
	case SendTooLarge:
		return "too large there (Config.MaxMessageSize of the receiver)"
	}
	return r.String()
}

// A SendError tells why a message sent to one member is not known to have arrived.
type SendError struct {
	Channel string // key of the channel
	Member  string // name of the member
	Reason  SendReason
	Err     error // the context's error where one ended the wait, else nil
}

func (e *SendError) Error() string {
	text := fmt.Sprintf("starling: channel %q: send to %q: %s", e.Channel, e.Member, e.Reason.explain())
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}
func (e *SendError) Unwrap() error { return e.Err }

// An UnconfirmedError tells that a message, which was accepted, is not known to be held (or to have been handled) by every
// member.
type UnconfirmedError struct {
	Channel string    // key of the channel, or of the Map
	OfMap   bool      // the key is that of a Map
	Missing []Missing // the members, by name; at least one
	Err     error     // the context's error where one ended the wait, else nil
}

// Missing is a member without a confirmed message.
type Missing struct {
	Member Member // as it was when it was last seen alive
	Reason MissingReason
}

// MissingReason tells why a member is not known to have a message.
type MissingReason int

const (
	MissingLate        MissingReason = iota // nothing was heard of it in time: it may or may not hold the message
	MissingSilent                           // it has answered nothing for a while
	MissingGone                             // it left or failed while it was waited for
	MissingUndecodable                      // its codec refused the message: no handler saw it
	MissingLost                             // it has given the message up, and reported it lost
	MissingRefused                          // the message is larger, or older, than it takes
	MissingUnhandled                        // Confirm with Handled: it holds the message, and its handler had not returned in time
	MissingOtherType                        // its channel of that key carries another type: it holds the message, and no handler sees it
)

var missingReasons = []string{"late", "silent", "gone", "undecodable", "lost", "refused", "unhandled", "other type"}

func (r MissingReason) String() string { return nameOf(r, missingReasons) }

// count is a number of things: "1 member", "2 members".
func count[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// maxNamed bounds the members that the text of an error names.
const maxNamed = 8

func (e *UnconfirmedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "starling: %s: not confirmed by %s:", named(e.OfMap, e.Channel), count(len(e.Missing), "member"))
	for _, m := range e.Missing[:min(len(e.Missing), maxNamed)] {
		fmt.Fprintf(&b, " %s (%v)", m.Member.Name, m.Reason)
	}
	if len(e.Missing) > maxNamed {
		b.WriteString(" …")
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}
func (e *UnconfirmedError) Unwrap() error { return e.Err }

// A LeaveError tells that a leave went wrong. Everything of ours is gone all the same.
type LeaveError struct {
	Unheld  int   // messages of this member that were accepted and may be held by nobody else
	Unheard int   // members that have not acknowledged the goodbye: they will see a failure
	Err     error // the context's error where it ended the wait, or that of memberlist, else nil
}

func (e *LeaveError) Error() string {
	var faults []string
	if e.Unheld > 0 {
		faults = append(faults, count(e.Unheld, "message")+" may be held by nobody else")
	}
	if e.Unheard > 0 {
		faults = append(faults, "the goodbye was not acknowledged by "+count(e.Unheard, "member"))
	}
	text := "starling: leave: " + strings.Join(faults, ", ")
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}
func (e *LeaveError) Unwrap() error { return e.Err }

// A FlushError tells that some of a channel's own messages were given up before every live member was known to have them.
type FlushError struct {
	Channel    string // key of the channel, or of the Map
	OfMap      bool   // the key is that of a Map
	WrittenOff uint64 // how many, since the channel was opened
	// Members are those that they were given up for, by name, at most 64 of them, as they were seen last.
	Members []Member
}

func (e *FlushError) Error() string {
	what := "message"
	if e.OfMap {
		what = "change"
	}
	text := fmt.Sprintf("starling: %s: %s written off", named(e.OfMap, e.Channel), count(e.WrittenOff, what))
	if len(e.Members) > 0 {
		text += " for " + namesOf(e.Members)
	}
	return text
}

// A ConfigError tells which field of a Config, or which argument of a constructor, is wrong. New returns one for each
// fault, joined by errors.Join.
type ConfigError struct {
	Field string // name of the field or argument
	Value any    // what it was, or its size in bytes; never a key; nil: it gave nothing
	Err   error  // what is wrong with it, naming the limit
}

func (e *ConfigError) Error() string {
	if err, ok := e.Err.(keyError); ok {
		return "starling: " + err.Error()
	}
	if e.Value == nil {
		return fmt.Sprintf("starling: %s: %v", e.Field, e.Err)
	}
	value := e.Value
	if text, ok := value.(string); ok {
		value = strconv.Quote(text) // as it was given: a space at its end may be what is wrong with it
	}
	return fmt.Sprintf("starling: %s = %v: %v", e.Field, value, e.Err)
}
func (e *ConfigError) Unwrap() error { return e.Err }
