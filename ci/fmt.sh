#!/usr/bin/env bash
# Checks that every Go file is formatted by gofmt.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
  echo "ci/fmt.sh: not formatted by gofmt:" >&2
  echo "$unformatted" >&2
  exit 1
fi
