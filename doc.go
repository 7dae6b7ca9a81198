// Package starling gives every member of a group of replicas every message, once, in milliseconds, without a broker. It
// embeds [memberlist] for membership and adds typed channels.
//
// # Usage
//
// Make a [Cluster], open its channels, and join through any members you know:
//
//	c, err := starling.New(starling.Config{})
//	prices, err := starling.NewChannel(c, "prices", func(ctx context.Context, m starling.Message[*pb.Price]) {
//		fmt.Println(m.From.Name, m.Value)
//	}, nil)
//	err = c.Join(ctx, "10.0.0.7:7946", "peers.local:7946")
//	err = prices.Broadcast(ctx, &pb.Price{Symbol: "OSTR"})
//	err = c.Leave(ctx)
//
// [Channel.Broadcast] tells everybody, [Channel.Send] one member, and [Channel.Confirm] waits until everybody has it.
// [Channel.Progress] tells how far large messages have come. [Cluster.Events] tells who comes and goes, and what was lost.
// [NewChannelOf] takes another codec than protobuf. [NewMap] opens a [Map], which every member has in memory and which becomes equal on all of
// them. [NewState] keeps bytes equal that any two members can merge. Package starlingtest runs whole clusters in virtual
// time, for tests of your own service.
//
// # Guarantees
//
// For a channel that is open on a live member:
//
//   - Everyone. A message that Broadcast accepted reaches the handler on every live member that has the channel open, as
//     long as the members are connected, directly or through others, by packets or by streams, within [Retention]. Loss,
//     duplication, reordering, blocked UDP, slow handlers, partitions that heal in time, and members that crash do not change
//     that. One crash does: that of the member that broadcast it, while the message still waits there to be sent. What happens to
//     the membership meanwhile changes nothing either: a failure that one side sees, a pause, a restart at the same address. A
//     newcomer is owed everything that is broadcast anywhere from the moment its Join returned nil.
//   - Once. A handler gets a message at most once in its process's life. (What [ChannelOptions].Snapshot yields, and
//     messages of foreign members, have no identity and may come again.)
//   - Never silently less. Where a message cannot be had any more, the member that was owed it reports a [Gap]: an event, a
//     log line and a counter. Every other drop is counted by its reason in [Stats].
//   - Any size up to [Config].MaxMessageSize. Above it Broadcast returns a [*TooLargeError]: nothing is accepted that cannot
//     be sent.
//   - Order. None, unless [ChannelOptions].FIFO is set: then the messages of one member on one channel are handled in the
//     order in which it broadcast them, whatever their size.
//   - State. A channel with a Snapshot, or a [State], is given to newcomers first. What members broadcast is in the end in the
//     states of all, after any partition into any number of sides, and where messages were lost: members compare what their states
//     contain until it is equal. [Cluster.Ready] tells when a newcomer has it. A state of more than [MaxStateSize] is not given, and
//     whoever lacks it is told so. What a Snapshot yields when other members are met first is given to all of them, too; what comes
//     into a state later and is not broadcast, only to newcomers.
//   - Types. Members tell each other what their channels carry. One whose channel carries another type is told of
//     ([EventOtherType], one log line), and no handler is given messages of another type. Only what is said in the moment after a member
//     has closed a channel and opened it with another type may be judged by the type before; and what comes of a member that cannot be
//     asked for its types for 5 s, since it is gone or out of reach, is handed on.
//   - Maps. A [Map] is equal on all members that can reach each other, some time after its last change: they compare until it is, and
//     no number of sides, members or donors that are busy stops it. A member that was away for longer than [MapOptions].Tombstones is
//     reset to what the others have. With [MapOptions].Owned, members that agree about who is a member have the same.
//
// # What is not promised
//
// No total order, no consensus, no lock and no compare-and-swap over members, nothing kept across a stop of all members, no protection against a member that holds a key
// and means harm, no more than about 1,000 members. Accepted is not received: Send and Confirm tell more.
//
// # How long a call may take
//
//   - Join: a round trip to a seed and one to every member. Where a member has failed a moment ago, until the others notice (some
//     seconds); where this member's name was that of one that has failed, up to 12 s after that was noticed. Its context bounds it.
//   - Ready: half a second after Join, in which nobody comes or goes, and until states and Maps have come.
//   - Broadcast: no time while [Config].Queue has room for the message; its context bounds the wait for room.
//   - Send: a round trip. Without an answer it tries until its context ends, or that run of the member is gone.
//   - Confirm: until the message has spread and the answers are back. A spread is the way of a message to every member, in two hops
//     among fifty: milliseconds in one data centre. With a member that does not answer, until its context ends or the member has failed.
//   - Leave: until what was accepted is held by others (at most 10 s, or what its context allows) and members that have just come
//     have asked what they are owed (at most 1 s), then at most 1 s for the goodbye and 5 s for memberlist. Then, whatever its context says, until every handler that is running has returned.
//   - A failure: a member that ends without Leave, or hangs, has failed to the others ([EventFailed]) after some 5 s, and a little more among
//     hundreds. Among two or three it takes up to 20 s more while there are others that have left in the last half minute: memberlist
//     still waits for these to confirm it. [Config].Tune can make its times shorter.
//   - A handler: as long as it likes, and it holds up nothing but its channel on its member. But Leave, Close and Channel.Close end
//     its context and wait for it: it must return then.
//
// # Concurrency
//
//   - Methods may be called concurrently, and from any callback but those that they would wait for: a handler must not call
//     Close, Leave, Flush or Channel.Close.
//   - A handler that panics ends the process: Starling does not recover.
//   - A handler runs on its channel's own goroutine, one message at a time. A slow one holds up nothing but its channel on
//     its member: what waits is kept in history, not in memory of its own.
//   - No callback runs on a network goroutine or under a lock, and neither does the handler of [Config].Logger. The exceptions
//     are [Config].Admit and [Config].AdmitMerge, which must be quick and call nothing.
//   - [New] listens and dials nobody. After Leave or Close every method returns [ErrClosed], except Members, Self, Position
//     and Stats, which keep the last picture, and Leave and Close themselves: called again, Leave returns what it has returned,
//     and Close nil. Both return when every goroutine, connection and socket is gone.
//   - Byte slices that are passed in are copied before a call returns. Those that are handed to a handler are its own to
//     read, and must not be written to.
//
// # Wire
//
// A message travels as a protobuf Part, a superset of the Part of Prometheus Alertmanager's cluster package: fields 1 (key)
// and 2 (data) keep their meaning. Members that do not carry Starling's mark in their metadata are foreign: they get plain
// parts, twice, and what they send is delivered as it comes. Small parts travel in packets through a spread along the ring
// of members, larger ones (more than half of [MaxGossipPacketSize], encoded) in streams along the same ring. A message of more than 128 KiB
// is cut into pieces, which take turns with those of other messages. See starlingpb/starling.proto.
//
// [memberlist]: https://github.com/hashicorp/memberlist
package starling
