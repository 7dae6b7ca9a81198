// Command purity checks that the packages of the protocol core are pure: no I/O, lock, goroutine, clock or global
// randomness in them, and no way from them to the network, memberlist or the shell. ci/purity.sh runs it.
package main

import (
	"flag"
	"fmt"
	"os"
)

// core are the packages that are checked, together with those of ours that they import.
var core = []string{
	"internal/seqset", "internal/wire", "internal/store", "internal/receipt", "internal/spread", "internal/replica",
	"internal/hlc", "internal/kv",
}

// generated belongs to the core too, but nobody writes its code: only its imports are checked.
const generated = "starlingpb"

func main() {
	dir := flag.String("C", ".", "the module to check")
	self := flag.Bool("self-test", false, "plant one violation of each kind in a scratch copy, and fail if one is not found")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "ci/purity.sh: takes --self-test and nothing else")
		os.Exit(2)
	}
	if *self {
		if err := selfTest(*dir); err != nil {
			fmt.Fprintln(os.Stderr, "ci/purity.sh --self-test:", err)
			os.Exit(1)
		}
		return
	}
	found, err := check(*dir)
	for _, f := range found {
		fmt.Println(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci/purity.sh:", err)
		os.Exit(2)
	}
	if len(found) > 0 {
		fmt.Fprintf(os.Stderr, "ci/purity.sh: %d violations\n", len(found))
		os.Exit(1)
	}
	fmt.Println("purity: the protocol core is pure")
}
