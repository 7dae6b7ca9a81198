// Package keys decides by which of its keys a member sends, and how long it accepts a key that it was told to drop, so that nobody is cut off
// while the members' lists of keys differ.
//
// Each member tells the others which keys it accepts and which one it uses, by fingerprints. It sends by the first of its keys that every
// live member accepts. A key that was taken off its list it accepts further until no live member needs it. Then it withdraws the key: it
// tells the others that it does not accept it any more, while it still does for Grace, within which they hear of that. So whoever begins
// to use the key in the meantime is understood, and seen, and the key stays.
//
// Nothing here waits, locks or reads a clock.
package keys
