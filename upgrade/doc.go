// Package upgrade holds tests alone: they run members of an earlier commit of Starling beside those of now.
package upgrade
