// Package spread decides which member sends a batch of parts to which other member, until every member holds it: it knows slices, takeover
// and the send window.
//
// # What it does
//
// The members stand on a ring, ordered by a hash of their names. The root of a batch (the member whose parts it carries) cuts
// the ring after itself into at most eight slices. It sends each slice's first member, the head, the batch and the position
// where the slice ends. The head does the same with the rest of its slice. One such sending, with its retries, is a Hop: the
// sender is its parent, the receiver its child.
//
// The child answers each try: "held" when it has the batch, and "done" when its slice has it too. A parent that hears nothing
// tries again, by stream too. If the head stays mute, the parent gives the rest of the slice to the next member in it, and goes
// on trying the mute one for itself alone. So the root learns one round trip after the last member that everybody has the batch,
// or who was given up. Repair (in another package) finds those.
//
// A "done" names how many members of the slice hold the batch, and the XOR of their positions. The parent believes it only if
// both agree with its own view of the slice. Otherwise it asks the child for the list of holders, and sends the batch to the
// others itself. So where two members see different members, that costs a few more frames, and nobody is missed.
//
// # What goes in and what comes out
//
// In go: the members (the field Ring, and Lost when one has left the membership), our own batches (Start), those of others
// (Receive), reports of our children (Report), and the time (Tick, at the moments that Next tells).
//
// Out come the fields that the owner empties after each call: Sends (frames for children), Reports (frames for parents),
// Finished (batches of our own that are done) and, if it wants them, Moved (those of which more is known). Flow and Ahead tell whether another batch of our own may leave.
//
// # Who owns what
//
// Spread is a struct without goroutine, clock, lock or channel; its owner serialises all calls. A Spread owns its batches and
// their hops. A Peer (what the spread knows of one run of a member) is owned by whoever keeps the members: the spread asks for
// it by id in each call, and keeps none. Items belong to the history, and are only read.
//
// # Invariants
//
//   - A hop is in one of the states of hopState, and leaves it only by an event of hopTable.
//   - A batch is done when none of its hops is open. It then has an answer for every member of its slice: held, or given up.
//   - The bytes of a batch of our own count in its Flow from Start until no hop of it counts in the window. That comes to pass
//     whatever the members answer, and if they answer nothing.
//   - At most MaxBatches batches of others are remembered, and no batch is admitted while maxServed of its root are not done.
package spread
