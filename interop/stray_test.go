package interop

import (
	"io"
	"testing"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// plainMember is a bare memberlist that has joined nobody.
func plainMember(tb testing.TB, label string) *memberlist.Memberlist {
	tb.Helper()
	cfg := memberlist.DefaultLocalConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "plain", "127.0.0.1", 0, 0
	cfg.Label, cfg.LogOutput = label, io.Discard
	ml, err := memberlist.Create(cfg)
	must(tb, err)
	tb.Cleanup(func() {
		if err := ml.Shutdown(); err != nil {
			tb.Error(err)
		}
	})
	return ml
}

// controlFrames are some of Starling's, with bodies of every wire type.
func controlFrames(tb testing.TB) (frames [][]byte) {
	tb.Helper()
	from := &starlingpb.Sender{Origin: 1 << 60, Name: "starling", Addr: []byte{127, 0, 0, 1, 30, 222}}
	for _, c := range []*starlingpb.Control{
		{Sender: from, Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}},
		{Sender: from, Body: &starlingpb.Control_Direct{Direct: &starlingpb.Direct{Key: silencesKey, Data: []byte{0xff}, Id: 1}}},
		{Sender: from, Body: &starlingpb.Control_Spread{Spread: &starlingpb.Spread{
			Root: 1 << 60, Batch: 7, End: 1 << 61, Flags: 4, Parts: [][]byte{[]byte(noise(300))},
		}}},
		{Sender: from, Body: &starlingpb.Control_Digest{Digest: &starlingpb.Digest{Complete: true}}},
	} {
		frame, err := proto.Marshal(&starlingpb.Part{Control: c})
		must(tb, err)
		frames = append(frames, frame)
	}
	return frames
}
