package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/starling-go/starling/internal/wire"
)

// printLabel keeps fingerprints apart from whatever else a key may be used for.
const printLabel = "starling key fingerprint 1"

// Print returns the fingerprint of a key: four bytes of an HMAC by the key. Two keys of one ring share theirs once in four
// billion times.
func Print(key []byte) (p wire.KeyPrint) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(printLabel))
	copy(p[:], mac.Sum(nil))
	return p
}

// Text is how people read a fingerprint.
func Text(p wire.KeyPrint) string { return hex.EncodeToString(p[:]) }

// Texts are those of several.
func Texts(ps []wire.KeyPrint) []string {
	var texts []string
	for _, p := range ps {
		texts = append(texts, Text(p))
	}
	return texts
}
