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
//	err = c.Join(ctx, "10.0.0.7:7946", "dns+peers.local:7946")
//	err = prices.Broadcast(ctx, &pb.Price{Symbol: "OSTR"})
//	err = c.Leave(ctx)
//
// [Channel.Broadcast] tells everybody, [Channel.Send] one member, and [Channel.Confirm] waits until everybody has it.
// [Cluster.Events] tells who comes and goes, and what was lost. [NewChannelOf] takes another codec than protobuf.
// [Cluster.AddState] keeps bytes equal that any two members can merge. Package starlingtest runs whole clusters in virtual
// time, for tests of your own service.
//
// # Guarantees
//
// For a channel that is open on a live member:
//
//   - Everyone. A message that Broadcast accepted reaches the handler on every live member that has the channel open, as
//     long as the members are connected, directly or through others, by packets or by streams, within [Retention]. Loss,
//     duplication, reordering, blocked UDP, slow handlers, partitions that heal in time, and members that crash do not change
//     that; but for the one that broadcast it, before it has left there.
//   - Once. A handler gets a message at most once in its process's life. (What [ChannelOptions].Snapshot yields, and
//     messages of foreign members, have no identity and may come again.)
//   - Never silently less. Where a message cannot be had any more, the member that was owed it reports a [Gap]: an event, a
//     log line and a counter. Every other drop is counted by its reason in [Stats].
//   - Any size up to [Config].MaxMessageSize. Above it Broadcast returns a [*TooLargeError]: nothing is accepted that cannot
//     be sent.
//   - Order. None, unless [ChannelOptions].FIFO is set: then the messages of one member on one channel are handled in the
//     order in which it broadcast them, whatever their size.
//   - State. A channel with a Snapshot, or a [State], becomes equal on all members after any partition. A newcomer gets it
//     first, and is owed nothing older.
//
// # What is not promised
//
// No total order, no consensus, nothing kept across a stop of all members, no protection against a member that holds a key
// and means harm, no more than about 1,000 members. Accepted is not received: Send and Confirm tell more.
//
// # Concurrency
//
//   - Methods may be called concurrently, and from any callback but those that they would wait for: a handler must not call
//     Close, Leave, Flush or Channel.Close.
//   - A handler that panics ends the process: Starling does not recover.
//   - A handler runs on its channel's own goroutine, one message at a time. A slow one holds up nothing but its channel on
//     its member: what waits is kept in history, not in memory of its own.
//   - No callback runs on a network goroutine or under a lock, except [Config].Admit and [Config].AdmitMerge, which must be
//     quick and call nothing.
//   - [New] listens and dials nobody. After Leave or Close every method returns [ErrClosed], except Members, Self, Position
//     and Stats, which keep the last picture. Both return when every goroutine, connection and socket is gone.
//   - Byte slices that are passed in are copied before a call returns. Those that are handed to a handler are its own to
//     read, and must not be written to.
//
// # Wire
//
// A message travels as a protobuf Part, a superset of the Part of Prometheus Alertmanager's cluster package: fields 1 (key)
// and 2 (data) keep their meaning. Members that do not carry Starling's mark in their metadata are foreign: they get plain
// parts, twice, and what they send is delivered as it comes. Small parts travel in packets through a spread along the ring
// of members, larger ones (more than half of [MaxGossipPacketSize], encoded) in streams. See starlingpb/starling.proto.
//
// [memberlist]: https://github.com/hashicorp/memberlist
package starling
