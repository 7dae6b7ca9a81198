package starling

import (
	"errors"
	"fmt"
	"net"
)

// ErrClosed is returned by every method of a Cluster after Leave or Close has begun, and by every method of a Channel
// after its own Close as well. errors.Is(err, net.ErrClosed) holds for it too. There is no way back: make a new Cluster.
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "starling: closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

// ErrQueueFull is returned by TryBroadcast, and by StateChannel.Broadcast, when what this member still has to send leaves
// no room for another message. The message was not accepted. Try again later, or use Broadcast, which waits.
var ErrQueueFull = errors.New("starling: queue full")

// ErrNilMessage is returned when a nil message is given to Broadcast, TryBroadcast, Confirm or Send of a protobuf channel.
var ErrNilMessage = errors.New("starling: nil message")

// ErrChannelKey is matched by the *ConfigError of a channel key that is empty, longer than 255 bytes, or open already.
var ErrChannelKey = errors.New("starling: channel key")

// A TooLargeError tells that an encoded message is larger than may be sent. The message was not accepted; nothing else is
// affected. Raise Config.MaxMessageSize on every member, or send less.
type TooLargeError struct {
	Channel string // key of the channel
	Size    int    // bytes of the encoded message
	Limit   int    // bytes allowed
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("starling: channel %q: message of %d bytes is larger than the limit of %d", e.Channel, e.Size, e.Limit)
}

// A SeedError tells why one seed could not be joined. Join returns one for each seed, joined by errors.Join.
type SeedError struct {
	Seed string // as it was given
	Err  error  // what went wrong last
}

func (e *SeedError) Error() string { return fmt.Sprintf("starling: seed %q: %v", e.Seed, e.Err) }
func (e *SeedError) Unwrap() error { return e.Err }

// A SendReason tells why Send could not give a message to a member.
type SendReason int

const (
	SendUnknown    SendReason = iota // no live member has that name
	SendForeign                      // the member does not speak Starling, it could never acknowledge
	SendNoChannel                    // the member has no channel of that key open
	SendBusy                         // the member's inbox stayed full until the context ended
	SendNoAnswer                     // no acknowledgement until the context ended: it may or may not have the message
	SendMemberGone                   // the member left or failed while Send waited: it may or may not have the message
)

var sendReasons = [...]string{"unknown member", "foreign member", "no such channel there", "inbox full", "no answer", "member gone"}

func (r SendReason) String() string {
	if r < 0 || int(r) >= len(sendReasons) {
		return fmt.Sprintf("SendReason(%d)", int(r))
	}
	return sendReasons[r]
}

// A SendError tells why a message sent to one member is not known to have arrived.
type SendError struct {
	Member string // name of the member
	Reason SendReason
	Err    error // the context's error where one ended the wait, else nil
}

func (e *SendError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("starling: send to %q: %v: %v", e.Member, e.Reason, e.Err)
	}
	return fmt.Sprintf("starling: send to %q: %v", e.Member, e.Reason)
}
func (e *SendError) Unwrap() error { return e.Err }

// A FlushError tells that some of a channel's own messages were given up before every live member was known to have them.
type FlushError struct {
	Channel    string
	WrittenOff uint64 // how many, since the channel was opened
}

func (e *FlushError) Error() string {
	return fmt.Sprintf("starling: channel %q: %d messages written off", e.Channel, e.WrittenOff)
}

// A ConfigError tells which field of a Config, or which argument of a constructor, is wrong. New returns one for each
// fault, joined by errors.Join.
type ConfigError struct {
	Field string // name of the field or argument
	Value any    // what it was; never a key
	Err   error  // what is wrong with it, naming the limit
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("starling: %s = %v: %v", e.Field, e.Value, e.Err)
}
func (e *ConfigError) Unwrap() error { return e.Err }
