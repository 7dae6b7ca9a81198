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
      go build -o /dev/null ./... && go test -vet=off -json ./... # ci/lint.sh has vetted it
    ) || failed=1
  done
  return $failed
}

# first and second are tests of the library's own package that take about a third of the time of all of them under the race detector, each.
first='^(Test|Fuzz|Example)[A-E]'
second='^(Test|Fuzz|Example)[F-N]'

# heavy is tests that compute for long, most of them in virtual time. They run without race alone: what they run, lighter tests beside them run
# too, and under the race detector they would take six minutes of CI's twelve. The third line's are of packages without goroutines and locks
# (ci/purity.sh), where there is nothing to race.
heavy='^Test(ScriptsOnClusters|HostileMember|PartitionBeyondRetention|ManySilentMembersComeAndGo|BlockedPackets|EveryMessageAfterJoinIsOwed.*)$'
heavy+='|^Test(ConvergeOf.*|BroadcastBurstOf.*|LargeSurvives|LargeSizes|StateAfterPartition|PairThatCannotTalk)$'
heavy+='|^Test(MemoryOfHistory|ScriptsThatFailed|BatchesBounded|LogModel|RandomNetworks|ScriptsOwned|LogHungChannel)$'
heavy+='|^Test(MapMemoryIsBack|MapHealCost|EchoOfHangingHandlerIsBounded)$'

# race_tasks prints what is run under the race detector, a module and the arguments of go test in each line: what takes long comes first. The
# members of ./upgrade are processes of their own, which are built without race; ./bench and ./interop would have Alertmanager built once more,
# which takes a minute, for tests whose goroutines are others' for the most part.
race_tasks() {
  echo ". -skip=$first|$second|$heavy ."
  echo ". -run=$second -skip=$heavy ."
  echo ". -run=$first -skip=$heavy ."
  go list ./... | tail -n +2 | awk -v "skip=$heavy" '{ print ". -skip=" skip " " $0 }'
  local dir
  for dir in $modules; do
    case "$dir" in . | ./upgrade | ./bench | ./interop) ;; *) echo "$dir ./..." ;; esac
  done
}

# race_task DIR ARGUMENT... runs one of them, and prints what it said when it has ended.
race_task() {
  local said failed=0
  said=$(cd "$1" && shift && go test -race -vet=off -shuffle=on -cpu=1 -p=1 -timeout=25m "$@" 2>&1) || failed=1
  printf '%s\n' "$said" | grep -v '\[no test files\]' || true
  return $failed
}

# raced runs all of them, two at a time.
raced() {
  echo "with $(go env GOVERSION), race, in random order:"
  go build -race ./... || return 1 # once for all, on both processors
  export -f race_task
  # shellcheck disable=SC2016 # the inner shell expands it
  race_tasks | xargs -P 2 -d '\n' -n 1 bash -c 'race_task $1' race_task
}

# Collecting garbage less often saves a sixth of the work. Tests of memory collect it themselves before they count.
export GOGC=${GOGC:-400}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
# Three times the 5 s that a test should take: these machines are noisy, and a test that is slow today is no fault.
plain </dev/null | go run ./ci/slowtests -limit 15s ci/slow.txt || failed=1
echo "tests: the run without race ended after $SECONDS s"
raced </dev/null || failed=1
echo "tests: all ended after $SECONDS s"
exit $failed
