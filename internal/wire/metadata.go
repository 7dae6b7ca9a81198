package wire

import "encoding/binary"

// A member speaks one version of the wire, and understands all from a least one on. Two members are of one cluster if each understands what
// the other speaks, or can speak; else they are foreign to each other. ARCHITECTURE.md says when each of the two numbers grows.
//
// Version 1 was spoken before there was a least one. Its frames changed while it lasted, so nobody understands it.
const (
	Version      = 2
	LeastVersion = 2
)

// A member's metadata in memberlist is: a magic, the version, the id of this run, the least version, the length of the extension and the
// extension, then the user's bytes. That holds for all versions from 2 on. The extension is encoded as protobuf is:
//
//	message Extension {
//	  uint64 features = 1; // as Features
//	}
const metaMagic = "\xf5SG"

const (
	metaID        = len(metaMagic) + 1
	metaLeast     = metaID + 8
	metaExtension = metaLeast + 2

	// metaV1 is where the user's bytes begin in version 1.
	metaV1 = metaID + 8
)

// extensionFeatures is a field of Extension.
const extensionFeatures = 1<<3 | varintField

// MetaHeader is the most that EncodeMeta puts before the user's bytes, in this version and in those to come: an extension that grows takes
// nothing from the user.
const MetaHeader = metaExtension + 45

// Meta is what a member says of itself.
type Meta struct {
	ID       uint64 // 0: the member is foreign
	Version  int    // that it speaks; 0: none of ours
	Least    int    // that it understands; 0: none of ours
	Features Features
	User     []byte
}

// EncodeMeta returns the metadata of a member of ours that has these features.
func EncodeMeta(id uint64, features Features, user []byte) []byte {
	return encodeMeta(Meta{ID: id, Version: Version, Least: LeastVersion, Features: features, User: user}, nil)
}

// encodeMeta appends more to the extension.
func encodeMeta(m Meta, more []byte) []byte {
	var extension []byte
	if m.Features != 0 {
		extension = appendVarint(extension, extensionFeatures, uint64(m.Features))
	}
	extension = append(extension, more...)
	b := make([]byte, 0, MetaHeader+len(m.User))
	b = append(b, metaMagic...)
	b = append(b, byte(m.Version))
	b = binary.BigEndian.AppendUint64(b, m.ID)
	b = append(b, byte(m.Least), byte(len(extension)))
	return append(append(b, extension...), m.User...)
}

// DecodeMeta takes apart a member's metadata. All bytes are the user's if they are not ours at all. Of a version that is foreign to this one
// it returns the versions.
func DecodeMeta(b []byte) Meta {
	if len(b) < metaV1 || string(b[:len(metaMagic)]) != metaMagic {
		return Meta{User: b}
	}
	m := Meta{Version: int(b[len(metaMagic)])}
	if m.Version < 2 {
		m.Least, m.User = m.Version, b[metaV1:]
		return m
	}
	if len(b) < metaExtension || len(b) < metaExtension+int(b[metaExtension-1]) {
		return Meta{User: b}
	}
	m.Least = int(b[metaLeast])
	extension := b[metaExtension:][:b[metaExtension-1]]
	m.User = b[metaExtension+len(extension):]
	if m.Least > Version || m.Version < LeastVersion || m.Least > m.Version {
		return m
	}
	if m.ID = binary.BigEndian.Uint64(b[metaID:]); m.ID == 0 {
		return m
	}
	for f := (fields{message: extension}); f.next(); {
		if f.tag == extensionFeatures {
			m.Features = Features(f.value)
		}
	}
	return m
}
