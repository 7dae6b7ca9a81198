package wire

import "encoding/binary"

// version is the major version of the wire. Members of another one are foreign to each other.
const version = 1

// A member's metadata in memberlist is: magic, version, origin id, then the user's bytes.
const metaMagic = "\xf5SG"

// MetaHeader is what EncodeMeta puts before the user's bytes.
const MetaHeader = len(metaMagic) + 1 + 8

// EncodeMeta returns the metadata of a member of ours.
func EncodeMeta(id uint64, user []byte) []byte {
	b := make([]byte, 0, MetaHeader+len(user))
	b = append(b, metaMagic...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, id)
	return append(b, user...)
}

// DecodeMeta splits a member's metadata. A member without our magic and version is foreign: its id is 0. All bytes are the
// user's if there is no magic.
func DecodeMeta(b []byte) (id uint64, major int, user []byte) {
	if len(b) < MetaHeader || string(b[:len(metaMagic)]) != metaMagic {
		return 0, 0, b
	}
	if major = int(b[len(metaMagic)]); major != version {
		return 0, major, b[MetaHeader:]
	}
	return binary.BigEndian.Uint64(b[len(metaMagic)+1:]), major, b[MetaHeader:]
}
