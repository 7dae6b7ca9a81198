package starling

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// control acts on a control frame: all of them but the goodbyes, which are about the membership. Bodies of a later version
// are ignored. An error says that the body is malformed; then nothing has happened.
func (r *replica) control(ctl control, now time.Time) error {
	switch ctl.body {
	case bodyDirect:
		return answer(r, ctl, func(from Member, m *starlingpb.Direct) { r.receiveDirect(ctl.from, from, m, now) })
	case bodyDirectAck:
		return answer(r, ctl, func(from Member, m *starlingpb.DirectAck) {
			if out, ok := r.calls[from.ID]; ok {
				out.answer(m.GetId(), m.GetVerdict())
			}
		})
	case bodyBatch:
		r.receiveBatch(ctl, now)
	case bodyDigest:
		return answer(r, ctl, func(from Member, m *starlingpb.Digest) { r.receiveDigest(from, m, now) })
	case bodyPull:
		return answer(r, ctl, func(from Member, m *starlingpb.Pull) { r.serve(from, m, now) })
	case bodyAsk:
		return answer(r, ctl, func(from Member, m *starlingpb.BaselineAsk) { r.tellBaseline(from, m.GetStream()) })
	case bodyBaseline:
		return answer(r, ctl, func(from Member, m *starlingpb.Baseline) { r.told(from.ID, m.GetNext(), m.GetTop(), now) })
	case bodySpread:
		return r.receiveSpreadFrame(ctl, now)
	case bodyReports:
		if _, ok := r.peerByID(ctl.from.id); !ok {
			r.drops.add(DropStranger)
			return nil
		}
		for rep := range reportsIn(ctl.content) {
			r.spread.report(ctl.from.id, rep, now)
		}
	case bodyHeldAsk:
		return answer(r, ctl, func(from Member, m *starlingpb.HeldAsk) {
			r.tell(from, bodyHeldAnswer, r.fate(from.ID, m), false)
		})
	case bodyHeldAnswer:
		return answer(r, ctl, func(from Member, m *starlingpb.HeldAnswer) { r.fated(from, m) })
	case bodySyncAsk:
		return answer(r, ctl, func(from Member, m *starlingpb.SyncAsk) { r.askedForState(from, m) })
	case bodySync:
		return answer(r, ctl, func(from Member, m *starlingpb.Sync) { r.receiveSync(from.ID, m, now) })
	}
	return nil
}

// body is what the message type *T of a control frame's body is.
type body[T any] interface {
	*T
	proto.Message
}

// answer decodes the body of a control frame and acts on it, if it is from a member.
func answer[T any, M body[T]](r *replica, ctl control, act func(Member, M)) error {
	from, ok := r.peerByID(ctl.from.id)
	if !ok {
		r.drops.add(DropStranger)
		return nil
	}
	m := M(new(T))
	if err := proto.Unmarshal(ctl.content, m); err != nil {
		return fmt.Errorf("%w: control body %d: %v", errMalformed, ctl.body, err)
	}
	act(from, m)
	return nil
}

func (r *replica) receiveDirect(by sender, from Member, m *starlingpb.Direct, now time.Time) {
	if m.GetId() == 0 || m.GetKey() == "" {
		r.drops.add(DropMalformed)
		return
	}
	verdict := r.direct(by, m, Direct, now)
	r.tell(from, bodyDirectAck, &starlingpb.DirectAck{Id: m.GetId(), Verdict: verdict}, false)
}

// receiveBatch takes parts that travelled together. Each stands for itself.
func (r *replica) receiveBatch(ctl control, now time.Time) {
	for frame, via := range batchParts(ctl.content) {
		p, err := parsePart(frame)
		if err != nil || len(p.key) == 0 {
			r.drops.add(DropMalformed)
			continue
		}
		r.receive(p, frame, via, now)
	}
	id, lacks := batchEnd(ctl.content)
	if from, ok := r.peerByID(ctl.from.id); ok && id != 0 {
		r.pulled(from, id, lacks, now)
	}
}

func (r *replica) receiveSpreadFrame(ctl control, now time.Time) error {
	f, err := parseSpread(ctl.content)
	if err != nil {
		return err
	}
	if from, ok := r.peerByID(ctl.from.id); ok {
		r.receiveSpread(from, f, now)
		return nil
	}
	r.drops.add(DropStranger)
	return nil
}
