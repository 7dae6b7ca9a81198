// Package kv is what one member holds of a replicated map, and how two members find out what one of them lacks.
//
//   - [Store] has the entries: which of two writes of a key wins, when an entry expires, how long a deletion is remembered.
//   - [Owners] says whose entries count, in a map where they belong to who has written them.
//   - [Watcher] has what one reader of the changes was not told yet.
//   - [Pull] compares this member's entries with another's, and asks for those that are newer there. [Answer] answers it.
//   - [Schedule] says whom to compare with, and when.
//
// The package is pure: no goroutine, clock, socket or lock. Time comes in as a value, and so do the user's functions' results.
//
// # Which write wins
//
// Every write has a [Version]: a stamp of a hybrid logical clock, and the run that made it. The greater one wins. In a map with a
// function that merges, two values of a key become one; a deletion begins a new base, of which the greater wins, and only
// values of the same base are merged. Either way the result depends on the set of writes alone and not on their order.
//
// # How a deletion stays
//
// A deleted key leaves a tombstone, and an expired one too, for Limits.Tombstones. After that a member that still has the key could
// bring it back. So each member knows for every run up to which stamp it has seen all writes of that run (its coverage), and the
// greatest stamp whose tombstone it has let go (its horizon). If A has not covered some run as far as B has, and B has let go what A may
// not have seen, then A is behind: what A alone has, that is older than the horizon and than the tombstones' age, may have been
// deleted. A drops it. If each is behind the other, the one that was among fewer members for most of that time is reset so.
//
// # Whose entries count
//
// In an owned map (Limits.Owned) every run has an entry of its own for a key, and writes no other. The entries of runs that are no members are
// kept for Limits.Tombstones, and count for nothing: they are not read, not compared, not given. So two members with the same members have
// the same, no newcomer brings back what is gone, and who forgets such entries differs from nobody. A run that is back is asked for what it
// has. And A is behind for each run by itself: only what that run has written may have been deleted, and never what is A's own.
package kv
