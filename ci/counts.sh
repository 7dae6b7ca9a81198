#!/usr/bin/env bash
# Counts the code that is no test, in the root package and internal/, without generated files: the files of the root, the
# methods of each type (of starlingtest too), lines. Fails if the root has more than 30 files or a type more than 25 methods.
# With a commit as its argument (ci/counts.sh 13b025a) it counts that commit, and says what was over a limit without failing.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  go run ./ci/counts .
  exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive "$1" | tar -x -C "$scratch"
echo "at $(git rev-parse --short "$1"):"
go run ./ci/counts -past "$scratch"
