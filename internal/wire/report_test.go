package wire

import (
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// TestReportsBothWays: the generated code reads our reports, and we its.
func TestReportsBothWays(t *testing.T) {
	reports := testReports()
	ours := reportsContent(reports...)
	want := new(starlingpb.Reports)
	size := 0
	for _, r := range reports {
		size += ReportSize(r)
		want.Reports = append(want.Reports, &starlingpb.Report{
			Root: r.ID.Root, Batch: r.ID.N, Done: r.Done, Count: r.Count, Sum: r.Sum, Gone: r.Gone, More: r.More, List: r.List, Try: r.Try,
		})
	}
	if len(ours) > size {
		t.Errorf("%d bytes, said %d", len(ours), size)
	}
	var got starlingpb.Reports
	if err := proto.Unmarshal(ours, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("generated code reads %v (%v), want %v", &got, err, want)
	}
	for name, content := range map[string][]byte{"ours": ours, "generated": mustMarshal(t, want)} {
		if got := slices.Collect(ReportsIn(content)); !reflect.DeepEqual(got, reports) {
			t.Errorf("%s: reports %v, want %v", name, got, reports)
		}
		for range ReportsIn(content) {
			break
		}
	}
}

// TestReportsMalformed: the reports end at the first that is malformed.
func TestReportsMalformed(t *testing.T) {
	good := reportsContent(testReports()[1])
	for name, bad := range map[string][]byte{
		"no root":  reportsContent(Report{ID: BatchID{N: 1}}),
		"no field": appendBytes(nil, reportsReport, "\xff"),
		"odd list": appendBytes(nil, reportsReport, appendBytes(appendFixed64(nil, reportRoot, 1), reportList, make([]byte, 9))),
		"endless":  reportsContent(Report{ID: BatchID{Root: 1, N: 1}, List: make([]uint64, MaxListed+1)}),
		"cut":      appendBytes(nil, reportsReport, good[2:len(good)-1]),
		"no tag":   {0xff},
	} {
		n := 0
		for range ReportsIn(slices.Concat(good, bad, good)) {
			n++
		}
		if n != 1 {
			t.Errorf("%s: %d reports, want that before it", name, n)
		}
	}
}

// FuzzReportsIn: what is accepted is the same when it is encoded again.
func FuzzReportsIn(f *testing.F) {
	f.Add(reportsContent(testReports()[:3]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		reports := slices.Collect(ReportsIn(b))
		for _, r := range reports {
			if r.ID.Root == 0 || len(r.Gone) > MaxListed || len(r.List) > MaxListed {
				t.Fatalf("accepted %+v", r)
			}
		}
		equal := func(a, b Report) bool {
			lists := slices.Equal(a.Gone, b.Gone) && slices.Equal(a.List, b.List)
			a.Gone, a.List, b.Gone, b.List = nil, nil, nil, nil
			if !a.Done { // then nothing is told of the slice
				a.Count, a.Sum = 0, 0
			}
			return lists && reflect.DeepEqual(a, b)
		}
		if again := slices.Collect(ReportsIn(reportsContent(reports...))); !slices.EqualFunc(reports, again, equal) {
			t.Fatalf("encoded again: %+v, was %+v", again, reports)
		}
	})
}

func BenchmarkReportsIn(b *testing.B) {
	var content []byte
	for i := range uint64(8) {
		r := Report{ID: BatchID{Root: 1 << 62, N: 4711 + i}, Try: 1}
		if i%2 == 0 {
			r.Done, r.Count, r.Sum = true, 12, 1<<60
		}
		content = AppendReport(content, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range ReportsIn(content) {
			n++
		}
		if n != 8 {
			b.Fatal(n)
		}
	}
}
