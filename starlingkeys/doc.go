// Package starlingkeys reads the keys of a cluster from a file, for starling.Config.KeySource:
//
//	cfg.KeySource = starlingkeys.File("/etc/starling/keys", nil)
//
// The file has one key on each line, in standard base64, the one to send by first. A key has 16, 24 or 32 bytes; make one by
// "head -c 32 /dev/urandom | base64". Empty lines, and what stands behind a "#", are ignored.
package starlingkeys
