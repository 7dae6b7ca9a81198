#!/usr/bin/env bash
# Runs each fuzz target of this module for 10 s, on one core each and two at a time; FUZZTIME overrides the time (FUZZTIME=1m). With
# FUZZBUDGET, in seconds, they get as much as lets all of them end in that time, between 2 and 10 s. If one fails it prints where the
# input is that made it fail, and what it is, and starts no further one.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# targets prints the package and the name of each target. go test -list would do, and build all tests for it.
targets() {
  local package file
  go list -f '{{range .TestGoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}
{{end}}' ./... | while read -r package file; do
    [ -z "$file" ] || sed -nE "s#^func (Fuzz[A-Za-z0-9_]+)\(.*#$package \1#p" "$file"
  done
}

# binary PACKAGE is where the package's tests are built to, once for all of its targets. This module's packages alone are instrumented: with those
# that it imports, the standard library among them, building takes a minute more, and the fuzzer follows branches that are not ours.
binary() { echo "$scratch/${1//\//_}.test"; }

# fuzz PACKAGE TARGET leaves what was printed in $out.
fuzz() {
  (
    cd "$(go list -f '{{.Dir}}' "$1")"
    "$(binary "$1")" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "${FUZZTIME:-10s}" -test.fuzzminimizetime 5s \
      -test.parallel 1 -test.fuzzcachedir "$(go env GOCACHE)/fuzz/$1" </dev/null >"$out" 2>&1
  )
}

# Go before 1.27 at times calls it a failure that the time is over (golang/go#75804). A real one names an input.
overtime() {
  grep -qx ' *context deadline exceeded' "$out" &&
    ! grep -qE 'Failing input written to|seed corpus entry|panic:' "$out"
}

# failed PACKAGE TARGET says what went wrong.
failed() {
  local dir input
  dir=$(go list -f '{{.Dir}}' "$1")
  cat "$out" >&2
  echo "ci/fuzz.sh: $2 of $1 failed" >&2
  # One that was just found, or one that was in testdata before; seed#N is the Nth f.Add.
  input=$(sed -nE -e 's#.*Failing input written to (.*)#\1#p' \
    -e 's#.*failure while testing seed corpus entry: (.*)#testdata/fuzz/\1#p' "$out" | tail -1)
  if [ -z "$input" ]; then
    echo "ci/fuzz.sh: it named no input" >&2
  elif [ -f "$dir/$input" ]; then
    echo "ci/fuzz.sh: failing input: $dir/$input" >&2
    head -c 4000 "$dir/$input" >&2
  else
    echo "ci/fuzz.sh: failing input: ${input##*/}, an f.Add of $2" >&2
  fi
  touch "$scratch/failed"
}

# lane N fuzzes every second target, from the Nth on.
lane() {
  local out=$scratch/out$1 package name
  awk -v n="$1" 'NR % 2 == n % 2' "$scratch/targets" | while read -r package name; do
    [ ! -e "$scratch/failed" ] || break
    fuzz "$package" "$name" || { overtime && fuzz "$package" "$name"; } || { failed "$package" "$name"; break; }
    echo "$name: $(grep -E '^fuzz: elapsed' "$out" | tail -1)"
  done
}

targets >"$scratch/targets"
count=$(wc -l <"$scratch/targets")
if [ "$count" -eq 0 ]; then
  echo "ci/fuzz.sh: there is no fuzz target" >&2
  exit 1
fi
cut -d' ' -f1 "$scratch/targets" | sort -u | while read -r package; do
  go test -c -gcflags="$(go list -m)/...=-d=libfuzzer" -o "$(binary "$package")" "$package" # -fuzz would instrument all
done
if [ -z "${FUZZTIME:-}" ] && [ -n "${FUZZBUDGET:-}" ]; then
  each=$(((FUZZBUDGET - SECONDS) * 2 / count - 1)) # a second to start and to end
  FUZZTIME=$((each < 2 ? 2 : each > 10 ? 10 : each))s
fi
lane 1 &
lane 2
wait
if [ -e "$scratch/failed" ]; then exit 1; fi
echo "fuzz: $count targets, ${FUZZTIME:-10s} each, after $SECONDS s"
