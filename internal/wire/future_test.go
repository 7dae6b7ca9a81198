package wire

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/starling-go/starling/internal/wiretest"
	"github.com/starling-go/starling/starlingpb"
)

// goldenKinds are frames of each kind, with everything that they may say, as this version encodes them.
func goldenKinds() map[string][]byte {
	from, brief := testSender(), testBrief()
	piece := AppendChunk(AppendBody(nil, "ch", make([]byte, MinChunk)), Chunk{Total: 5000, Size: MinChunk, Index: 1})
	piece = AppendIdentity(piece, PartID{Origin: 101, Seq: 9}, 4, 3*time.Second)
	kinds := map[string][]byte{
		"part": testPart(), "piece": piece, "plain": AppendBody(nil, "who", []byte("foreign")),
		"batch": EncodeBatch(from, starlingpb.Batch_REPAIR, testPart(), piece),
		"bundle": EncodeBundle(from, [][]byte{
			FrameControl(brief, BodyReports, reportsContent(testReports()[1])), EncodeControl(from, BodyGoodbyeAck, &starlingpb.GoodbyeAck{}),
		}),
		"spread":  FrameControl(brief, BodySpread, spreadContent(BatchID{Root: 101, N: 2}, 7, FlagList|FlagStream|3<<TryShift, testPart(), piece)),
		"reports": FrameControl(brief, BodyReports, reportsContent(testReports()[:3]...)),
	}
	fields := (*starlingpb.Control)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.ContainingOneof() != nil && kinds[string(f.Name())] == nil {
			m := filled(proto.Clone(dynamic(f)).ProtoReflect(), 3).Interface()
			kinds[string(f.Name())] = EncodeControl(from, f.Number(), m)
		}
	}
	kinds["traced"] = AppendIdentity(AppendTrace(AppendBody(nil, "ch", []byte("data")), []byte("trace")), PartID{Origin: 101, Seq: 2}, 1, time.Second)
	kinds["direct_piece"], kinds["direct_ack_piece"] = kinds["direct"], kinds["direct_ack"] // the fields came later than the rest
	whole := filled((&starlingpb.Direct{}).ProtoReflect(), 3).Interface().(*starlingpb.Direct)
	whole.Total, whole.Size, whole.Index = 0, 0, 0
	kinds["direct_traced"] = EncodeControl(from, BodyDirect, whole)
	whole.TraceContext = nil
	kinds["direct"] = EncodeControl(from, BodyDirect, whole)
	ofWhole := filled((&starlingpb.DirectAck{}).ProtoReflect(), 3).Interface().(*starlingpb.DirectAck)
	ofWhole.Index, ofWhole.Gathering = 0, 0
	kinds["direct_ack"] = EncodeControl(from, BodyDirectAck, ofWhole)
	for i, b := range mapFrames() {
		kinds[fmt.Sprint("map", i)] = b
	}
	kinds["state"] = AppendFullStateControl(AppendFullState(nil, "a", []byte("1")), EncodeControl(from, BodyStates, &starlingpb.StateDigest{Answer: true}))
	kinds["meta"] = AppendKeys(EncodeMeta(7, FeatureTypes, []byte("user")), Keys{Accepts: []KeyPrint{{1}, {2}}, Uses: 1})
	return kinds
}

// dynamic returns an empty message of a body's type.
func dynamic(f protoreflect.FieldDescriptor) proto.Message {
	return (&starlingpb.Control{}).ProtoReflect().NewField(f).Message().Interface()
}

// filled sets every field of a message, and of those in it up to a depth.
func filled(m protoreflect.Message, depth int) protoreflect.Message {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case f.Message() != nil && depth == 0:
		case f.IsList() && f.Message() != nil:
			list := m.Mutable(f).List()
			list.Append(protoreflect.ValueOfMessage(filled(list.NewElement().Message(), depth-1)))
		case f.IsList():
			list := m.Mutable(f).List()
			list.Append(scalar(f, i))
			list.Append(scalar(f, i+1))
		case f.Message() != nil:
			filled(m.Mutable(f).Message(), depth-1)
		default:
			m.Set(f, scalar(f, i))
		}
	}
	return m
}

