package script

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// stateItem is a message in the state of a channel.
type stateItem struct {
	channel        int
	origin, number uint64
}

func itemOf(channel int, data []byte) stateItem {
	return stateItem{channel, binary.BigEndian.Uint64(data), Number(data)}
}

// states is what members have in the states of their channels.
type states struct{ m *Model }

// keep puts a message into the state of its channel, if that has one.
func (p *process) keep(channel int, data []byte) {
	if Channels[channel].State {
		p.state[itemOf(channel, data)] = len(data)
	}
}

// keep is keep of what a process has broadcast itself.
func (ss *states) keep(p *process, channel int, data []byte) {
	ss.m.mu.Lock()
	defer ss.m.mu.Unlock()
	p.keep(channel, data)
}

// hasInState reports whether a process has a message in the state of a channel.
func (p *process) hasInState(channel int, origin, number uint64) bool {
	_, has := p.state[stateItem{channel, origin, number}]
	return has
}

// Of returns the state of a process's channel: the messages that it has.
func (ss *states) Of(id uint64, channel int) (items [][]byte) {
	ss.m.mu.Lock()
	defer ss.m.mu.Unlock()
	p := ss.m.processes[id]
	for _, it := range slices.SortedFunc(maps.Keys(p.state), func(a, b stateItem) int {
		return cmp.Or(cmp.Compare(a.origin, b.origin), cmp.Compare(a.number, b.number))
	}) {
		if it.channel == channel {
			items = append(items, payload(it.origin, it.number, p.state[it]))
		}
	}
	return items
}

// Merged says that the handler of a channel with state was called with an item of another member's state.
func (ss *states) Merged(receiver uint64, channel int, data []byte) {
	ss.m.mu.Lock()
	defer ss.m.mu.Unlock()
	q := ss.m.processes[receiver]
	if !Channels[channel].State || len(data) < MinSize {
		ss.m.fault("%v gets %d bytes of a state of channel %s", q, len(data), Channels[channel].Key)
		return
	}
	it := itemOf(channel, data)
	if p := ss.m.processes[it.origin]; p == nil || !bytes.Equal(data, payload(it.origin, it.number, len(data))) || !p.hasInState(channel, it.origin, it.number) {
		ss.m.fault("%v gets a state with a message %d of %x that nobody broadcast", q, it.number, it.origin)
		return
	}
	q.keep(channel, data)
}

// lacking returns what the state of one running process has, and that of another lacks, although it takes messages of that size.
func (ss *states) lacking() (who *process, item stateItem, found bool) {
	for _, q := range ss.m.running {
		for _, p := range ss.m.running {
			if p == nil || q == nil || p == q {
				continue
			}
			for it, size := range p.state {
				if _, has := q.state[it]; !has && size <= ss.m.script.MessageLimit(q.member) && Channels[it.channel].OpenOn(q.member) {
					return q, it, true
				}
			}
		}
	}
	return nil, stateItem{}, false
}

// equal reports whether the states of all that run are equal.
func (ss *states) equal() bool {
	ss.m.mu.Lock()
	defer ss.m.mu.Unlock()
	_, _, found := ss.lacking()
	return !found
}

// settle checks that the states of all that run are equal.
func (ss *states) settle() {
	if q, it, found := ss.lacking(); found {
		ss.m.fault("rule 6: the state of %v on %s lacks message %d of %x, which that of another one has", q, Channels[it.channel].Key, it.number, it.origin)
	}
}
