package starling

import (
	"context"
	"errors"
	"net/netip"
	"testing"
)

// TestTexts: what people read says what was given, whose limit it is, and what to do.
func TestTexts(t *testing.T) {
	at := netip.MustParseAddrPort("10.0.0.1:7946")
	a, b := Member{Name: "a", Addr: at}, Member{Name: "b"}
	for want, got := range map[string]interface{ String() string }{
		"a joined": Event{Kind: EventJoined, Member: a},
		"b failed": Event{Kind: EventFailed, Member: b},
		"messages 3 to 5 of b are lost to this member": Event{Kind: EventGap, Gap: Gap{Origin: b, First: 3, Last: 5}},
		"the name a of the member at 10.0.0.1:7946 is claimed by another one at 10.0.0.1:7946, which is refused": Event{
			Kind: EventConflict, Member: a, Other: a,
		},
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, got := range map[string]error{
		`starling: channel "only": send to "10.0.0.1:1": no live member has that name (a name is wanted, not an address; see Members)`: &SendError{
			Channel: "only", Member: "10.0.0.1:1", Reason: SendUnknown,
		},
		`starling: channel "only": send to "b": inbox full (ChannelOptions.Inbox of the receiver): context deadline exceeded`: &SendError{
			Channel: "only", Member: "b", Reason: SendBusy, Err: context.DeadlineExceeded,
		},
		`starling: channel "only": send to "b": member gone`: &SendError{Channel: "only", Member: "b", Reason: SendMemberGone},
		`starling: channel "k": message of 9 bytes is larger than the limit of 8 (Config.MaxMessageSize, on every member)`: &TooLargeError{
			Channel: "k", Size: 9, Limit: 8,
		},
		`starling: channel "k": not confirmed by 1 member: b (unhandled)`: &UnconfirmedError{
			Channel: "k", Missing: []Missing{{b, MissingUnhandled}},
		},
		`starling: channel "k": not confirmed by 2 members: a (late) b (gone)`: &UnconfirmedError{
			Channel: "k", Missing: []Missing{{a, MissingLate}, {b, MissingGone}},
		},
		`starling: channel "k": 1 message written off`:                                                        &FlushError{Channel: "k", WrittenOff: 1},
		`starling: leave: 1 message may be held by nobody else, the goodbye was not acknowledged by 1 member`: &LeaveError{Unheld: 1, Unheard: 1},
		`starling: leave: the goodbye was not acknowledged by 2 members: over`: &LeaveError{
			Unheard: 2, Err: errors.New("over"),
		},
		`starling: join: not taken in by 1 member: a at 10.0.0.1:7946 (no answer)`: &NotTakenInError{
			Members: []NotTakenIn{{Name: "a", Addr: at}},
		},
	} {
		if got.Error() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
