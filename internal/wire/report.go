package wire

import (
	"encoding/binary"
	"iter"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// reportsReport is the one field of starlingpb.Reports.
const reportsReport = 1<<3 | bytesField

// Fields of starlingpb.Report.
const (
	reportRoot  = 1<<3 | fixed64Field
	reportN     = 2<<3 | varintField
	reportDone  = 3<<3 | varintField
	reportCount = 4<<3 | varintField
	reportSum   = 5<<3 | fixed64Field
	reportGone  = 6<<3 | bytesField
	reportMore  = 7<<3 | varintField
	reportList  = 8<<3 | bytesField
	reportTry   = 9<<3 | varintField
)

// MaxListed bounds the positions that a report may list.
const MaxListed = 4096

// Report is a member's answer to a batch.
type Report struct {
	ID    BatchID
	Done  bool // the member's whole slice is done; else the member alone holds the batch
	Count uint64
	Sum   uint64   // XOR of the positions of the holders
	Gone  []uint64 // positions of members that were given up
	More  bool     // more members were given up than Gone lists
	List  []uint64 // positions of the holders, if the list was asked for
	Try   uint64   // the try that is answered, from 1; 0: none in particular
}

// ReportSize is at most what AppendReport appends.
func ReportSize(r Report) int {
	return 4 + 9 + 11 + 2 + 11 + 9 + 2 + 3 + 8*(len(r.Gone)+len(r.List)) + 8
}

// AppendReport appends one report to an encoded Reports.
func AppendReport(b []byte, r Report) []byte {
	b = append(b, byte(reportsReport))
	start := len(b)
	b = append(b, 0) // for the length, which nearly always takes one byte
	b = appendFixed64(b, reportRoot, r.ID.Root)
	b = appendVarint(b, reportN, r.ID.N)
	if r.Done {
		b = appendVarint(b, reportDone, 1)
		b = appendVarint(b, reportCount, r.Count)
		b = appendFixed64(b, reportSum, r.Sum)
	}
	b = appendPacked(b, reportGone, r.Gone)
	if r.More {
		b = appendVarint(b, reportMore, 1)
	}
	b = appendPacked(b, reportList, r.List)
	if r.Try != 0 {
		b = appendVarint(b, reportTry, r.Try)
	}
	n := uint64(len(b) - start - 1)
	if wide := protowire.SizeVarint(n) - 1; wide > 0 {
		b = slices.Insert(b, start, make([]byte, wide)...)
	}
	protowire.AppendVarint(b[start:start], n)
	return b
}

func appendPacked(b []byte, t tag, values []uint64) []byte {
	if len(values) == 0 {
		return b
	}
	b = appendVarint(b, t, uint64(8*len(values)))
	for _, v := range values {
		b = protowire.AppendFixed64(b, v)
	}
	return b
}

// ReportsIn yields the reports of an encoded Reports, up to the first that is malformed.
func ReportsIn(b []byte) iter.Seq[Report] {
	return func(yield func(Report) bool) {
		f := fields{message: b}
		for f.next() {
			if f.tag != reportsReport {
				continue
			}
			if r, ok := parseReport(f.bytes()); !ok || !yield(r) {
				return
			}
		}
	}
}

func parseReport(b []byte) (r Report, ok bool) {
	f := fields{message: b}
	for f.next() {
		if (f.tag == reportGone || f.tag == reportList) && (len(f.bytes())%8 != 0 || len(f.bytes()) > 8*MaxListed) {
			return r, false
		}
		switch f.tag {
		case reportRoot:
			r.ID.Root = f.value
		case reportN:
			r.ID.N = f.value
		case reportDone:
			r.Done = f.value != 0
		case reportCount:
			r.Count = f.value
		case reportSum:
			r.Sum = f.value
		case reportGone:
			r.Gone = unpack(f.bytes())
		case reportMore:
			r.More = f.value != 0
		case reportList:
			r.List = unpack(f.bytes())
		case reportTry:
			r.Try = f.value
		}
	}
	return r, f.cause == nil && r.ID.Root != 0
}

func unpack(b []byte) []uint64 {
	values := make([]uint64, 0, len(b)/8)
	for ; len(b) >= 8; b = b[8:] {
		values = append(values, binary.LittleEndian.Uint64(b))
	}
	return values
}
