package wire

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// TestPartBothWays: the generated code reads what we write, and we what it writes.
func TestPartBothWays(t *testing.T) {
	for i, want := range testParts() {
		age := time.Duration(want.AgeMs) * time.Millisecond
		ours := AppendBody(nil, want.Key, want.Data)
		if len(ours) > BodySize(want.Key, len(want.Data)) {
			t.Errorf("%d: body of %d bytes, said %d", i, len(ours), BodySize(want.Key, len(want.Data)))
		}
		before := len(ours)
		if ours = AppendTrace(ours, want.TraceContext); len(ours)-before != TraceSize(want.TraceContext) {
			t.Errorf("%d: trace of %d bytes, said %d", i, len(ours)-before, TraceSize(want.TraceContext))
		}
		if want.Origin != 0 {
			before := len(ours)
			ours = AppendIdentity(ours, PartID{Origin: want.Origin, Seq: want.Seq}, want.Prev, age)
			if n := len(ours) - before; n > IdentityRoom {
				t.Errorf("%d: identity of %d bytes, room for %d", i, n, IdentityRoom)
			}
		}
		var got starlingpb.Part
		if err := proto.Unmarshal(ours, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%d: generated code reads %.200v (%v), want %.200v", i, &got, err, want)
		}
		for name, frame := range map[string][]byte{"ours": ours, "generated": mustMarshal(t, want)} {
			p, err := ParsePart(frame)
			if err != nil {
				t.Errorf("%d, %s: %v", i, name, err)
				continue
			}
			if string(p.Key) != want.Key || !bytes.Equal(p.Data, want.Data) || p.ID != (PartID{Origin: want.Origin, Seq: want.Seq}) ||
				p.Prev != want.Prev || p.Age != age || p.Control != nil || !bytes.Equal(p.Trace, want.TraceContext) {
				t.Errorf("%d, %s: parsed %.200v", i, name, p)
			}
			if len(p.Data) > 0 && &frame[p.DataAt] != &p.Data[0] {
				t.Errorf("%d, %s: data is not where it is said to be", i, name)
			}
			if ends := name == "ours" && want.Origin != 0 || want.AgeMs != 0 && want.TraceContext == nil; p.AgedEnd != ends {
				t.Errorf("%d, %s: ends with its age: %v", i, name, p.AgedEnd)
			}
		}
	}
}

// TestPartOfAnotherProgram: a Part of two fields, as Alertmanager's cluster package gossips, is one of ours without an
// identity; and that program, which knows those fields alone, reads ours.
func TestPartOfAnotherProgram(t *testing.T) {
	theirs := protowire.AppendTag(nil, 1, protowire.BytesType)
	theirs = protowire.AppendString(theirs, "nfl")
	theirs = protowire.AppendTag(theirs, 2, protowire.BytesType)
	theirs = protowire.AppendBytes(theirs, []byte("entry"))
	p, err := ParsePart(theirs)
	if err != nil || string(p.Key) != "nfl" || string(p.Data) != "entry" || p.ID != (PartID{}) {
		t.Errorf("parsed %+v, %v", p, err)
	}
	if !bytes.Equal(AppendBody(nil, "nfl", []byte("entry")), theirs) {
		t.Error("our body is not their part")
	}
	ours := AppendIdentity(theirs, PartID{Origin: 5, Seq: 6}, 4, time.Second)
	if !bytes.HasPrefix(ours, theirs) {
		t.Error("our part does not begin with theirs")
	}
	var state []byte
	state = AppendFullState(state, "nfl", []byte("entry"))
	state = AppendFullState(state, "sil", nil)
	want := protowire.AppendTag(nil, 1, protowire.BytesType)
	want = protowire.AppendBytes(want, theirs)
	if !bytes.HasPrefix(state, want) {
		t.Error("our full state is not theirs")
	}
}

