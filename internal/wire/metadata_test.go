package wire

import "testing"

// TestMeta: what members say of themselves comes back, and what is not ours is foreign.
func TestMeta(t *testing.T) {
	id, major, user := DecodeMeta(EncodeMeta(7, []byte("user")))
	if id != 7 || major != version || string(user) != "user" {
		t.Errorf("id %d, version %d, %q", id, major, user)
	}
	later := EncodeMeta(7, []byte("user"))
	later[len(metaMagic)] = version + 1
	if id, major, user := DecodeMeta(later); id != 0 || major != version+1 || string(user) != "user" {
		t.Errorf("of a later version: id %d, version %d, %q", id, major, user)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "theirs": []byte("something else altogether"), "cut": EncodeMeta(7, nil)[:MetaHeader-1],
	} {
		if id, major, user := DecodeMeta(b); id != 0 || major != 0 || string(user) != string(b) {
			t.Errorf("%s: id %d, version %d, %q", name, id, major, user)
		}
	}
}
