package starling

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/memberlist"
)

// TestInstall: a keyring gets the keys that it is told to have, the first in use, from whatever it had, while memberlist reads it; and a key that stays
// is there, or back at once.
func TestInstall(t *testing.T) {
	keys := func(names string) (list [][]byte) {
		for _, name := range []byte(names) {
			list = append(list, bytes.Repeat([]byte{name}, 16+8*(int(name)%3)))
		}
		return list
	}
	ring, err := memberlist.NewKeyring(keys("a"), keys("a")[0])
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i, key := range ring.GetKeys() {
					if memberlist.ValidateKey(key) != nil || i == 0 && bytes.Equal(key, keys("x")[0]) {
						t.Errorf("key %q", key)
					}
				}
			}
		})
	}
	for range 100 {
		for _, names := range []string{"ab", "ba", "bac", "cb", "abcd", "dacb", "dab", "dxb", "cxb", "a"} {
			install(ring, keys(names))
			have := ring.GetKeys()
			if !bytes.Equal(have[0], keys(names)[0]) || len(have) != len(names) {
				t.Fatalf("%s: has %q", names, have)
			}
			for _, key := range keys(names) {
				if !slices.ContainsFunc(have, func(k []byte) bool { return bytes.Equal(k, key) }) {
					t.Fatalf("%s: has %q", names, have)
				}
			}
		}
	}
	close(stop)
	readers.Wait()
}
