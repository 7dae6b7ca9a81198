#!/usr/bin/env bash
# Checks that the packages of the protocol core (the list is in ci/purity/main.go), and what they import of ours, do no I/O,
# hold no lock, start no goroutine, read no clock and use no global randomness, and that they reach neither the network nor
# memberlist nor the shell. With --self-test it plants one violation of each kind in a scratch copy of the module and fails if
# one of them is not found.
set -euo pipefail
cd "$(dirname "$0")/.."

go run ./ci/purity "$@"
