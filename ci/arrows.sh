#!/usr/bin/env bash
# Compares the flowchart of ARCHITECTURE.md with what the packages of this module import, and prints the arrows that are
# missing from the drawing and those that are in it and not in the code. A package is drawn under the last element of its
# path, the root package as "root". Left out are starlingpb, starlingtest, examples/, ci/, all tests, and what only tests
# import: internal/certtest, internal/script, internal/seedtest, internal/spreadtest, internal/wiretest. With --print it prints the arrows that the code has.
# It fails, too, if ARCHITECTURE.md names in backticks a file that does not exist or, in the row of a table, a function after a
# file that does not declare it.
set -euo pipefail
cd "$(dirname "$0")/.."

go run ./ci/arrows "$@"
