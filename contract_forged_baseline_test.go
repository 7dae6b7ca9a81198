package starling_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

// introduction is how a stranger says that it is to come: from then on it may say a little.
func introduction(m starling.Member) []byte {
	return signedBy(m, &starlingpb.Control{Body: &starlingpb.Control_BaselineAsk{BaselineAsk: &starlingpb.BaselineAsk{}}})
}

func saidBaseline(m starling.Member, b *starlingpb.Baseline) []byte {
	return signedBy(m, &starlingpb.Control{Body: &starlingpb.Control_Baseline{Baseline: b}})
}

func saidGoodbye(m starling.Member, g *starlingpb.Goodbye) []byte {
	return signedBy(m, &starlingpb.Control{Body: &starlingpb.Control_Goodbye{Goodbye: g}})
}

// A stranger, or somebody in the name of an origin, says from where on the origin owes its parts, or what it has sent. Before: its
// parts were taken for ones that are not owed, for good and without a gap, or trillions were reported lost. Right: nothing of it counts
// that was not asked.
func TestForgedBaselines(t *testing.T) {
	const far = uint64(1) << 40
	for name, frames := range map[string]func(m0, m1, stranger starling.Member) [][]byte{
		"in the name of an origin": func(_, m1, _ starling.Member) [][]byte {
			return [][]byte{saidBaseline(m1, &starlingpb.Baseline{Next: far})}
		},
		"of a third one": func(_, m1, s starling.Member) [][]byte {
			return [][]byte{introduction(s), saidBaseline(s, &starlingpb.Baseline{Origin: m1.ID, Next: far, Top: far})}
		},
		"a top, and a part that it makes plausible": func(_, m1, _ starling.Member) [][]byte {
			part, err := proto.Marshal(&starlingpb.Part{Key: contractKey, Data: []byte("forged"), Origin: m1.ID, Seq: far / 2})
			if err != nil {
				panic(err)
			}
			return [][]byte{saidBaseline(m1, &starlingpb.Baseline{Next: 1, Top: far}), part}
		},
		"a goodbye that owes nothing": func(m0, m1, _ starling.Member) [][]byte {
			owed := []*starlingpb.Owed{{Member: m0.ID, Next: far}}
			return [][]byte{saidGoodbye(m1, &starlingpb.Goodbye{Next: 1, Owed: owed})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var rec recordedLab
			o := starlingtest.Options{Open: rec.open, Config: func(string) starling.Config {
				return starling.Config{Retention: starling.Retention{Age: 10 * time.Second}}
			}}
			starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
				out := newOutsider(t, l, "outside")
				m0, m1 := l.Member("m0").Cluster.Self(), l.Member("m1").Cluster.Self()
				for _, f := range frames(m0, m1, starling.Member{ID: 4242, Name: "stranger", Addr: out.tr.Addr()}) {
					out.packet(m0, f)
					time.Sleep(5 * time.Millisecond)
				}
				for range 20 {
					rec.broadcast(t, "m1", 100)
				}
				time.Sleep(25 * time.Second)
				for range 20 {
					rec.broadcast(t, "m1", 100)
				}
				if err := soonWithin(10*time.Second, func() error { return rec.ExactlyOnce(contractKey) }); err != nil {
					t.Error(err)
				}
				for _, m := range l.Members() {
					if n := m.Cluster.Stats().Lost; n > 0 {
						t.Errorf("%s reports %d messages lost", m.Name, n)
					}
				}
			})
		})
	}
}

// A stranger introduces itself, again and again under new names, while a member joins. Before: Join waited for each of them for 30 s,
// and so for ever. Right: a member need not be taken in by whoever only says that it is to come.
func TestStrangersDoNotHoldUpJoin(t *testing.T) {
	starlingtest.Run(t, 2, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		out := newOutsider(t, l, "outside")
		late := l.StartAlone("late").Cluster
		for id := range uint64(20) {
			out.packet(late.Self(), introduction(starling.Member{ID: 5000 + id, Name: "stranger", Addr: out.tr.Addr()}))
		}
		time.Sleep(10 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := late.Join(ctx, l.Member("m0").Cluster.Self().Addr.String()); err != nil {
			t.Error(err)
		}
	})
}
