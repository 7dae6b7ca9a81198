// Package spreadtest measures how a message spreads through a cluster: how long it takes, how many members it reaches, and what
// it costs. It holds nothing but tests; they run in virtual time, so that no machine's noise blurs the figures:
//
//	SPREAD_N=200 SPREAD_LOSS=0.05 SPREAD_COUNT=100 SPREAD_OUT=/tmp/spread.jsonl go test -run 'TestSpread$' ./internal/spreadtest
//
// TestSpread measures Starling; TestTutorial, with the same parameters, what memberlist's tutorial teaches: a delegate with
// a TransmitLimitedQueue, and nobody who passes on what it hears.
//
// # How
//
// The members form on links without loss. Then messages are broadcast one at a time from random members, the next when the
// last has reached all others, or after 30 virtual seconds: first 20 to warm up, then those that count. Before and after
// those that count comes a pause, so that all their traffic, and no other, is counted. Parts and bytes are counted at the
// network, by reading the frames that are written there and that arrive; deliveries in the handlers; nothing is taken from
// the library's own statistics.
//
// # Parameters
//
//	SPREAD_N        members; unset: a small default run
//	SPREAD_LOSS     loss of packets, 0 to 1                 0
//	SPREAD_SIZE     payload in bytes                        200
//	SPREAD_COUNT    messages that count                     100
//	SPREAD_LATENCY  one way; half of it is jitter           1ms
//	SPREAD_SEED     of the faults and the choice of origin  random
//	SPREAD_TLS      over TLS; parts and bytes are not seen       false
//	SPREAD_OUT      file that one line of JSON is appended to
//
// # Figures
//
//	delivered                fraction of (message, member other than its origin) pairs that were handled
//	duplicates               handler calls beyond one
//	to_all_ms_p50, _max      from the broadcast until the last other member's handler; 30,000 stands for never
//	cold_to_all_ms_max       the same of the messages that warm up
//	member_ms_p50, _p99      from the broadcast until a member's handler, over all deliveries
//	receptions_per_delivery  parts that arrived at members, after loss, relays and repairs included, over deliveries
//	sends_per_delivery       parts that were written to the network, over deliveries
//	bytes_per_delivery       bytes written that belong to user messages, acknowledgements and digests included: in packets
//	                         the message and its type byte, in streams all of the stream; over deliveries
//	gaps                     gaps that members reported
package spreadtest
