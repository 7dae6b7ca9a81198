package wire

import "bytes"

// KeyPrint is the fingerprint of a key. It tells keys apart, and nothing about the key itself.
type KeyPrint [4]byte

// MaxKeyPrints is how many keys a member may tell of.
const MaxKeyPrints = 12

// Keys is what a member tells of its keys. The zero value tells nothing.
type Keys struct {
	Accepts []KeyPrint // what it can read
	Uses    int        // index in Accepts of the key that it sends by
}

// A member that has keys tells of them at the end of its metadata, behind the user's bytes: the fingerprints, the index of the one it
// uses, their number, and a magic. So members without keys tell nothing, and theirs is as short as it was.
const keysMagic = "\xf5SK"

// keysTail is what stands behind the fingerprints.
const keysTail = 2 + len(keysMagic)

// KeysSize is the most that AppendKeys adds.
const KeysSize = MaxKeyPrints*len(KeyPrint{}) + keysTail

// AppendKeys returns the user's metadata with what the member tells of its keys behind it: of the first MaxKeyPrints of them.
func AppendKeys(user []byte, k Keys) []byte {
	b := bytes.Clone(user)
	if len(k.Accepts) == 0 && !bytes.HasSuffix(user, []byte(keysMagic)) { // such a user's bytes would be read as ours
		return b
	}
	accepts := k.Accepts[:min(len(k.Accepts), MaxKeyPrints)]
	for _, p := range accepts {
		b = append(b, p[:]...)
	}
	b = append(b, byte(k.Uses), byte(len(accepts)))
	return append(b, keysMagic...)
}

// CutKeys takes apart what AppendKeys has put together. What cannot have come from it is the user's as a whole.
func CutKeys(b []byte) (user []byte, k Keys) {
	rest, ok := bytes.CutSuffix(b, []byte(keysMagic))
	if !ok || len(rest) < 2 {
		return b, k
	}
	uses, n := int(rest[len(rest)-2]), int(rest[len(rest)-1])
	prints := n * len(KeyPrint{})
	if rest = rest[:len(rest)-2]; n > MaxKeyPrints || uses > max(n-1, 0) || len(rest) < prints {
		return b, k
	}
	user, rest = rest[:len(rest)-prints], rest[len(rest)-prints:]
	k.Uses = uses
	for ; len(rest) > 0; rest = rest[len(KeyPrint{}):] {
		k.Accepts = append(k.Accepts, KeyPrint(rest))
	}
	return user, k
}
