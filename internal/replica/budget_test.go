package replica

import "testing"

// TestBudget: a message has room if both bounds leave it some, or if it is the only one.
func TestBudget(t *testing.T) {
	for name, test := range map[string]struct {
		had budget
		n   int
		ok  bool
	}{
		"empty":                      {budget{0, 2, 0, 10}, 10, true},
		"empty, beyond all room":     {budget{0, 2, 0, 10}, 11, true},
		"empty, where there is none": {budget{0, 0, 0, 0}, 1, true},
		"the last":                   {budget{1, 2, 5, 10}, 5, true},
		"one byte too many":          {budget{1, 2, 5, 10}, 6, false},
		"one too many":               {budget{2, 2, 5, 10}, 1, false},
		"nothing, when it is full":   {budget{1, 2, 10, 10}, 0, true},
		"nothing, beyond":            {budget{1, 2, 11, 10}, 0, false},
	} {
		b := test.had
		if ok := b.take(test.n); ok != test.ok {
			t.Errorf("%s: %v", name, ok)
		} else if ok {
			if b.messages != test.had.messages+1 || b.bytes != test.had.bytes+test.n {
				t.Errorf("%s: took %+v", name, b)
			}
			b.free(test.n)
		}
		if b != test.had {
			t.Errorf("%s: %+v in the end, was %+v", name, b, test.had)
		}
	}
}
