package starling

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The frames of the spread, encoded and decoded by hand: they are nearly all that a cluster sends.

// spreadFrame is a decoded Spread. Its parts point into the frame.
type spreadFrame struct {
	id    batchID
	end   uint64
	flags uint64
	parts []byte // the fields from the first part on
}

const (
	flagList   = 1
	flagStream = 2
	tryShift   = 2        // the try stands above the flags
	maxTry     = 1<<5 - 1 // the highest that is told, so that the flags take one byte
)

// encodeSpread returns the frame of a Spread.
func encodeSpread(from []byte, id batchID, end, flags uint64, parts []byte) []byte {
	return append(spreadHeader(from, id, end, flags, len(parts)), parts...)
}

// spreadHeader returns the frame of a Spread up to its parts, which take n bytes.
func spreadHeader(from []byte, id batchID, end, flags uint64, n int) []byte {
	size := 1 + 8 + 1 + protowire.SizeVarint(id.n) + 1 + 8
	if flags != 0 {
		size += 1 + protowire.SizeVarint(flags)
	}
	return appendSpread(controlHead(from, bodySpread, size+n, size), id, end, flags)
}

// appendParts appends parts as fields of a Spread, with the ages that they have now.
func appendParts(b []byte, items []*item, now time.Time) []byte {
	for _, it := range items {
		b = protowire.AppendTag(b, 5, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(it.frame)))
		b = appendRestamped(b, it.frame, now.Sub(it.born))
	}
	return b
}

// spreadHead is at most what a Spread holds besides its parts.
const spreadHead = 1 + 8 + 1 + 10 + 1 + 8 + 1 + 1

// partSize is what a part of n bytes takes in a Spread.
func partSize(n int) int { return 1 + protowire.SizeBytes(n) }

// appendSpread appends a Spread up to its parts.
func appendSpread(b []byte, id batchID, end, flags uint64) []byte {
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, id.root)
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, id.n)
	b = protowire.AppendTag(b, 3, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, end)
	if flags != 0 {
		b = protowire.AppendTag(b, 4, protowire.VarintType)
		b = protowire.AppendVarint(b, flags)
	}
	return b
}

// parseSpread decodes all but the parts.
func parseSpread(b []byte) (spreadFrame, error) {
	var f spreadFrame
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f, fmt.Errorf("%w: spread: %v", errMalformed, protowire.ParseError(n))
		}
		if num == 5 && typ == protowire.BytesType {
			f.parts = b
			break
		}
		var m int
		switch v := b[n:]; {
		case num == 1 && typ == protowire.Fixed64Type:
			f.id.root, m = protowire.ConsumeFixed64(v)
		case num == 2 && typ == protowire.VarintType:
			f.id.n, m = protowire.ConsumeVarint(v)
		case num == 3 && typ == protowire.Fixed64Type:
			f.end, m = protowire.ConsumeFixed64(v)
		case num == 4 && typ == protowire.VarintType:
			f.flags, m = protowire.ConsumeVarint(v)
		default:
			m = protowire.ConsumeFieldValue(num, typ, v)
		}
		if m < 0 {
			return f, fmt.Errorf("%w: spread field %d: %v", errMalformed, num, protowire.ParseError(m))
		}
		b = b[n+m:]
	}
	if f.id.root == 0 || f.id.n == 0 {
		return f, fmt.Errorf("%w: spread without a batch", errMalformed)
	}
	return f, nil
}

// next takes the next part.
func (f *spreadFrame) next() (frame []byte, ok bool) {
	for len(f.parts) > 0 {
		num, typ, n := protowire.ConsumeTag(f.parts)
		if n < 0 {
			return nil, false
		}
		m := protowire.ConsumeFieldValue(num, typ, f.parts[n:])
		if m < 0 {
			return nil, false
		}
		value := f.parts[n : n+m]
		f.parts = f.parts[n+m:]
		if num == 5 && typ == protowire.BytesType {
			frame, _ = protowire.ConsumeBytes(value)
			return frame, true
		}
	}
	return nil, false
}

// reportSize is at most what a report needs in a Reports.
func reportSize(r report) int {
	return 4 + 9 + 11 + 2 + 11 + 9 + 2 + 3 + 8*(len(r.gone)+len(r.list)) + 8
}

// appendReport appends one report to an encoded Reports.
func appendReport(b []byte, r report) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	start := len(b)
	b = append(b, 0) // for the length, which nearly always takes one byte
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, r.id.root)
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, r.id.n)
	if r.done {
		b = protowire.AppendTag(b, 3, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
		b = protowire.AppendTag(b, 4, protowire.VarintType)
		b = protowire.AppendVarint(b, r.count)
		b = protowire.AppendTag(b, 5, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, r.sum)
	}
	b = appendPacked(b, 6, r.gone)
	if r.more {
		b = protowire.AppendTag(b, 7, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	b = appendPacked(b, 8, r.list)
	if r.try != 0 {
		b = protowire.AppendTag(b, 9, protowire.VarintType)
		b = protowire.AppendVarint(b, r.try)
	}
	n := uint64(len(b) - start - 1)
	if wide := protowire.SizeVarint(n) - 1; wide > 0 {
		b = slices.Insert(b, start, make([]byte, wide)...)
	}
	protowire.AppendVarint(b[start:start], n)
	return b
}

func appendPacked(b []byte, num protowire.Number, values []uint64) []byte {
	if len(values) == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(8*len(values)))
	for _, v := range values {
		b = protowire.AppendFixed64(b, v)
	}
	return b
}

// maxListed bounds the positions that a report may name.
const maxListed = 4096

// reportsIn yields the reports of an encoded Reports, up to the first that is malformed.
func reportsIn(b []byte) iter.Seq[report] {
	return func(yield func(report) bool) {
		for f := range fieldsIn(b) {
			if body, ok := f.bytes(1); ok {
				if r, ok := parseReport(body); !ok || !yield(r) {
					return
				}
			}
		}
	}
}

func parseReport(b []byte) (r report, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, false
		}
		v := b[n:]
		m := protowire.ConsumeFieldValue(num, typ, v)
		if m < 0 {
			return r, false
		}
		switch typ {
		case protowire.Fixed64Type:
			x, _ := protowire.ConsumeFixed64(v)
			switch num {
			case 1:
				r.id.root = x
			case 5:
				r.sum = x
			}
		case protowire.VarintType:
			x, _ := protowire.ConsumeVarint(v)
			switch num {
			case 2:
				r.id.n = x
			case 3:
				r.done = x != 0
			case 4:
				r.count = x
			case 7:
				r.more = x != 0
			case 9:
				r.try = x
			}
		case protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(v)
			if len(packed)%8 != 0 || len(packed) > 8*maxListed {
				return r, false
			}
			switch num {
			case 6:
				r.gone = unpack(packed)
			case 8:
				r.list = unpack(packed)
			}
		}
		b = b[n+m:]
	}
	return r, r.id.root != 0
}

func unpack(b []byte) []uint64 {
	values := make([]uint64, 0, len(b)/8)
	for len(b) >= 8 {
		v, n := protowire.ConsumeFixed64(b)
		values = append(values, v)
		b = b[n:]
	}
	return values
}
