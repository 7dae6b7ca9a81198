// Package wire is the form of what members send each other: it encodes and decodes frames, and holds the limits of what is
// accepted from outside.
//
// A frame is an encoded starlingpb.Part. One kind is a part of a channel: a key, the user's bytes, and what identifies the
// part; Alertmanager's cluster package reads its first two fields, and ignores ours. The other kind is a control frame: an
// empty key, who wrote it, and one body of starlingpb.Control. Beside frames there is a member's metadata, which memberlist
// carries.
//
// Parts, senders, spreads, reports, batches and bundles are encoded and decoded here by hand, field by field: they are
// nearly all that a cluster sends. All other bodies are left to the generated code.
//
// Bytes from outside may be anything. Decoding never panics, allocates nothing before it has checked the limit that bounds
// it, and ignores fields that it does not know. What it returns points into the frame that came in: who keeps it, copies it.
//
// The package is pure: it reads no clock, and starts, locks and sends nothing.
package wire
