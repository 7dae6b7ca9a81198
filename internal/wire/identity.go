package wire

// PartID names one part for ever: its origin's random id and its sequence number there, from 1.
type PartID struct{ Origin, Seq uint64 }

// Less orders parts by origin, then by sequence number.
func (p PartID) Less(q PartID) bool {
	if p.Origin != q.Origin {
		return p.Origin < q.Origin
	}
	return p.Seq < q.Seq
}

// BatchID names a batch of the spread: the member that began it, and that member's count of batches, from 1.
type BatchID struct{ Root, N uint64 }
