package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// TestControlBothWays: the generated code reads our control frames, and we its.
func TestControlBothWays(t *testing.T) {
	from := testSender()
	pb := &starlingpb.Sender{Origin: from.ID, Name: from.Name, Addr: EncodeAddr(from.Addr)}
	direct := &starlingpb.Direct{Key: "k", Data: []byte("data"), Id: 3, Floor: 2}
	ack := &starlingpb.DirectAck{Id: 3, Verdict: starlingpb.DirectAck_BUSY}
	batch := &starlingpb.Batch{Via: starlingpb.Batch_REPAIR, Parts: [][]byte{{1}, {2, 3}}}
	for _, tt := range []struct {
		ours []byte
		want *starlingpb.Control
		body protowire.Number
	}{
		{
			EncodeControl(from, BodyGoodbye, &starlingpb.Goodbye{}),
			&starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}}, BodyGoodbye,
		},
		{
			EncodeControl(from, BodyGoodbyeAck, &starlingpb.GoodbyeAck{}),
			&starlingpb.Control{Sender: pb, Body: &starlingpb.Control_GoodbyeAck{GoodbyeAck: &starlingpb.GoodbyeAck{}}}, BodyGoodbyeAck,
		},
		{
			EncodeControl(from, BodyDirect, direct),
			&starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Direct{Direct: direct}}, BodyDirect,
		},
		{
			EncodeControl(from, BodyDirectAck, ack),
			&starlingpb.Control{Sender: pb, Body: &starlingpb.Control_DirectAck{DirectAck: ack}}, BodyDirectAck,
		},
		{
			EncodeBatch(from, starlingpb.Batch_REPAIR, batch.Parts...),
			&starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Batch{Batch: batch}}, BodyBatch,
		},
	} {
		want := &starlingpb.Part{Control: tt.want}
		var got starlingpb.Part
		if err := proto.Unmarshal(tt.ours, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("generated code reads %v (%v), want %v", &got, err, want)
		}
		for _, frame := range [][]byte{tt.ours, mustMarshal(t, want)} {
			p, err := ParsePart(frame)
			if err != nil || len(p.Key) != 0 {
				t.Errorf("%v: %v", want, err)
				continue
			}
			ctl, err := ParseControl(p.Control)
			if err != nil || ctl.From != from || ctl.Body != tt.body {
				t.Errorf("%v: parsed %+v, %v", want, ctl, err)
			}
			for n := range p.Control { // cut anywhere, it is refused or shorter
				if ctl, err := ParseControl(p.Control[:n]); err != nil && !errors.Is(err, ErrMalformed) {
					t.Errorf("%v cut at %d: %+v, %v", want, n, ctl, err)
				}
			}
		}
	}
}

// TestControlRefused: a control frame says who wrote it, or is malformed; a body of a later version is neither.
func TestControlRefused(t *testing.T) {
	addr := EncodeAddr(netip.MustParseAddrPort("127.0.0.1:1"))
	for name, s := range map[string]*starlingpb.Sender{
		"no sender": nil, "no origin": {Name: "a", Addr: addr}, "no name": {Origin: 1, Addr: addr},
		"long name": {Origin: 1, Name: strings.Repeat("n", MaxNameSize+1), Addr: addr},
		"no addr":   {Origin: 1, Name: "a"}, "odd addr": {Origin: 1, Name: "a", Addr: make([]byte, 7)},
		"short addr": {Origin: 1, Name: "a", Addr: []byte{1}},
	} {
		b := mustMarshal(t, &starlingpb.Control{Sender: s, Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}})
		if _, err := ParseControl(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := control(t, FrameControl(testSender(), lastBody+1, []byte("?")))
	if later.Body != 0 || later.From != testSender() {
		t.Errorf("a body of a later version: %+v", later)
	}
	for _, body := range []protowire.Number{BodySpread, BodyReports} {
		if c := control(t, FrameControl(testBrief(), body, nil)); c.From != testBrief() || c.Body != body {
			t.Errorf("body %d of a sender without a name: %+v", body, c)
		}
	}
}

// TestBundle: the frames of a bundle come out as they went in; a malformed rest ends it.
func TestBundle(t *testing.T) {
	frame := EncodeBundle(testSender(), [][]byte{[]byte("one"), nil, []byte("three")})
	c := control(t, frame)
	want := &starlingpb.Bundle{Frames: [][]byte{[]byte("one"), {}, []byte("three")}}
	if c.Body != BodyBundle || !bytes.Equal(c.Content, mustMarshal(t, want)) {
		t.Errorf("body %d: %x", c.Body, c.Content)
	}
	var got []string
	for frame := range Bundled(append(slices.Clone(c.Content), 0xff)) {
		got = append(got, string(frame))
	}
	if !slices.Equal(got, []string{"one", "", "three"}) {
		t.Errorf("frames %q", got)
	}
	for range Bundled(c.Content) {
		break
	}
}

// FuzzControl: who wrote a frame is known, or it is refused.
func FuzzControl(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePart(b); err == nil && p.Control != nil {
			b = p.Control // the seeds are whole frames
		}
		ctl, err := ParseControl(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		brief := ctl.Body == BodySpread || ctl.Body == BodyReports || ctl.Body == 0
		switch from := ctl.From; {
		case from.ID == 0, len(from.Name) > MaxNameSize, ctl.Body > lastBody, from.Name == "" && !brief,
			(from.Name == "") == from.Addr.IsValid():
			t.Fatalf("accepted %+v", ctl)
		}
		p, err := ParsePart(FrameControl(ctl.From, ctl.Body, ctl.Content))
		if err != nil {
			t.Fatal(err)
		}
		if ctl.Body == 0 {
			return
		}
		again, err := ParseControl(p.Control)
		if err != nil || again.From != ctl.From || again.Body != ctl.Body || !bytes.Equal(again.Content, ctl.Content) {
			t.Fatalf("encoded again: %+v (%v), was %+v", again, err, ctl)
		}
	})
}

func BenchmarkParseControl(b *testing.B) {
	for name, from := range map[string]Peer{"id": testBrief(), "name": testSender()} {
		b.Run(name, func(b *testing.B) {
			p, err := ParsePart(FrameControl(from, BodySpread, spreadContent(BatchID{Root: 1, N: 1}, 7, 0, testPart())))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseControl(p.Control); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
