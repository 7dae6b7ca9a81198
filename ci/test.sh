#!/usr/bin/env bash
# Runs the tests of every module twice: first as the README says, with the oldest Go that the library supports, and then in
# random order under the race detector, with the Go that is installed. Where the older Go is neither here nor to be had it
# says so, and the installed one does both. The first run fails too if a test takes over 15 s without a reason in ci/slow.txt.
#
# Under the race detector each process has one processor, and there are two of them: with more, the detector itself crashes now
# and then in the bubbles of testing/synctest ("ThreadSanitizer: CHECK failed", golang/go#78156), because two threads run timers of one
# bubble in one context of its. It finds races by what happens before what, so it needs no second processor. And it is faster.
set -euo pipefail
cd "$(dirname "$0")/.."

older=go1.25.14 # the last patch of the release that go.mod names
language=$(go list -m -f '{{.GoVersion}}')
case "$older" in
  "go${language%.*}".*) ;;
  *)
    echo "ci/test.sh: go.mod says go $language, so $older is not the oldest release that is supported: set another" >&2
    exit 1
    ;;
esac
if ! GOTOOLCHAIN=$older go version >/dev/null 2>&1; then
  echo "not checked: $older, which is neither here nor to be had"
  older=
fi

modules=$(find . -name go.mod -not -path './.git/*' -exec dirname {} \; | sort)

# takes DIR says whether the older Go takes a module; one may ask for more than the library.
takes() {
  local needs
  needs=$(cd "$1" && go list -m -f '{{.GoVersion}}') || return 1
  [ -n "$older" ] && [ "$(printf '%s\n' "go$needs" "$older" | sort -V | tail -1)" = "$older" ]
}

# plain runs the tests of every module without race and prints what go test -json does; ci/slowtests prints that for people.
plain() {
  local failed=0 dir
  for dir in $modules; do
    (
      cd "$dir"
      if takes .; then export GOTOOLCHAIN=$older; fi
      echo "$dir with $(go env GOVERSION):"
      go build -o /dev/null ./... && go vet ./... && go test -json ./...
    ) || failed=1
  done
  return $failed
}

# race ARGUMENT... runs tests under the race detector.
race() { go test -race -shuffle=on -cpu=1 -p=1 -timeout=25m "$@"; }

# half is tests of the library's own package that take half the time of all that run under the race detector.
half='^(Test|Fuzz|Example)[A-N]'

raced() {
  local failed=0 dir
  go build -race ./... || failed=1 # once for both, on both processors
  race -run="$half" . >"$scratch/half" 2>&1 &
  for dir in $modules; do
    (
      cd "$dir"
      # Its members are processes of their own, which are built without race.
      [ "$dir" != ./upgrade ] || exit 0
      echo "$dir with $(go env GOVERSION), race, in random order:"
      if [ "$dir" = . ]; then
        race -skip="$half" . && race $(go list ./... | tail -n +2)
      else
        race ./...
      fi
    ) || failed=1
  done
  wait $! || failed=1
  echo "the first half of the library's own tests:"
  cat "$scratch/half"
  return $failed
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
# Three times the 5 s that a test should take: these machines are noisy, and a test that is slow today is no fault.
plain </dev/null | go run ./ci/slowtests -limit 15s ci/slow.txt || failed=1
echo "tests: the run without race ended after $SECONDS s"
raced </dev/null || failed=1
echo "tests: all ended after $SECONDS s"
exit $failed
