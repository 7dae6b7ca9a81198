#!/usr/bin/env bash
# Builds the Go code of README.md and docs/ as a user of the module would, in a module of its own, runs its tests and the README's
# program, and checks what the pages link to and which tests they name. ci/snippets/source.go says what becomes of a block; tests of the
# pages' code are in ci/snippets/testdata, by the paths of the packages that are made of it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

scratch=$(mktemp -d)
started=()
cleanup() {
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap cleanup EXIT

# await FILE PATTERN polls until a line of FILE has PATTERN, for 30 s at most.
await() {
  for _ in $(seq 300); do
    grep -qsE -- "$2" "$1" && return
    sleep 0.1
  done
  echo "ci/snippets.sh: the README's program has not printed '$2' within 30 s:" >&2
  cat "$scratch"/[ab].out >&2
  exit 1
}

# prepare makes the module as README.md says it, in its order.
prepare() {
  local nested
  mkdir "$scratch/code"
  cd "$scratch/code"
  go mod init example.com/snippets
  go mod edit -replace "github.com/starling-go/starling=$root"
  go get github.com/starling-go/starling@v0.0.0
  go doc -all github.com/starling-go/starling >/dev/null
  for nested in starlingprom starlingotel; do # modules of their own, which users import by choice
    [ -e "$root/$nested/go.mod" ] || continue
    go mod edit -replace "github.com/starling-go/starling/$nested=$root/$nested"
    go get "github.com/starling-go/starling/$nested@v0.0.0"
  done
  cd "$root"
}

# programs runs the README's program twice: each must see the other, and end politely.
programs() {
  local a b address
  (cd "$scratch/code" && go build -o "$scratch/program" ./readme/program1)
  "$scratch/program" 127.0.0.1:0 >"$scratch/a.out" 2>&1 &
  a=$!
  started+=("$a")
  await "$scratch/a.out" ' listens on '
  address=$(sed -n 's/.* listens on //p' "$scratch/a.out")
  "$scratch/program" 127.0.0.1:0 "$address" >"$scratch/b.out" 2>&1 &
  b=$!
  started+=("$b")
  await "$scratch/b.out" ' listens on '
  await "$scratch/a.out" "put $(sed -n 's/.* \(.*\) listens on .*/\1/p' "$scratch/b.out")$"
  await "$scratch/b.out" "put $(sed -n 's/.* \(.*\) listens on .*/\1/p' "$scratch/a.out")$"
  kill -TERM "$a" "$b"
  wait "$a" && wait "$b" || { cat "$scratch"/[ab].out >&2; echo "ci/snippets.sh: the README's program did not end politely" >&2; exit 1; }
  echo "snippets: the README's program was run twice, saw itself, and left"
}

go build -o "$scratch/snippets" ./ci/snippets

prepare >"$scratch/prepare.out" 2>&1 || { cat "$scratch/prepare.out" >&2; exit 1; }
"$scratch/snippets" . "$scratch/code"
cp -r ci/snippets/testdata/. "$scratch/code/"
(
  cd "$scratch/code"
  go mod tidy 2>"$scratch/tidy.out" || { cat "$scratch/tidy.out" >&2; exit 1; }
  go vet ./...
  go test -vet=off -ldflags='-s -w' ./... | grep -v 'no test files' # without symbols: most of the time is linking
)
programs
