// Package starlingotel follows messages of Starling with OpenTelemetry: from the span that broadcast one to what its handlers did on all members.
//
//	prices, err := starlingotel.NewChannel(c, "prices", show, nil, nil)
//	…
//	err = prices.Broadcast(ctx, price) // a span of kind producer, child of that in ctx
//
// A [Channel] is a starling.Channel. Its Broadcast, Confirm, Send and SendMember each make a span of kind producer, whose context travels with
// the message; each call of a handler is a span of kind consumer, in a trace of its own, with a link to the producer's. So the trace of
// one broadcast does not grow with the number of members, and a member decides by its own sampler what it keeps.
//
// What is in a span follows OpenTelemetry's conventions for messaging: messaging.system is "starling", messaging.destination.name the key of the
// channel, messaging.operation.name what was called: broadcast, confirm, send, and process of a handler. A producer's span has starling.member
// where the message is for one, its error, and starling.missing_members where Confirm lacks some. A consumer's has starling.origin (the name of
// who has broadcast or sent it), starling.seq, starling.via and starling.age_ms (how long ago that was when the handler was called, by
// Message.Age: no synchronised clocks are needed for it).
//
// # On the wire
//
// The context of the producer's span travels in W3C's binary form, 29 bytes: version, trace-id, parent-id, trace-flags. tracestate and baggage
// have no room in the 64 bytes that a message takes along, and do not travel. Members that do not trace a channel open it by
// starling.NewChannel, and pass the context on all the same.
//
// # What is not traced
//
// TryBroadcast, for it has no context; states, snapshots and Maps; and whatever comes from a foreign member has no link.
package starlingotel
