#!/usr/bin/env bash
# Compares what go doc says about each public package with docs/api/PACKAGE.txt, so that no change of the API goes unseen.
# With --update it writes these files anew: read their diff, it is what users will read.
set -euo pipefail
cd "$(dirname "$0")/.."
unset GODEBUG
export LC_ALL=C

update=
case "${1:-}" in
  '') ;;
  --update) update=1 ;;
  *) echo "ci/api.sh: takes --update and nothing else" >&2; exit 2 ;;
esac

golden=docs/api
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/new"

# Public is what others can import and what is no example, no tool and not generated.
module=$(go list -m)
# Users import modules of their own beside it, too: those that are called as it is.
packages=$(go list -f '{{if ne .Name "main"}}{{.ImportPath}}{{end}}' ./...)
for package in $packages; do
  path=${package#"$module"}
  path=${path#/}
  case "/$path/" in
    */internal/* | /examples/* | /ci/* | /starlingpb/*) continue ;;
  esac
  name=${path//\//-}
  name=${name:-${module##*/}}
  go doc -all "$package" | sed 's/[[:blank:]]*$//' >"$scratch/new/$name.txt"
done
for mod in "${module##*/}"*/go.mod; do
  dir=${mod%/go.mod}
  (cd "$dir" && go doc -all .) | sed 's/[[:blank:]]*$//' >"$scratch/new/$dir.txt"
done

if [ -n "$update" ]; then
  mkdir -p "$golden"
  rm -f "$golden"/*.txt
  cp "$scratch/new"/*.txt "$golden/"
  echo "api: wrote $(cd "$scratch/new" && echo *.txt) to $golden"
  exit
fi
if [ ! -d "$golden" ]; then
  echo "ci/api.sh: there is no $golden: run ci/api.sh --update and commit the files" >&2
  exit 1
fi
if ! diff -ruN "$golden" "$scratch/new"; then
  echo "ci/api.sh: the API is not that of $golden; if it is meant to be, run ci/api.sh --update and commit the files" >&2
  exit 1
fi
echo "api: as in $golden"
