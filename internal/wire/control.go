package wire

import (
	"cmp"
	"fmt"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Bodies of a control frame: field numbers of starlingpb.Control.
const (
	BodyGoodbye    protowire.Number = 2
	BodyGoodbyeAck protowire.Number = 3
	BodyDirect     protowire.Number = 4
	BodyDirectAck  protowire.Number = 5
	BodyBatch      protowire.Number = 6
	BodyDigest     protowire.Number = 7
	BodyPull       protowire.Number = 8
	BodyAsk        protowire.Number = 9 // for a baseline
	BodyBaseline   protowire.Number = 10
	BodySyncAsk    protowire.Number = 11
	BodySync       protowire.Number = 12
	BodySpread     protowire.Number = 13
	BodyReports    protowire.Number = 14
	BodyHeldAsk    protowire.Number = 15
	BodyHeldAnswer protowire.Number = 16
	BodyBundle     protowire.Number = 17
	BodyHeard      protowire.Number = 18
	BodyStates     protowire.Number = 19
	BodyTypes      protowire.Number = 20

	lastBody = BodyTypes
)

// controlSender is the field of starlingpb.Control that is no body. parseSender and Peer.Append know its content.
const controlSender = 1<<3 | bytesField

// bundleFrame is the one field of starlingpb.Bundle.
const bundleFrame = 1<<3 | bytesField

// EncodeControl returns the frame of a control message. Text in m must be valid UTF-8: names and keys are held against that
// where they come in, and protobuf refuses nothing else.
func EncodeControl(from Peer, body protowire.Number, m proto.Message) []byte {
	content, _ := proto.Marshal(m)
	return FrameControl(from, body, content)
}

// ControlSize is at most the length of the frame of a control message.
func ControlSize(from Peer, m proto.Message) int {
	return len(from.Append(nil)) + proto.Size(m) + ControlFraming
}

// FrameControl returns the frame of a control message that is encoded already.
func FrameControl(from Peer, body protowire.Number, content []byte) []byte {
	sender := from.Append(nil)
	return append(ControlHead(sender, body, len(content), len(content)), content...)
}

// ControlFraming is more than ControlHead puts around sender and content.
const ControlFraming = 12

// ControlHead returns a control frame up to its content, which takes n bytes, with capacity for room bytes more. sender is
// what Peer.Append has appended.
func ControlHead(sender []byte, body protowire.Number, n, room int) []byte {
	head := len(sender) + protowire.SizeTag(body) + protowire.SizeVarint(uint64(n))
	size := head + n
	b := make([]byte, 0, 1+protowire.SizeVarint(uint64(size))+head+room)
	b = appendVarint(b, partControl, uint64(size))
	b = append(b, sender...)
	b = protowire.AppendTag(b, body, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

// Control is a decoded control frame. Its content points into the frame.
type Control struct {
	From    Peer
	Body    protowire.Number // 0: a body of a later version, to be ignored
	Content []byte           // the body, not decoded
}

// ParseControl decodes the control field of a Part, but not its body.
func ParseControl(b []byte) (Control, error) {
	var c Control
	f := fields{message: b}
	for f.next() {
		switch {
		case f.tag == controlSender:
			var err error
			if c.From, err = parseSender(f.bytes()); err != nil {
				return Control{}, err
			}
		case f.tag.typ() == bytesField && f.tag.number() <= lastBody:
			c.Body, c.Content = f.tag.number(), f.bytes()
		}
	}
	if err := cmp.Or(f.err("control"), c.check()); err != nil {
		return Control{}, err
	}
	switch {
	case c.From.ID == 0:
		return Control{}, fmt.Errorf("%w: control frame without a sender", ErrMalformed)
	case c.From.Name == "" && c.Body != BodySpread && c.Body != BodyReports && c.Body != 0:
		return Control{}, fmt.Errorf("%w: control frame %d from a sender without a name", ErrMalformed, c.Body)
	}
	return c, nil
}

// EncodeBundle returns one control frame that holds several frames.
func EncodeBundle(from Peer, frames [][]byte) []byte {
	var content []byte
	for _, frame := range frames {
		content = appendBytes(content, bundleFrame, frame)
	}
	return FrameControl(from, BodyBundle, content)
}

// Bundled yields the frames of a bundle's content, up to the first malformed field.
func Bundled(content []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		f := fields{message: content}
		for f.next() {
			if f.tag == bundleFrame && !yield(f.bytes()) {
				return
			}
		}
	}
}

// Limits of what a control frame may make its receiver allocate.
const (
	// MaxBody bounds the bodies that carry no messages: what is decoded of one takes at most some 40 times as much.
	MaxBody = 1 << 16
	// MaxSyncItems bounds the items of one frame of state, and the origins that it speaks of.
	MaxSyncItems = 1 << 12
	// MaxRangesSize bounds what a frame of state says of one origin.
	MaxRangesSize = 4 << 10
)

// Fields of starlingpb.Sync that are repeated.
const (
	syncContains = 4<<3 | bytesField
	syncItem     = 5<<3 | bytesField
)

// check holds a body against its limits before anything of it is decoded.
func (c *Control) check() error {
	switch c.Body {
	case 0, BodySpread, BodyReports, BodyBatch, BodyBundle, BodyDirect:
		return nil
	case BodySync:
		return checkSync(c.Content)
	}
	if len(c.Content) > MaxBody {
		return fmt.Errorf("%w: control body %d of %d bytes, limit %d", ErrMalformed, c.Body, len(c.Content), MaxBody)
	}
	return nil
}

func checkSync(content []byte) error {
	items, origins := 0, 0
	f := fields{message: content}
	for f.next() {
		switch f.tag {
		case syncContains:
			if origins++; len(f.bytes()) > MaxRangesSize {
				return fmt.Errorf("%w: ranges of %d bytes, limit %d", ErrMalformed, len(f.bytes()), MaxRangesSize)
			}
		case syncItem:
			items++
		}
	}
	if items > MaxSyncItems || origins > MaxSyncItems {
		return fmt.Errorf("%w: %d items and %d origins of state, limit %d", ErrMalformed, items, origins, MaxSyncItems)
	}
	return f.err("state")
}
