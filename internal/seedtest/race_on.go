//go:build race

package seedtest

// raced tells whether the race detector is on.
const raced = true
