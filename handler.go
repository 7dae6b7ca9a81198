package starling

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// channel is what runs below a Channel, without its type: the handler and its goroutine. What the protocol knows of it is in
// core. The cluster's mu guards all that is not set before it is opened.
type channel struct {
	core  replica.Channel
	c     *Cluster
	ofMap bool // it belongs to a Map
	// handle decodes a delivery and runs the user's handler. An error means that it could not be decoded.
	handle func(context.Context, replica.Delivery, Member) error
	// snapshot yields the encoded items of the channel's state; nil: it has none. It runs on the channel's goroutine.
	snapshot   func(yield func([]byte) bool) error
	opened     func()                 // if set, called before the goroutine starts
	bytesState bool                   // it is a State, which push/pull carries too
	merging    atomic.Pointer[[]byte] // the bytes that a State merges right now, if others have them as they are

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
	wake   chan struct{} // holds a token when there may be something to do

	pushPulls     []chan<- []byte      // who waits for the state, for push/pull
	handlersFirst time.Time            // until then what waits for the handler goes before the state
	lastState     []byte               // the state as push/pull carried it last
	writtenOff    uint64               // own messages that were given up
	lacking       map[uint64]wire.Peer // for whom, by id; at most maxLacking
	flushers      []*flusher
	watchers      []*progressReader
	busySince     time.Time // when the handler was called that has not returned; zero: none runs
	stuck         bool      // the log has told of that call
	stuckTold     seldom    // and when it did so last, of any call
	handlerTime   atomic.Int64
	dropped       dropCounts
}

// decodeFor returns what decodes a delivery and hands it to the user's handler.
func decodeFor[T any](codec Codec[T], handle func(context.Context, Message[T])) func(context.Context, replica.Delivery, Member) error {
	return func(ctx context.Context, d replica.Delivery, from Member) error {
		v, err := codec.Decode(d.Payload())
		if err != nil {
			return err
		}
		handle(ctx, Message[T]{Value: v, From: from.clone(), Seq: d.Seq, Age: time.Since(d.Born), Via: Via(d.Route), TraceContext: d.Trace()})
		return nil
	}
}

// open opens a channel and starts its goroutine.
func (c *Cluster) open(ch *channel) error {
	core := &ch.core
	if err := ch.checkKey(); err != nil {
		return err
	}
	if err := checkType(core.Type); err != nil {
		return err
	}
	setDefault(&core.Inbox.Messages, DefaultInboxMessages)
	setDefault(&core.Inbox.Bytes, DefaultInboxBytes)
	if err := checkBounds(core); err != nil {
		return err
	}
	setDefault(&core.FIFOHold, c.cfg.Retention.Age)
	ch.c, core.Owner, core.State = c, ch, ch.snapshot != nil
	ch.done = make(chan struct{})
	ch.wake = make(chan struct{}, 1)
	ch.ctx, ch.cancel = context.WithCancel(context.WithValue(c.ctx, handlerContext{}, ch))
	var err error
	c.do(func(r *replica.Replica, now time.Time) {
		switch {
		case c.leaving:
			err = ErrClosed
		case !r.Open(core, now):
			err = keyFault(core.Key, "%s is open already", named(r.Channel(core.Key).Owner.(*channel).ofMap, core.Key))
		default:
			if ch.opened != nil {
				ch.opened()
			}
			c.wg.Go(ch.serve)
		}
	})
	if err != nil {
		ch.cancel()
	}
	return err
}

// checkBounds holds the options of a channel against what makes sense.
func checkBounds(core *replica.Channel) error {
	var faults []error
	fault := func(field string, value any, text string) {
		faults = append(faults, &ConfigError{Field: field, Value: value, Err: errors.New(text)})
	}
	if core.Inbox.Messages < 0 {
		fault("Inbox.Messages", core.Inbox.Messages, fmt.Sprintf("must be at least 1; 0 means %d", DefaultInboxMessages))
	}
	if core.Inbox.Bytes < 0 {
		fault("Inbox.Bytes", core.Inbox.Bytes, fmt.Sprintf("must be at least 1; 0 means %d", DefaultInboxBytes))
	}
	switch {
	case core.FIFOHold < 0:
		fault("FIFOHold", core.FIFOHold, "must be positive; 0 means Retention.Age")
	case core.FIFOHold > 0 && !core.FIFO:
		fault("FIFOHold", core.FIFOHold, "without FIFO nothing is held")
	}
	return errors.Join(faults...)
}

// checkKey holds the key of a channel or Map against what the wire can carry.
func (ch *channel) checkKey() error {
	key, of := ch.core.Key, "channel"
	if ch.ofMap {
		of = "map"
	}
	switch {
	case key == "":
		return keyFault(key, "%s key is empty", of)
	case len(key) > wire.MaxKeySize:
		return keyFault(fmt.Sprintf("%d bytes", len(key)), "%s key of %d bytes, limit %d", of, len(key), wire.MaxKeySize)
	case !utf8.ValidString(key):
		return keyFault(key, "%s key %q is no UTF-8", of, key)
	}
	return nil
}

// maxTypeSize bounds what a codec says that it makes, in bytes.
const maxTypeSize = 255