// TestPartLimits: what breaks a limit is malformed, what just keeps it is not.
func TestPartLimits(t *testing.T) {
	goodbye := &starlingpb.Control{Sender: &starlingpb.Sender{Origin: 1, Name: "a", Addr: make([]byte, 6)}}
	for name, tt := range map[string]struct {
		part *starlingpb.Part
		ok   bool
	}{
		"key of 255":          {&starlingpb.Part{Key: strings.Repeat("k", 255)}, true},
		"key of 256":          {&starlingpb.Part{Key: strings.Repeat("k", 256)}, false},
		"nothing":             {&starlingpb.Part{}, false},
		"no key":              {&starlingpb.Part{Data: []byte("x")}, false},
		"control":             {&starlingpb.Part{Control: goodbye}, true},
		"control with a key":  {&starlingpb.Part{Key: "k", Control: goodbye}, false},
		"origin without seq":  {&starlingpb.Part{Key: "k", Origin: 1}, false},
		"seq without origin":  {&starlingpb.Part{Key: "k", Seq: 1}, false},
		"prev before seq":     {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 1}, true},
		"prev equal to seq":   {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 2}, false},
		"prev after seq":      {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 3}, false},
		"prev without either": {&starlingpb.Part{Key: "k", Prev: 3}, false},
	} {
		_, err := ParsePart(mustMarshal(t, tt.part))
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTraceLimit: a context of a trace that is too long is left out, and its part is none the worse; one that is empty is none.
func TestTraceLimit(t *testing.T) {
	for size, want := range map[int]int{0: 0, 1: 1, MaxTraceSize: MaxTraceSize, MaxTraceSize + 1: 0, 1 << 20: 0} {
		p, err := ParsePart(appendBytes(testPart(), partTrace, make([]byte, size)))
		if err != nil || len(p.Trace) != want || (p.Trace != nil) != (want > 0) || p.LongTrace != (size > MaxTraceSize) || string(p.Data) != "data" {
			t.Errorf("%d bytes: %d, too long %v, %v", size, len(p.Trace), p.LongTrace, err)
		}
	}
}

// TestPartTruncated: cut at any byte, a part is malformed or another valid part, and never more than was there.
func TestPartTruncated(t *testing.T) {
	whole := mustMarshal(t, &starlingpb.Part{
		Key: "key", Data: []byte("data"), Origin: 1 << 60, Seq: 1 << 40, Prev: 1 << 30, AgeMs: 77,
	})
	valid := 0
	for n := range whole {
		p, err := ParsePart(whole[:n])
		if err == nil {
			valid++
			if len(p.Key)+len(p.Data) > n {
				t.Errorf("cut at %d: %+v", n, p)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if valid != 4 { // after the key, the data, seq and prev; an origin alone is half an identity
		t.Errorf("%d cuts are valid", valid)
	}
}

// kept is the copy of a part that a holder keeps: its age is its last field.
func kept(p Part, frame []byte) []byte {
	frame = bytes.Clone(frame)
	if !p.AgedEnd {
		frame = AppendAge(frame, p.Age)
	}
	return frame
}

// TestUnknownFields: what a later version adds is ignored, wherever it stands, and stays in the copy that is kept.
func TestUnknownFields(t *testing.T) {
	frame := testPart()
	later := protowire.AppendTag(nil, 9, protowire.BytesType)
	later = protowire.AppendString(later, "of a later version")
	later = appendBytes(later, partSeq&^7|bytesField, "7") // a known field in another type
	later = appendVarint(later, partData&^7|varintField, 7)
	later = protowire.AppendTag(later, 2000, protowire.StartGroupType)
	later = protowire.AppendTag(later, 2000, protowire.EndGroupType)
	for name, frame := range map[string][]byte{"before": slices.Concat(later, frame), "after": slices.Concat(frame, later)} {
		p, err := ParsePart(frame)
		known := string(p.Key) == "ch" && string(p.Data) == "data" && p.ID == PartID{101, 2} && p.Prev == 1 && p.Age == time.Second
		if err != nil || !known {
			t.Fatalf("%s: %+v, %v", name, p, err)
		}
		again, err := ParsePart(AppendRestamped(nil, kept(p, frame), 5*time.Second))
		if err != nil || again.Age != 5*time.Second || again.ID != p.ID || string(again.Data) != "data" {
			t.Errorf("%s: restamped %+v, %v", name, again, err)
		}
		if !bytes.Contains(kept(p, frame), []byte("of a later version")) {
			t.Errorf("%s: the unknown field is lost", name)
		}
	}
}

// TestAge: an age that does not fit is as young or as old as can be told.
func TestAge(t *testing.T) {
	for age, want := range map[time.Duration]uint32{-time.Second: 0, 1500 * time.Microsecond: 1, math.MaxInt64: math.MaxUint32} {
		if got := ageMillis(age); got != want {
			t.Errorf("%v is %d ms, want %d", age, got, want)
		}
	}
}

// FuzzPart: we accept nothing that the generated code refuses, and both read the same; what was kept can be restamped.
func FuzzPart(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := ParsePart(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(p.Key) > MaxKeySize || len(p.Key) == 0 && p.Control == nil || p.Prev != 0 && p.Prev >= p.ID.Seq {
			t.Fatalf("beyond the limits: %+v", p)
		}
		var pb starlingpb.Part
		// The generated code also refuses what we do not look at: text that is no UTF-8, and the insides of control.
		if proto.Unmarshal(frame, &pb) == nil {
			same := pb.GetKey() == string(p.Key) && bytes.Equal(pb.GetData(), p.Data) && pb.GetOrigin() == p.ID.Origin &&
				pb.GetSeq() == p.ID.Seq && pb.GetPrev() == p.Prev && time.Duration(pb.GetAgeMs())*time.Millisecond == p.Age &&
				(p.LongTrace && p.Trace == nil && len(pb.GetTraceContext()) > MaxTraceSize || bytes.Equal(pb.GetTraceContext(), p.Trace))
			if !same {
				t.Fatalf("we read %+v, the generated code %v", p, &pb)
			}
		}
		if len(p.Key) == 0 {
			return
		}
		again, err := ParsePart(AppendRestamped(nil, kept(p, frame), time.Minute))
		same := again.Age == time.Minute && again.ID == p.ID && bytes.Equal(again.Key, p.Key) && bytes.Equal(again.Data, p.Data) &&
			bytes.Equal(again.Trace, p.Trace)
		if err != nil || !same {
			t.Fatalf("restamped %+v (%v), was %+v", again, err, p)
		}
		if data := frame[p.DataAt:][:len(p.Data)]; !bytes.Equal(data, p.Data) {
			t.Fatalf("the data is not at %d", p.DataAt)
		}
	})
}

func BenchmarkParsePart(b *testing.B) {
	frame := AppendBody(nil, "prices", make([]byte, 200))
	frame = AppendIdentity(frame, PartID{Origin: 1 << 62, Seq: 123456}, 123450, 15*time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePart(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPart(b *testing.B) {
	data, frame := make([]byte, 200), make([]byte, 0, 300)
	b.ReportAllocs()
	for b.Loop() {
		AppendIdentity(AppendBody(frame, "prices", data), PartID{Origin: 1 << 62, Seq: 123456}, 123450, 15*time.Millisecond)
	}
}
