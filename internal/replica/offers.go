package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// offers gives the states of channels to members that ask.
type offers struct {
	out       *output
	roster    *roster
	channels  *channelSet
	types     *types
	coverages *coverages

	open int // offers that wait to be asked for more
}

const (
	// maxGifts bounds the states of one channel that are kept because somebody may ask for more of them: so they take at most
	// maxGifts × SyncBytes.
	maxGifts = 2
	// offerFor is how long they are, after they were asked for last.
	offerFor = 20 * time.Second
	// rangesInFrame bounds the bytes of what a frame says of the contents of its state.
	rangesInFrame = 32 << 10
)

// gift is a state that was taken, cut into frames. Members that asked for it at one time share it.
type gift struct {
	frames  []*starlingpb.Sync // but for id and key
	partial bool
}

// offer is a state on its way to one member.
type offer struct {
	*gift
	request SnapshotRequest
	sent    uint32 // frames
	until   time.Time
}

// asked passes the question for a state on to the channel's handler, if there is anything to give. Whoever has not proven where it is
// gets one small answer, whatever it asks: what is to be proven. By stream, since packets may not reach it.
func (os *offers) asked(from *peer, m *starlingpb.SyncAsk, now time.Time) {
	if !os.roster.proven(from, m.GetProof()) {
		os.out.tell(from.Peer, wire.BodySync, &starlingpb.Sync{Id: m.GetId(), Key: m.GetKey(), Proof: from.proof}, from.live())
		return
	}
	os.types.introduced(from, m.GetTypes(), now)
	ch := os.channels.byKey[m.GetKey()]
	if m.GetNext() > 0 {
		os.goOn(ch, from, m, now)
		return
	}
	request := SnapshotRequest{From: from.Peer, ID: m.GetId()}
	verdict := os.judge(ch, from, m, now)
	if verdict == starlingpb.Sync_WAIT && !ch.request(request) {
		verdict = starlingpb.Sync_FAILED
	}
	if verdict == starlingpb.Sync_WAIT {
		os.out.wake(ch)
	}
	os.refuse(m.GetKey(), request, verdict, 0)
}

// judge decides whether the state of a channel is worth giving. Sync_WAIT: it is.
func (os *offers) judge(ch *Channel, from *peer, m *starlingpb.SyncAsk, now time.Time) starlingpb.Sync_Verdict {
	have := coverage{}
	switch {
	case ch == nil || !ch.State:
		return starlingpb.Sync_NO_CHANNEL
	case os.types.verdict(from, ch, now) == typeOther:
		return starlingpb.Sync_NO_CHANNEL // no state for this one
	case os.types.verdict(from, ch, now) == typeUnknown:
		return starlingpb.Sync_FAILED
	case m.GetFirst():
		return starlingpb.Sync_WAIT
	case !have.decode(m.GetHave()):
		os.out.dropOn(DropMalformed, ch.Key)
		return starlingpb.Sync_FAILED
	case !os.coverages.exceeds(os.coverages.of(ch), have, now):
		return starlingpb.Sync_NOTHING
	case !os.coverages.exceeds(os.coverages.handled(ch), have, now):
		return starlingpb.Sync_FAILED // it waits for the handler
	}
	return starlingpb.Sync_WAIT
}

// refuse answers that there is no state to give, or not yet.
func (os *offers) refuse(key string, to SnapshotRequest, v starlingpb.Sync_Verdict, size uint64) {
	os.out.tell(to.From, wire.BodySync, &starlingpb.Sync{Id: to.ID, Key: key, Verdict: v, Size: size, Last: v != starlingpb.Sync_WAIT}, true)
}

// goOn sends the next frames of a state that is on its way.
func (os *offers) goOn(ch *Channel, from *peer, m *starlingpb.SyncAsk, now time.Time) {
	if ch != nil {
		if o := ch.offers[from.ID]; o != nil && o.request.ID == m.GetId() && int(m.GetNext()) <= len(o.frames) {
			if o.until = now.Add(offerFor); m.GetAgain() {
				o.sent = m.GetNext()
			}
			os.send(ch, o, m.GetNext()+syncWindow)
			return
		}
	}
	os.refuse(m.GetKey(), SnapshotRequest{From: from.Peer, ID: m.GetId()}, starlingpb.Sync_FAILED, 0)
}

