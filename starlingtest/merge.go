package starlingtest

import (
	"bytes"
	"fmt"

	"github.com/starling-go/starling"
)

// CheckMerge tries to refute that a function can be the Merge of a starling.Map with that codec: that the order of values does not matter
// (commutative), nor how they are grouped (associative), nor that a value comes twice (idempotent), and that equal values have equal
// encodings, by which it compares. It tries every two and every three of the given values, and what they make together. The error names the
// law, and shows what breaks it. nil proves nothing: give values that differ in every way that matters, a dozen at most, and the
// zero value among them.
func CheckMerge[V any](merge func(a, b V) V, codec starling.Codec[V], values ...V) error {
	c := mergeCheck[V]{merge, codec}
	all := values
	for i, a := range values {
		for _, b := range values[i+1:] {
			all = append(all[:len(all):len(all)], merge(a, b))
		}
	}
	for _, a := range all {
		if err := c.same("idempotent", "merge(a, a)", merge(a, a), "a", a, a); err != nil {
			return err
		}
		for _, b := range all {
			if err := c.same("commutative", "merge(a, b)", merge(a, b), "merge(b, a)", merge(b, a), a, b); err != nil {
				return err
			}
			if err := c.same("idempotent", "merge(merge(a, b), b)", merge(merge(a, b), b), "merge(a, b)", merge(a, b), a, b); err != nil {
				return err
			}
		}
	}
	for _, a := range values {
		for _, b := range values {
			for _, d := range values {
				left, right := merge(merge(a, b), d), merge(a, merge(b, d))
				if err := c.same("associative", "merge(merge(a, b), c)", left, "merge(a, merge(b, c))", right, a, b, d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

type mergeCheck[V any] struct {
	merge func(a, b V) V
	codec starling.Codec[V]
}

// same compares two values that a law says are equal, and the second with what it is when it was decoded.
func (c mergeCheck[V]) same(law, leftText string, left V, rightText string, right V, of ...V) error {
	l, err := c.codec.Append(nil, left)
	if err != nil {
		return fmt.Errorf("starlingtest: merge: the codec refuses %+v: %w", left, err)
	}
	r, err := c.codec.Append(nil, right)
	if err != nil {
		return fmt.Errorf("starlingtest: merge: the codec refuses %+v: %w", right, err)
	}
	if !bytes.Equal(l, r) {
		return fmt.Errorf("starlingtest: merge is not %s: of %s, %s is %+v and %s is %+v", law, operands(of), leftText, left, rightText, right)
	}
	decoded, err := c.codec.Decode(r)
	if err != nil {
		return fmt.Errorf("starlingtest: merge: the codec does not decode what it has encoded, %+v: %w", right, err)
	}
	if again, err := c.codec.Append(nil, decoded); err != nil || !bytes.Equal(again, r) {
		return fmt.Errorf("starlingtest: merge: %+v has another encoding when it was encoded and decoded", right)
	}
	return nil
}

// operands names values.
func operands[V any](values []V) (text string) {
	for i, v := range values {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%c = %+v", 'a'+i, v)
	}
	return text
}
