// Package replica is the protocol of one member: what it has, what it still has to send, and what is to be done next.
//
// It is pure. Frames, membership, accepted messages and the time go in by the methods of [Replica]. What is to be done comes out
// as [Effects]: packets and streams to send, channels to wake, messages that are done, answers, gaps. The package holds no
// goroutine, clock, socket or lock; its owner serialises all calls. So a whole cluster of replicas can be driven by a plain
// loop, and the same calls have the same effects.
//
// # Parts
//
// A Replica puts together parts that own their fields. A part calls only those before it in this list:
//
//   - output: what is to be done.
//   - roster: the members that are here, and one [peer] for each run of a member that is known at all.
//   - strangers: who sends control frames and is no member.
//   - channelSet: the open channels. A [Channel] knows its inbox, its order and its counters.
//   - types: what the channels of the others carry.
//   - Observer: how far large messages have come, for those who want to know.
//   - intake: what came, what is kept of it, and where it goes. It gives this member's own parts their numbers too.
//   - reminders: what members are told unasked of our parts.
//   - goodbyes: what those have said that left, for those that may not have heard it.
//   - assemblies: messages in several parts of which some are lost.
//   - baselines, gaps, pulls, digests: anti-entropy.
//   - receiver: takes parts that arrive, whatever way they came.
//   - spreader: carries out what the spread wants, and takes the batches of others.
//   - Sender: this member's own messages, from acceptance to the spread, and what the spread wants sent.
//   - coverages: what the states of channels contain.
//   - comparisons: whose states differ from ours. It tells stateSync.
//   - stateSync: the states of others for channels with state.
//   - offers: our states for others.
//   - States: what the owner does about states.
//   - gatherings: messages by Send that come in pieces.
//   - Calls: messages to one member.
//   - Inquiries: questions about a message.
//   - Membership: how this member becomes one and ceases to be one.
package replica