// give gives a state that was taken to those who have asked.
func (os *offers) give(ch *Channel, who []SnapshotRequest, s Snapshot, items [][]byte, now time.Time) {
	g := &gift{frames: framesOf(s.contains, items), partial: s.partial}
	for _, to := range who {
		o := &offer{gift: g, request: to, until: now.Add(offerFor)}
		os.send(ch, o, syncWindow)
		os.drop(ch, to.From.ID)
		if int(o.sent) < len(o.frames) {
			os.keep(ch, o)
		}
	}
}

// keep keeps an offer for who asks for more, at the cost of the oldest if there are too many states.
func (os *offers) keep(ch *Channel, o *offer) {
	if ch.offers == nil {
		ch.offers = map[uint64]*offer{}
	}
	ch.offers[o.request.From.ID] = o
	os.open++
	for {
		var oldest *offer
		gifts := map[*gift]bool{}
		for _, other := range ch.offers {
			gifts[other.gift] = true
			if other.gift != o.gift && (oldest == nil || other.until.Before(oldest.until) ||
				other.until.Equal(oldest.until) && other.request.From.ID < oldest.request.From.ID) {
				oldest = other
			}
		}
		if len(gifts) <= maxGifts {
			return
		}
		os.drop(ch, oldest.request.From.ID)
	}
}

func (os *offers) drop(ch *Channel, id uint64) {
	if ch.offers[id] != nil {
		delete(ch.offers, id)
		os.open--
	}
}

// close drops the offers of a channel that is closed.
func (os *offers) close(ch *Channel) {
	os.open -= len(ch.offers)
	ch.offers = nil
}

// tick drops the offers that nobody has asked for any more.
func (os *offers) tick(now time.Time) {
	if os.open == 0 {
		return
	}
	for _, ch := range os.channels.byKey {
		for id, o := range ch.offers {
			if now.After(o.until) {
				os.drop(ch, id)
			}
		}
	}
}

// send sends the frames of an offer that were not sent yet, up to one.
func (os *offers) send(ch *Channel, o *offer, upTo uint32) {
	self, key := os.out.self, ch.Key
	for ; o.sent < min(upTo, uint32(len(o.frames))); o.sent++ {
		f, index, last := o.frames[o.sent], o.sent, int(o.sent) == len(o.frames)-1
		id, partial := o.request.ID, o.partial
		os.out.Streams = append(os.out.Streams, wire.Stream{
			To: o.request.From, Size: frameSize(f), Bulk: true,
			Encode: func(time.Time) []byte {
				return wire.EncodeControl(self, wire.BodySync, &starlingpb.Sync{
					Id: id, Key: key, Index: index, Contains: f.Contains, Items: f.Items, Split: f.Split, Last: last, Partial: partial,
				})
			},
		})
	}
}

// frameSize is about as long as a frame is encoded.
func frameSize(f *starlingpb.Sync) int {
	size := 256
	for _, r := range f.Contains {
		size += rangesSize(r)
	}
	for _, item := range f.Items {
		size += len(item) + 8
	}
	return size
}

func rangesSize(r *starlingpb.Ranges) int { return 16 + 10*len(r.Spans) }

// framesOf cuts a state into frames: first what it contains, then its items, of which large ones take several frames.
func framesOf(contains coverage, items [][]byte) []*starlingpb.Sync {
	frames := []*starlingpb.Sync{{}}
	f, size := frames[0], 0
	next := func() {
		f, size = &starlingpb.Sync{}, 0
		frames = append(frames, f)
	}
	for _, r := range contains.encode(0) {
		if size += rangesSize(r); size > rangesInFrame && len(f.Contains) > 0 || len(f.Contains) == wire.MaxSyncItems {
			next()
			size = rangesSize(r)
		}
		f.Contains = append(f.Contains, r)
	}
	for _, item := range items {
		if len(f.Items) > 0 && size+len(item) > SyncFrame || len(f.Items) == wire.MaxSyncItems {
			next()
		}
		for size+len(item) > SyncFrame && len(item) > SyncFrame {
			room := max(SyncFrame-size, SyncFrame/2)
			f.Items, f.Split = append(f.Items, item[:room]), true
			item = item[room:]
			next()
		}
		f.Items = append(f.Items, item)
		size += len(item)
	}
	return frames
}
