package spreadtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

func encode(t *testing.T, p *starlingpb.Part) []byte {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParts(t *testing.T) {
	own := encode(t, &starlingpb.Part{Key: "k", Data: []byte("x"), Origin: 7, Seq: 1, AgeMs: 3})
	looksLikeParts := encode(t, &starlingpb.Part{
		Key: "k", Data: append([]byte{2<<3 | 2, byte(len(own))}, own...), Origin: 7, Seq: 2,
	})
	control := func(c *starlingpb.Control) []byte {
		c.Sender = &starlingpb.Sender{Origin: 7, Name: "m7", Addr: []byte{10, 0, 0, 1, 31, 10}}
		return encode(t, &starlingpb.Part{Control: c})
	}
	batch := &starlingpb.Batch{Parts: [][]byte{own, looksLikeParts, own}, Pull: 3}
	// A body of a later version, which carries a batch within: Control{20: {1: Batch}}.
	inner, _ := proto.Marshal(batch)
	later := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)
	later = protowire.AppendBytes(protowire.AppendTag(nil, 20, protowire.BytesType), later)
	later = protowire.AppendBytes(protowire.AppendTag(nil, partControl, protowire.BytesType), later)
	for name, c := range map[string]struct {
		message []byte
		want    int
	}{
		"part":              {own, 1},
		"of Alertmanager":   {encode(t, &starlingpb.Part{Key: "nfl", Data: []byte("x")}), 1},
		"parts in its data": {looksLikeParts, 1},
		"batch":             {control(&starlingpb.Control{Body: &starlingpb.Control_Batch{Batch: batch}}), 3},
		"later body":        {later, 3},
		"goodbye":           {control(&starlingpb.Control{Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}}), 0},
		"empty key": {append(
			[]byte{1<<3 | 2, 0}, control(&starlingpb.Control{Body: &starlingpb.Control_Batch{Batch: batch}})...,
		), 3},
		"digest": {control(&starlingpb.Control{Body: &starlingpb.Control_Digest{Digest: &starlingpb.Digest{
			Origins: []*starlingpb.OriginDigest{{Origin: 7, Floor: 1, Top: 9, Held: []uint64{1, 2, 3, 4}}}}}}), 0},
		"pull": {control(&starlingpb.Control{Body: &starlingpb.Control_Pull{Pull: &starlingpb.Pull{
			Id: 4, Want: []*starlingpb.Ranges{{Origin: 7, Spans: []uint64{1, 2}}}}}}), 0},
		"empty":   {nil, 0},
		"garbage": {[]byte("\xff\xff\xff"), 0},
		"cut":     {own[:len(own)-3][1:], 0},
	} {
		if got := parts(c.message); got != c.want {
			t.Errorf("%s: %d parts, not %d", name, got, c.want)
		}
	}
}

func TestUserMessages(t *testing.T) {
	user := func(text string) []byte { return append([]byte{typeUser}, text...) }
	compound := func(messages ...[]byte) []byte {
		b := []byte{typeCompound, byte(len(messages))}
		for _, m := range messages {
			b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
		}
		return append(b, bytes.Join(messages, nil)...)
	}
	crc := func(b []byte) []byte { return append([]byte{typeCRC, 1, 2, 3, 4}, b...) }
	ping := []byte{0, 1, 2}
	for want, packet := range map[string][]byte{
		"[]":      ping,
		"[a]":     user("a"),
		"[b]":     crc(user("b")),
		"[c d]":   crc(compound(ping, user("c"), user("d"))),
		"[e f g]": compound(user("e"), compound(user("f")), user("g")),
		"[h]":     compound(user("h"), user("iii"))[:8],
		"[] ":     {typeCRC, 1},
		"[]  ":    {typeCompound},
		"[]   ":   {typeCompound, 200, 0},
	} {
		var got []string
		for m := range userMessages(packet) {
			got = append(got, string(m))
		}
		if fmt.Sprint(got) != strings.TrimSpace(want) {
			t.Errorf("%q: %v, not %s", packet, got, want)
		}
	}
}