func scalar(f protoreflect.FieldDescriptor, i int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(2)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(300 + i))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(i), 0xff})
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprint("text", i))
	}
	return protoreflect.ValueOfUint64(1<<40 + uint64(i))
}

// meaning is all that a frame of a kind says to this version, as text.
func meaning(kind string, b []byte) string {
	switch {
	case kind == "meta":
		m := DecodeMeta(b)
		user, keys := CutKeys(m.User)
		m.User, m.Version, m.Features = nil, 0, m.Features&OwnFeatures
		return fmt.Sprintf("%+v %q %v", m, user, keys)
	case kind == "state":
		var says strings.Builder
		for p, err := range FullState(b) {
			fmt.Fprintf(&says, "[%s %v]", ofPart(p), err)
		}
		return says.String()
	case strings.HasPrefix(kind, "map"):
		m, err := ParseMapFrame(b)
		return fmt.Sprintf("%+v %+v %+v %d %v", m.Entries, m.Question, m.Answer, m.Later, err)
	}
	p, err := ParsePart(b)
	return fmt.Sprintf("%v %s", err, ofPart(p))
}

func ofPart(p Part) string {
	if len(p.Key) > 0 {
		p.DataAt, p.AgedEnd = 0, false
		return fmt.Sprintf("%+v", p)
	}
	c, err := ParseControl(p.Control)
	says := fmt.Sprint(c.From, c.Body, err)
	switch c.Body {
	case BodySpread:
		s, err := ParseSpread(c.Content)
		says += fmt.Sprint(s.ID, s.End, s.Flags, err)
		for part, ok := s.Next(); ok; part, ok = s.Next() {
			says += meaning("part", part)
		}
	case BodyReports:
		says += fmt.Sprintf("%+v", slices.Collect(ReportsIn(c.Content)))
	case BodyBundle:
		for frame := range Bundled(c.Content) {
			says += meaning("control", frame)
		}
	case BodyBatch:
		for part, via := range BatchParts(c.Content) {
			says += fmt.Sprint(via, meaning("part", part))
		}
		end := BatchEnd(c.Content)
		says += fmt.Sprint(end.Pull, end.Proof, end.Sending)
		for _, lacks := range end.Lacks {
			says += fmt.Sprint(lacks.GetOrigin(), lacks.GetSpans())
		}
	default:
		f := (*starlingpb.Control)(nil).ProtoReflect().Descriptor().Fields().ByNumber(c.Body)
		if f == nil {
			return says
		}
		m := dynamic(f)
		err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(c.Content, m)
		says += fmt.Sprintf(" %v\n%s", err, strings.Join(fieldsOf("", m.ProtoReflect()), "\n"))
	}
	return says
}

// fieldsOf lists the fields that a message has set, each with its value.
func fieldsOf(prefix string, m protoreflect.Message) (fields []string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(f.Name())
		list := []protoreflect.Value{v}
		if f.IsList() {
			list = nil
			for i := range v.List().Len() {
				list = append(list, v.List().Get(i))
			}
		}
		for i, v := range list {
			if f.Message() != nil {
				fields = append(fields, fieldsOf(fmt.Sprint(name, i, "."), v.Message())...)
			} else {
				fields = append(fields, fmt.Sprintf("%s%d %#v", name, i, v.Interface()))
			}
		}
		return true
	})
	slices.Sort(fields)
	return fields
}

// forgotten reports whether a frame has a field that this version knows nothing of any more.
func forgotten(b []byte) bool {
	p, err := ParsePart(b)
	if err != nil || len(p.Key) > 0 {
		return false
	}
	c, err := ParseControl(p.Control)
	f := (*starlingpb.Control)(nil).ProtoReflect().Descriptor().Fields().ByNumber(c.Body)
	if err != nil || f == nil || f.Message() == nil {
		return false
	}
	m := dynamic(f)
	return proto.Unmarshal(c.Content, m) == nil && len(m.ProtoReflect().GetUnknown()) > 0
}

