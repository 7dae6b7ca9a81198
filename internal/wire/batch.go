package wire

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// Route is the way by which a message reached this member.
type Route uint8

// The routes. A batch tells which of the first three its parts took.
const (
	RouteGossip Route = iota // in a packet
	RouteStream              // in a stream
	RouteRepair              // asked for, because it was missing
	RouteSync                // in a snapshot of state
	RouteDirect              // sent to this member alone
	RouteEcho                // broadcast by this member itself
)

// routeOf returns the route that a batch tells. One of a later version is taken for gossip, which promises least.
func routeOf(v starlingpb.Batch_Via) Route {
	switch v {
	case starlingpb.Batch_STREAM:
		return RouteStream
	case starlingpb.Batch_REPAIR:
		return RouteRepair
	}
	return RouteGossip
}

// Fields of starlingpb.Batch.
const (
	batchVia   = 1<<3 | varintField
	batchPart  = 2<<3 | bytesField
	batchPull  = 3<<3 | varintField
	batchLacks = 4<<3 | bytesField
	batchProof = 5<<3 | fixed64Field
	batchSends = 6<<3 | varintField
)

// EncodeBatch returns the control frame of a batch of encoded parts.
func EncodeBatch(from Peer, via starlingpb.Batch_Via, parts ...[]byte) []byte {
	size := 2
	for _, part := range parts {
		size += 1 + protowire.SizeBytes(len(part))
	}
	content := appendVarint(make([]byte, 0, size), batchVia, uint64(via))
	for _, part := range parts {
		content = appendBytes(content, batchPart, part)
	}
	return FrameControl(from, BodyBatch, content)
}

// BatchParts yields the encoded parts of a batch's content, up to the first malformed field, and the route that they took.
func BatchParts(content []byte) iter.Seq2[[]byte, Route] {
	return func(yield func([]byte, Route) bool) {
		via := RouteGossip
		f := fields{message: content}
		for f.next() {
			switch f.tag {
			case batchVia:
				via = routeOf(starlingpb.Batch_Via(f.value))
			case batchPart:
				if !yield(f.bytes(), via) {
					return
				}
			}
		}
	}
}

// PullEnd is what the last batch of the answer to a pull says of it.
type PullEnd struct {
	Pull    uint64 // which pull; 0: the batch ends none
	Proof   uint64 // to be repeated by the next one
	Lacks   []*starlingpb.Ranges
	Sending bool // the rest is on its way already
}

// BatchEnd returns what a batch says of the pull whose answer it ends. Of a malformed batch it returns nothing.
func BatchEnd(content []byte) (end PullEnd) {
	f := fields{message: content}
	for f.next() {
		switch {
		case f.tag == batchPull:
			end.Pull = f.value
		case f.tag == batchProof:
			end.Proof = f.value
		case f.tag == batchSends:
			end.Sending = f.value != 0
		case f.tag == batchLacks && len(end.Lacks) < PullSpans:
			m := new(starlingpb.Ranges)
			if len(f.bytes()) > maxSpansSize || proto.Unmarshal(f.bytes(), m) != nil {
				return PullEnd{}
			}
			end.Lacks = append(end.Lacks, m)
		}
	}
	if f.cause != nil {
		return PullEnd{}
	}
	return end
}