// The decoder sees what memberlist's receivers are told, message by message, in packets and in streams of all sizes.
func TestMeterAgainstMemberlist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := starlingtest.NewNetwork(starlingtest.Seed(t))
		defer net.Close()
		p := params{n: 5, latency: time.Millisecond}
		l := &log{n: p.n}
		f := newTutorial(t, net, l, p)
		defer time.Sleep(starlingtest.Pause)
		defer f.close()
		f.form(t)
		var told atomic.Int64
		for _, d := range f.delegates {
			d.heard = func([]byte) { told.Add(1) }
		}
		meter := newMeter(net)
		if err := net.SetDefault(link(p, 0.3)); err != nil {
			t.Fatal(err)
		}
		sizes := []int{8, 50, 127, 128, 255, 256, 1000, 70_000}
		for i, size := range sizes {
			payload, _ := l.payload(0, size)
			message := encode(t, &starlingpb.Part{Key: "k", Data: payload})
			if err := f.lists[0].SendReliable(f.lists[1+i%4].LocalNode(), message); err != nil {
				t.Fatal(err)
			}
			if size <= 1000 {
				f.delegates[i%5].queue.QueueBroadcast(said(message))
				f.delegates[i%5].queue.QueueBroadcast(said(message))
			}
		}
		time.Sleep(20 * time.Second)
		sent, received := meter.read()
		if received.messages != int(told.Load()) || received.parts != received.messages || sent.messages <= received.messages {
			t.Errorf("sent %+v, received %+v, memberlist told of %d", sent, received, told.Load())
		}
		if received.messages < len(sizes)+20 || sent.bytes <= received.bytes || received.bytes < 70_000 {
			t.Errorf("sent %+v, received %+v", sent, received)
		}
	})
}

func TestParams(t *testing.T) {
	read := func(env map[string]string) (params, error) {
		return readParams(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, params{n: 5, size: 9, count: 2})
	}
	p, err := read(nil)
	if err != nil || p.n != 5 || p.warmup != 0 || p.patience != patience || p.latency != time.Millisecond {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = read(map[string]string{"SPREAD_N": "7", "SPREAD_LOSS": "0.5", "SPREAD_SIZE": "300", "SPREAD_COUNT": "3",
		"SPREAD_LATENCY": "4ms", "SPREAD_SEED": "11", "SPREAD_OUT": "f"})
	if want := (params{n: 7, loss: 0.5, size: 300, count: 3, latency: 4 * time.Millisecond, seed: 11, out: "f",
		warmup: 20, patience: patience}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	for name, text := range map[string]string{"SPREAD_N": "1", "SPREAD_LOSS": "1.5", "SPREAD_SIZE": "7", "SPREAD_COUNT": "0",
		"SPREAD_LATENCY": "-1ms", "SPREAD_SEED": "x"} {
		env := map[string]string{"SPREAD_N": "5"}
		env[name] = text
		if _, err := read(env); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, text, err)
		}
	}
}

func TestResultFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for range 2 {
		if err := (result{N: 5, ToAllP50: 1.5}).appendTo(path); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	line := `{"tls":false,"n":5,"loss":0,"size":0,"count":0,"delivered":0,"duplicates":0,"to_all_ms_p50":1.5,"to_all_ms_max":0,` +
		`"cold_to_all_ms_max":0,"member_ms_p50":0,"member_ms_p99":0,"receptions_per_delivery":0,"sends_per_delivery":0,` +
		`"bytes_per_delivery":0,"gaps":0}` + "\n"
	if err != nil || string(text) != line+line {
		t.Errorf("%v\n%s", err, text)
	}
	if err := (result{}).appendTo(t.TempDir()); err == nil {
		t.Error("appended to a directory")
	}
}

func TestPercentile(t *testing.T) {
	var took []time.Duration
	for ms := range 10 {
		took = append(took, time.Duration(ms+1)*time.Millisecond)
	}
	for q, want := range map[int]float64{1: 1, 50: 5, 51: 6, 99: 10, 100: 10} {
		if got := percentile(took, q); got != want {
			t.Errorf("%d %%: %v, not %v", q, got, want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("nothing took time")
	}
	p := params{n: 3, patience: time.Minute}
	ms := time.Millisecond
	median, longest := toAll([]*message{
		{took: map[int]time.Duration{1: 2 * ms, 2: 4 * ms}},
		{took: map[int]time.Duration{1: ms, 2: ms}},
		{took: map[int]time.Duration{1: ms}},
	}, p)
	if median != 4 || longest != 60_000 {
		t.Errorf("%v, %v", median, longest)
	}
}
