package starlingstatus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/starling-go/starling"
)

// source is what the page needs of a cluster.
type source interface {
	Self() starling.Member
	Members() []starling.Member
	Stats() starling.Stats
	Health() starling.Health
	Keys() starling.KeyringStatus
	Contacts() starling.Contacts
	// Confirm and Send are those of the probe's channel, with an empty message.
	Confirm(context.Context) error
	Send(context.Context, starling.Member) error
}

// member is a cluster as a source.
type member struct {
	*starling.Cluster
	probe *starling.Channel[[]byte] // nil: there is no probe
}

func (m member) Keys() starling.KeyringStatus { return m.Keyring().Status() }

func (m member) Confirm(ctx context.Context) error { return m.probe.Confirm(ctx, nil, nil) }

func (m member) Send(ctx context.Context, to starling.Member) error {
	return m.probe.SendMember(ctx, to, nil)
}

// status makes a picture.
func (p *page) status() *Status {
	stats, health := p.from.Stats(), p.from.Health()
	s := &Status{
		Time: time.Now(), Self: p.from.Self().Name, Ready: health.NotReady == nil, NotReady: notReady(health.NotReady),
		Channels: channels(stats), Drops: dropsOf(stats.Dropped), Maps: []MapState{},
		Queue:   Queue{stats.Queue.Messages, stats.Queue.Bytes, Duration(stats.Queue.Oldest)},
		History: History(stats.History),
		Lost:    stats.Lost, Relayed: stats.Relayed, Repaired: stats.Repaired,
		Traffic: Traffic(stats.Traffic),
		Probe:   p.probe,
	}
	keys, contacts := p.from.Keys(), p.from.Contacts()
	s.Label, s.Seeds, s.Refused = contacts.Label, seeds(contacts.Seeds), refused(contacts.Refused)
	if keys.Uses != "" {
		s.Keys = &Keys{keys.Uses, keys.Wants, keys.Accepts, keys.Dropped, keys.Lagging}
	}
	s.Members = p.members(health.Silent, keys, contacts.Heard, s.Time)
	for _, m := range p.o.Maps {
		s.Maps = append(s.Maps, m.state())
	}
	s.Gaps, s.Happened = p.recent.copies()
	return s
}

func (p *page) members(silent []starling.Member, keys starling.KeyringStatus, heard map[string]time.Time, now time.Time) []Member {
	type trait struct {
		silent, lagging bool
		key             string
	}
	traits := map[string]trait{}
	for _, k := range keys.Members {
		traits[k.Name] = trait{key: k.Uses}
	}
	for _, name := range keys.Lagging {
		t := traits[name]
		t.lagging = true
		traits[name] = t
	}
	for _, m := range silent {
		t := traits[m.Name]
		t.silent = true
		traits[m.Name] = t
	}
	self, all := p.from.Self().Name, p.from.Members()
	members := make([]Member, 0, len(all))
	for _, m := range all {
		t := traits[m.Name]
		shown := Member{
			Name: m.Name, ID: idOf(m), Addr: m.Addr.String(), State: StateAlive, Self: m.Name == self, RTT: Duration(m.RTT.Round(time.Microsecond)),
			Version: m.Version, Meta: cut(p.o.Meta(m), maxText), Key: t.key, Lagging: t.lagging,
		}
		if at, ok := heard[m.Name]; ok {
			shown.Heard = Duration(max(now.Sub(at).Round(time.Millisecond), time.Millisecond))
		}
		if p.o.Zone != nil {
			shown.Zone = cut(p.o.Zone(m), maxText)
		}
		if m.Foreign() {
			shown.State = StateForeign
		}
		if t.silent {
			shown.State = StateSilent
		}
		members = append(members, shown)
	}
	return members
}

// idOf returns a member's id in hex, which JavaScript can read too; empty for a foreign member.
func idOf(m starling.Member) string {
	if m.ID == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", m.ID)
}

// metaText shows metadata that is text as it is, and any other in hex.
func metaText(m starling.Member) string {
	text := string(m.Meta)
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	return fmt.Sprintf("%x", m.Meta)
}

func seeds(errs []*starling.SeedError) (all []Seed) {
	for _, e := range errs {
		all = append(all, Seed{e.Seed, e.Err.Error()})
	}
	return all
}

func refused(of []starling.Refusal) (all []Refusal) {
	for _, r := range of {
		all = append(all, Refusal{r.Reason.String(), r.Count, r.From, r.Last, r.Said})
	}
	return all
}

func channels(stats starling.Stats) []Channel {
	channels := make([]Channel, 0, len(stats.Channels))
	for key, c := range stats.Channels {
		shown := Channel{
			Key: key, Accepted: c.Accepted, Sent: c.Sent, Superseded: c.Superseded, Received: c.Received, Duplicates: c.Duplicates,
			Delivered: c.Delivered, Inbox: c.Inbox, Deferred: c.Deferred, HandlerTime: Duration(c.HandlerTime),
			Running: Duration(c.Running), Differing: c.Differing, Drops: dropsOf(c.Dropped),
		}
		if left := c.Sent + c.Superseded; c.Accepted > left {
			shown.Queued = c.Accepted - left
		}
		if c.Delivered > 0 {
			shown.HandlerMean = Duration(c.HandlerTime / time.Duration(c.Delivered))
		}
		channels = append(channels, shown)
	}
	slices.SortFunc(channels, func(a, b Channel) int { return cmp.Compare(a.Key, b.Key) })
	return channels
}

func dropsOf(counts map[starling.Drop]uint64) []Drop {
	drops := []Drop{}
	for _, d := range slices.Sorted(maps.Keys(counts)) {
		drops = append(drops, Drop{d.String(), d.Direction().String(), counts[d]})
	}
	return drops
}

func notReady(e *starling.NotReadyError) *NotReady {
	if e == nil {
		return nil
	}
	n := &NotReady{Reason: e.Reason.String(), Text: e.Error(), Channel: e.Channel, OfMap: e.OfMap, Have: e.Have, Want: e.Want}
	for _, m := range e.Members {
		n.Members = append(n.Members, m.Name)
	}
	return n
}
