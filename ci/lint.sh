#!/usr/bin/env bash
# Checks every module with go vet and a pinned staticcheck, and that its go.mod and go.sum are tidy.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2

find . -name go.mod -not -path './.git/*' | sort | while read -r mod; do
  (
    cd "$(dirname "$mod")"
    go mod tidy -diff
    go vet ./...
    go run "$staticcheck" ./...
  ) </dev/null
done
