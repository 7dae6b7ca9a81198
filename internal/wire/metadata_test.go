package wire

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

// TestMeta: what members say of themselves comes back, and what is not ours is foreign.
func TestMeta(t *testing.T) {
	user := []byte("user")
	m := DecodeMeta(EncodeMeta(7, OwnFeatures, user))
	if want := (Meta{7, Version, LeastVersion, OwnFeatures, user}); !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, want %+v", m, want)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "theirs": []byte("something else altogether"), "cut": EncodeMeta(7, 1, nil)[:metaExtension],
	} {
		if m := DecodeMeta(b); !reflect.DeepEqual(m, Meta{User: b}) {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestVersions: members are of one cluster if each understands what the other speaks.
func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		version, least int
		ours           bool
	}{
		{Version, LeastVersion, true},
		{Version + 1, Version, true},
		{Version + 100, LeastVersion, true},
		{Version, 1, true},
		{Version + 1, Version + 1, false}, // it does not understand us
		{LeastVersion - 1, LeastVersion - 1, false},
		{Version, Version + 1, false}, // no member says so
		{Version + 2, 0, true},
	} {
		m := DecodeMeta(encodeMeta(Meta{ID: 7, Version: tt.version, Least: tt.least, Features: 1, User: []byte("user")}, nil))
		if m.Version != tt.version || m.Least != tt.least || (m.ID == 7) != tt.ours || (m.Features == 1) != tt.ours {
			t.Errorf("%+v: %+v", tt, m)
		}
		if tt.version > 1 && string(m.User) != "user" {
			t.Errorf("%+v: its user's bytes are %q", tt, m.User)
		}
	}
	v1 := append(append([]byte(metaMagic+"\x01"), "12345678"...), "user"...)
	if m := DecodeMeta(v1); !reflect.DeepEqual(m, Meta{Version: 1, Least: 1, User: []byte("user")}) {
		t.Errorf("of version 1: %+v", m)
	}
}

// TestMetaOfFuture: what a later version says beyond what is known here changes nothing.
func TestMetaOfFuture(t *testing.T) {
	known := Meta{7, Version, LeastVersion, OwnFeatures, []byte("user")}
	future := Meta{7, Version + 1, LeastVersion, OwnFeatures | 1<<40 | 1<<63, known.User}
	m := DecodeMeta(encodeMeta(future, unknown(150)))
	if m.Version != Version+1 || m.ID != known.ID || string(m.User) != "user" || !m.Features.Has(OwnFeatures) {
		t.Errorf("%+v", m)
	}
	if got := slices.Collect(m.Features.Each()); len(got) != KnownFeatures {
		t.Errorf("the features %v", got)
	}
	// Its extension may be something that we cannot read at all.
	if m := DecodeMeta(encodeMeta(future, []byte{0xff})); m.ID != 7 || string(m.User) != "user" || !m.Features.Has(OwnFeatures) {
		t.Errorf("with half a field: %+v", m)
	}
}

// FuzzMeta: whatever a member says of itself, decoding it neither panics nor makes bytes up, and what it says in our version comes back.
func FuzzMeta(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(EncodeMeta(7, OwnFeatures, []byte("user")))
	f.Add(encodeMeta(Meta{Version: 3, Least: 2, Features: 1}, nil)) // nobody
	f.Add(encodeMeta(Meta{ID: 7, Version: 3, Least: 2, Features: 1 << 40}, unknown(20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := DecodeMeta(b)
		if !bytes.HasSuffix(b, m.User) || m.ID == 0 && m.Features != 0 {
			t.Fatalf("%+v", m)
		}
		if m.ID != 0 {
			if again := DecodeMeta(encodeMeta(m, nil)); !reflect.DeepEqual(again, m) {
				t.Fatalf("%+v became %+v", m, again)
			}
		}
	})
}
