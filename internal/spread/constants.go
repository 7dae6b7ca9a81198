package spread

import "time"

// Every number that the spread decides by, and where it comes from. "Measured" is in virtual
// time on links of 1 ms (half of it jitter), if nothing else is said: the median and the slowest time until a message was
// with all of 50 members at 30 % loss, means of three runs of 300 messages (TestSpread in internal/spreadtest, SPREAD_SEED 1
// to 3). With the values below that is 19.2 and 195 ms. TestCouplings has what one number demands of another.
const (
	// fanOut is how many slices a member cuts its own slice into. Measured: 4 takes 24.9 and 252 ms, 16 takes 21.0
	// and 363. With 200 members (one run) the medians of 4, 8 and 16 are 5.3, 4.1 and 2.9 ms without loss, 67, 42 and 48 ms
	// at 30 % loss.
	fanOut = 8

	// RTOFirst is the time-out before the first measurement; rtoMin and RTOMax bound it afterwards. Measured: an
	// RTOFirst of 5 ms takes 18.3 and 259 ms, 20 ms takes 20.4 and 360; an rtoMin of 1 ms takes 18.9 and 243, 4 ms takes 21.7
	// and 237.
	RTOFirst = 10 * time.Millisecond
	rtoMin   = 2 * time.Millisecond
	RTOMax   = time.Second

	// flatTries is how many tries wait for the plain time-out before it doubles. Measured: 1 takes 32.3 and 289 ms; 5
	// takes 17.7 and 165, at no cost here, but asks a member that is busy, not lossy, more often.
	flatTries = 3
	// FlatTime is how long those tries take before the first measurement. What has been missing for less may still come by
	// the spread, and is nothing for repair to pull.
	FlatTime = flatTries * RTOFirst
	// doublings is how often the time-out doubles at most. Measured: 2 takes 19.1 and 191 ms, 5 takes 18.7 and 332.
	doublings = 3
	// streamEvery: of so many tries in a row without an answer, the last goes by stream beside the packet. It
	// is for members that packets do not reach. Measured: without it 20.2 and 478 ms, and 829 bytes a delivery
	// instead of 928. A stream instead of the packet took a median of 42 ms (see ARCHITECTURE.md).
	streamEvery = 3
	// headTries is after how many tries a slice is handed on. Two streams are among them. At 30 % loss one child in 5,000
	// gets none of seven packets. Measured: 4 takes 19.6 and 173 ms, with 3 % more bytes.
	headTries = 7
	// leafTries is how often a member without others behind it is tried. Measured: 7 takes 18.7 and 507 ms, for repair comes
	// later.
	leafTries = 2 * headTries
	// largeTries is how often a large batch is sent by stream, or waited for again.
	largeTries = 5
	// flyFor, and what its bytes take at flyRate bytes a second, is how long a stream may take to be written before the rest of the
	// slice is handed on: the member hangs, or its link is slow, and others may be faster.
	flyFor  = 250 * time.Millisecond
	flyRate = 1 << 20
	// largeWait is how long the answer to a large batch is waited for when its stream was written, before the rest of the slice is
	// handed on: if the member was not heard meanwhile, which answers other frames too.
	largeWait = 300 * time.Millisecond
	// firstRate is the slowest link, in bytes a second, that the first large batch is waited for on, before anything was measured.
	firstRate = 256 << 10
	// largeMute, or largeMutes times what an answer is waited for, is how long a member may answer nothing at all that was sent a large
	// batch, before it is given up.
	largeMute  = 1500 * time.Millisecond
	largeMutes = 4
	// heardMutes times as long may one that is heard: it answers other frames, and its link may be slow.
	heardMutes = 2
	// readMost bounds how long a member may take to read so much more of a large batch that it tells: largeMutes times that, and it is given up.
	readMost = 4 * time.Second
	// deafFor is how long a member is sent no large batch that took one so badly, though it answers other frames: a firewall may let
	// packets pass and no streams. Repair gives it what it lacks if it can. Without it each large message would wait for it again.
	deafFor = 30 * time.Second
	// largePatience is how long a member that is heard may take to answer for a stream that was written. What the system's buffers
	// hold may be megabytes, and the link slow.
	largePatience = 30 * time.Second
	// bringsFor is how long after it has left a piece may be on its way before it is given to a member that asks for it.
	bringsFor = 2 * time.Second
	// chunkFanOut is how many slices a piece of a large message is cut into by whoever passes it on.
	chunkFanOut = 4
	// aheadHops and aheadBytes are how many large batches of our own may be on their way: so many, or so many bytes, whatever is more.
	aheadHops  = 3
	aheadBytes = 128 << 10

	// silentMin and silentRTOs: a member is silent that owes an answer for max(silentMin, silentRTOs · RTO).
	silentMin  = time.Second
	silentRTOs = 8
	// leafFor is how long a member that did not answer heads no slice. It is longer than memberlist takes to drop a dead
	// member (6.8 to 9.0 s in clusters of 30, measured), so that nobody waits for a dead one a second time.
	leafFor = 10 * time.Second
	// probeEvery is how often a silent member is sent a batch all the same. A dead one costs four packets a second, and one
	// that has come back is noticed within 250 ms while there are batches. Not measured.
	probeEvery = silentMin / 4

	// heldRTOs: a child that holds the batch is asked after so many RTOs whether its slice is done. Measured: 4 takes 18.9 and
	// 204 ms, 16 takes 19.2 and 367.
	heldRTOs = 8
	// heldPause is the longest pause before such a question about a large batch: the pauses double. Measured (TestManyHangAtOnce), 1 MiB to 60
	// members of which 32 crash at once: 47,000 questions in 13 s; without longer pauses 418,000.
	heldPause = 250 * time.Millisecond
	// treeDepth is how many hops lead from the root to the last of 1,000 members.
	treeDepth = 4
	// heldMost is how long a child may say that it holds the batch and that its slice is not done. A dead member at each
	// level below may delay it by silentMin; one level is to spare. Measured with one member in twenty dead: at most 3.6 s in
	// 25,550 hops with 200 members and 30 % loss, 1.1 s with 50 members. At 60 % loss one hop in a hundred takes longer than
	// heldMost.
	heldMost = (treeDepth + 1) * silentMin
	// heldLong is the same for a large batch: links may be slow, and a child that says so lives.
	heldLong = time.Minute
	// keepDone is how long a batch of others is remembered when it is done. A parent asks after it for heldMost. In
	// the same runs the last question came 3.4 s after a batch was done.
	keepDone = heldMost

	// encodedFor is how old the ages in an encoded batch may be, so that it is encoded once for the heads of all slices. Ages
	// are in ms; treeDepth times this is 40 ms of a Retention.Age of 60 s. Not measured.
	encodedFor = 10 * time.Millisecond

	// maxGone is how many members that were given up a report names. These are 512 bytes, so that two reports fit a packet.
	maxGone = 64
	// maxServed is how many batches of one root a member serves at once: four full windows, since hops that were released
	// from the window go on. MaxBatches is how many batches of others it remembers: those of eight roots at full speed. Not
	// measured at full speed; in virtual time, where the window stays small, it serves at most 36 of one root.
	maxServed  = 4 * windowMax
	MaxBatches = 8 * maxServed

	// windowFirst, windowMin and windowMax are the send window of small batches, in packets. Measured on real sockets
	// at full speed (commits d38b264, dfcd0b1): with a windowMax of 128 it is 120 on average, so at its end; with 256 it is
	// 180.
	windowFirst = 32
	windowMin   = 4
	windowMax   = 256
)
