#!/usr/bin/env bash
# Runs the tests of every module: first as the README says, then in random order under the race detector.
set -euo pipefail
cd "$(dirname "$0")/.."

find . -name go.mod -not -path './.git/*' | sort | while read -r mod; do
  (
    cd "$(dirname "$mod")"
    go test ./...
    go test -race -shuffle=on -timeout 25m ./...
  ) </dev/null
done