// checkType holds what a codec or a State says that it makes against what the wire can carry.
func checkType(typ string) error {
	switch {
	case len(typ) > maxTypeSize:
		return &ConfigError{Field: "codec", Value: len(typ), Err: fmt.Errorf("its ContentType may have %d bytes", maxTypeSize)}
	case !utf8.ValidString(typ):
		return &ConfigError{Field: "codec", Value: typ, Err: errors.New("its ContentType is no UTF-8")}
	}
	return nil
}

func keyFault(value, format string, args ...any) error {
	return &ConfigError{Field: "key", Value: value, Err: keyError(fmt.Sprintf(format, args...))}
}

// close closes a channel and waits for its goroutine.
func (ch *channel) close() {
	ch.c.do(func(r *replica.Replica, now time.Time) { r.Close(&ch.core, now) })
	ch.cancel()
	ch.c.awaitHandlers(&ch.core)
}

// handlerPatience is how long a handler may take to return after its context has ended, before the log says who is waited for.
const handlerPatience = time.Second

// handlerContext is the key of the context's value that says whose handler it was given to.
type handlerContext struct{}

// inHandler reports whether a context is that of a handler of c that is running, or made of it.
func inHandler(ctx context.Context, c *Cluster) (in bool) {
	ch, ok := ctx.Value(handlerContext{}).(*channel)
	if ok && ch.c == c {
		c.do(func(*replica.Replica, time.Time) { in = !ch.busySince.IsZero() })
	}
	return in
}

// awaitHandlers waits until the goroutines of channels have ended. After handlerPatience the log names those that have not: whoever
// closes would otherwise hang without a word. It does so once, since a timer that repeats would keep testing/synctest from seeing
// a deadlock.
func (c *Cluster) awaitHandlers(channels ...*replica.Channel) {
	patience, stop := context.WithTimeout(context.Background(), handlerPatience)
	defer stop()
	for _, core := range channels {
		ch := core.Owner.(*channel)
		select {
		case <-ch.done:
			continue
		case <-patience.Done():
		}
		select {
		case <-ch.done: // both had happened
		default:
			c.log.Warn("closing waits for the handler of a channel: it must return when its context ends, and must not call Close or Leave",
				"channel", core.Key)
		}
	}
	for _, core := range channels {
		<-core.Owner.(*channel).done
	}
}

// usable reports whether the channel and its cluster are open. Call it under do.
func (ch *channel) usable() error {
	if ch.c.leaving || ch.core.Closed() {
		return ErrClosed
	}
	return nil
}

// outcome is a delivery that its handler has returned from. The zero outcome: there is none.
type outcome struct {
	replica.Delivery
	err error // it could not be decoded
	at  time.Time
}

// job is what the channel's goroutine does next.
type job struct {
	weigh    bool // look whether the state has anything in it
	deliver  bool
	delivery replica.Delivery
	from     wire.Peer // who has sent it
	meta     []byte    // that it has introduced itself with
	state    bool      // tell the state to all who ask
	asked    []replica.SnapshotRequest
	pushPull []chan<- []byte
	snapshot replica.Snapshot
}

// serve runs the handler for one delivery after the other until the channel closes. It is the channel's only goroutine.
func (ch *channel) serve() {
	defer close(ch.done)
	var last outcome
	for {
		switch j := ch.next(&last); {
		case j.weigh:
			ch.weighState()
		case j.state:
			ch.tellState(j)
		case j.deliver:
			start := time.Now()
			err := ch.handle(ch.ctx, j.delivery, ch.c.table.sentBy(j.from, j.meta))
			last = outcome{j.delivery, err, time.Now()}
			ch.handlerTime.Add(int64(last.at.Sub(start)))
			if ch.ctx.Err() != nil {
				ch.next(&last)
				return
			}
		default:
			select {
			case <-ch.wake:
			case <-ch.ctx.Done():
				return
			}
		}
	}
}

// next notes the end of the last delivery, and returns what is to be done next: one turn of the lock does for both. While
// messages wait for the handler, no more than half of the channel's time goes into telling its state.
func (ch *channel) next(last *outcome) (j job) {
	if last.err != nil {
		ch.drop(DropUndecodable, last.err)
	}
	ch.c.do(func(r *replica.Replica, now time.Time) {
		if !last.at.IsZero() {
			r.Handled(&ch.core, last.Delivery, last.err != nil, last.at)
			*last = outcome{}
			ch.busySince, ch.stuck = time.Time{}, false
		}
		if ch.core.Closed() || ch.ctx.Err() != nil {
			return
		}
		if j.weigh = r.States.Weigh(&ch.core); j.weigh {
			return
		}
		inbox, _ := ch.core.Waiting()
		if (ch.core.Asked() || len(ch.pushPulls) > 0) && (inbox == 0 || now.After(ch.handlersFirst)) {
			j.state = true
			j.pushPull, ch.pushPulls = ch.pushPulls, nil
			j.asked, j.snapshot = r.States.Asked(&ch.core)
			return
		}
		if j.delivery, j.deliver = r.Take(&ch.core, now); j.deliver {
			ch.busySince = now
			j.from, j.meta = r.Membership.Run(j.delivery.Origin)
		}
	})
	return j
}

// sentBy names who has broadcast or sent something: as the membership knows it, or, if memberlist has not told of it yet, as it has
// introduced itself.
func (t *membership) sentBy(p wire.Peer, meta []byte) Member {
	m := t.origin(p.ID)
	if m.Name == "" && p.Name != "" {
		m = told(p.Name, p.Addr, meta)
		m.ID, m.Status = p.ID, StatusAlive
	}
	return m
}
