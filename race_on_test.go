//go:build race

package starling_test

// raced is whether the race detector runs, which makes it some ten times slower to move many bytes.
const raced = true
