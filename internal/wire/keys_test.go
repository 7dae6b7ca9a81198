package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// TestKeys: what a member tells of its keys comes back, beside any bytes of its user.
func TestKeys(t *testing.T) {
	many := make([]KeyPrint, MaxKeyPrints)
	many[MaxKeyPrints-1] = KeyPrint{1, 2, 3, 4}
	for _, user := range []string{"", "user", keysMagic, "user" + keysMagic, "\x00\x00" + keysMagic} {
		for _, k := range []Keys{{}, {Accepts: many[11:]}, {Accepts: many, Uses: 11}} {
			b := AppendKeys([]byte(user), k)
			if got, keys := CutKeys(b); string(got) != user || !reflect.DeepEqual(keys, k) {
				t.Errorf("%q with %v comes back as %q with %v", user, k, got, keys)
			}
			if len(b) > len(user)+KeysSize {
				t.Errorf("%v takes %d bytes", k, len(b)-len(user))
			}
		}
	}
	if _, k := CutKeys(AppendKeys(nil, Keys{Accepts: append(many, KeyPrint{})})); len(k.Accepts) != MaxKeyPrints {
		t.Errorf("of too many keys it tells %d", len(k.Accepts))
	}
	if b := AppendKeys([]byte("user"), Keys{}); string(b) != "user" {
		t.Errorf("a member without keys tells %q", b)
	}
	for name, forged := range map[string]string{
		"more than there are": "abcd\x00\x02" + keysMagic, "too many": strings.Repeat("x", 60) + "\x00\x0d" + keysMagic,
		"uses none of them": "abcd\x01\x01" + keysMagic, "cut": "\x01" + keysMagic, "magic alone": keysMagic,
	} {
		if user, k := CutKeys([]byte(forged)); string(user) != forged || k.Accepts != nil {
			t.Errorf("%s: %q with %v", name, user, k)
		}
	}
}

// FuzzKeys: whatever a member tells, it is bounded, and means the same when it is told again.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("user"))
	f.Add(AppendKeys([]byte("user"), Keys{Accepts: []KeyPrint{{1}, {2}}, Uses: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		user, k := CutKeys(b)
		if len(k.Accepts) > MaxKeyPrints || k.Uses < 0 || k.Uses > max(len(k.Accepts)-1, 0) {
			t.Fatalf("%v", k)
		}
		if again, keys := CutKeys(AppendKeys(user, k)); !bytes.Equal(again, user) || !reflect.DeepEqual(keys, k) {
			t.Fatalf("%q with %v became %q with %v", user, k, again, keys)
		}
	})
}