// saysAll reports whether a frame of today says all that one of then says. It may say more, in fields that there were not then.
func saysAll(today, then string) bool {
	lines := strings.Split(today, "\n")
	for line := range strings.SplitSeq(then, "\n") {
		if !slices.Contains(lines, line) {
			return false
		}
	}
	return true
}

// golden is the file of frames as they were encoded by this version when they were first sent. It only grows: a member of that time sends
// them still.
const golden = "testdata/frames-v2.txt"

// TestGolden: frames that an earlier release has sent mean what they meant. A kind that is new, or has a new field, is added to the file by
// STARLING_GOLDEN=add go test -run TestGolden ./internal/wire; a frame there is never changed.
func TestGolden(t *testing.T) {
	kinds, whole := goldenKinds(), map[string]bool{} // whole: there is one with all that today's says
	file, err := os.OpenFile(golden, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		frame, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, want := meaning(name, frame), meaning(name, kinds[name])
		if whole[name] = whole[name] || got == want; !saysAll(want, got) || forgotten(frame) {
			t.Errorf("%s of then says now\n%s\nwant\n%s", name, got, want)
		}
	}
	for name := range kinds {
		if whole[name] {
			continue
		}
		if os.Getenv("STARLING_GOLDEN") != "add" {
			t.Errorf("%s is not in %s as it is now", name, golden)
		} else if _, err := fmt.Fprintf(file, "%s %x\n", name, kinds[name]); err != nil {
			t.Error(err)
		}
	}
}

// ofFuture returns a frame of a kind with what only a later version knows.
func ofFuture(kind string, b []byte, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	switch {
	case kind == "meta":
		m := DecodeMeta(b)
		m.Version, m.Features = Version+int(seed%100), m.Features|1<<(KnownFeatures+seed%32)
		return encodeMeta(m, wiretest.Unknown(rng))
	case kind == "state":
		return wiretest.LaterState(rng, b)
	case strings.HasPrefix(kind, "map"):
		return wiretest.LaterMap(rng, b)
	}
	return wiretest.Later(rng, b)
}

// FuzzFuture: fields and bits that only a later version knows change nothing of what is known.
func FuzzFuture(f *testing.F) {
	kinds := goldenKinds()
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range names {
		for seed := range uint64(20) {
			f.Add(uint8(i), seed)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, seed uint64) {
		name := names[int(i)%len(names)]
		later := ofFuture(name, kinds[name], seed)
		if got, want := meaning(name, later), meaning(name, kinds[name]); got != want {
			t.Fatalf("%s, with seed %d, says\n%s\nwant\n%s\n%x", name, seed, got, want, later)
		}
	})
}

// TestUnknownValues: a value that only a later version knows is left out, alone.
func TestUnknownValues(t *testing.T) {
	alive := MapEntry{Key: []byte("k"), Stamp: 5, Origin: 1}
	later := alive
	later.State = 3
	m, err := ParseMapFrame(AppendMapEntry(AppendMapEntry(AppendMapEntry(nil, &alive), &later), &alive))
	if err != nil || len(m.Entries) != 2 || m.Later != 1 {
		t.Errorf("an entry of a later state: %+v, %v", m, err)
	}
	batch := EncodeBatch(testSender(), 77, testPart())
	for part, via := range BatchParts(control(t, batch).Content) {
		if via != RouteGossip || !reflect.DeepEqual(part, testPart()) {
			t.Errorf("of a later way: %x by %v", part, via)
		}
	}
	list := appendBytes(appendFixed64(appendVarint(nil, reportN, 1), reportRoot, 1), 12<<3|bytesField, "odd")
	if got := slices.Collect(ReportsIn(appendBytes(nil, reportsReport, list))); len(got) != 1 {
		t.Errorf("a report with a text: %+v", got)
	}
	frame := FrameControl(testBrief(), protowire.Number(77), []byte{0xff})
	if c := control(t, frame); c.Body != 0 || c.From != testBrief() {
		t.Errorf("a body of a later version: %+v", c)
	}
}

// unknown returns about n bytes of fields that nobody knows.
func unknown(n int) (b []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for len(b) < n {
		b = append(b, wiretest.Unknown(rng)...)
	}
	return b
}
