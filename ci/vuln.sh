#!/usr/bin/env bash
# Checks every module with a pinned govulncheck: fails if our code calls into a known vulnerability. Where the vulnerability
# database cannot be reached it says so and passes, and in no other case. VULNDB is the address of a copy of the database,
# for instance file:///srv/vulndb.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v1.9.0

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install "golang.org/x/vuln/cmd/govulncheck@$version"

# addresses hides where things come from.
addresses() { sed -E 's#[a-z]+://[^ "]+#(address)#g; s#lookup [^ ]+ on [^ ]+#lookup#g'; }

options=()
if [ -n "${VULNDB:-}" ]; then options+=(-db "$VULNDB"); fi

failed=
while read -r mod; do
  dir=$(dirname "$mod")
  code=0
  (cd "$dir" && "$bin/govulncheck" "${options[@]}" ./...) </dev/null >"$bin/out" 2>&1 || code=$?
  # The request itself failed (it says Get "...": why), which is not an answer that is wrong or says no.
  if [ "$code" -eq 1 ] && grep -q '^govulncheck: fetching vulnerabilities: Get "' "$bin/out"; then
    echo "not checked: the vulnerability database cannot be reached"
    exit "${failed:-0}"
  fi
  echo "govulncheck in $dir:"
  addresses <"$bin/out"
  if [ "$code" -ne 0 ]; then failed=1; fi
done < <(find . -name go.mod -not -path './.git/*' | sort)

if [ -n "$failed" ]; then
  echo "ci/vuln.sh: a known vulnerability, or govulncheck failed" >&2
  exit 1
fi
