#!/usr/bin/env bash
# Regenerates the protobuf code, with pinned generators. With --check it fails if the tree's code is not what they print.
set -euo pipefail
cd "$(dirname "$0")/.."

protoc_version=3.21.12
plugin_version=v1.36.12

if ! command -v protoc >/dev/null || [ "$(protoc --version)" != "libprotoc $protoc_version" ]; then
  echo "ci/generate.sh: needs protoc $protoc_version (Debian 12: apt-get install protobuf-compiler)" >&2
  exit 1
fi

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install "google.golang.org/protobuf/cmd/protoc-gen-go@$plugin_version"

find . -name '*.proto' -not -path './.git/*' | sort | while read -r proto; do
  PATH="$bin:$PATH" protoc -I . --go_out=. --go_opt=paths=source_relative "${proto#./}"
done

if [ "${1:-}" = --check ]; then
  git diff --exit-code -- '*.pb.go'
  test -z "$(git ls-files --others --exclude-standard -- '*.pb.go')"
fi
