//go:build !race

package starling_test

const raced = false
