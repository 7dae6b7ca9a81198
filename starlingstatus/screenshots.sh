#!/usr/bin/env bash
# Takes the pictures of the status page that are in docs/images, of the cluster of ./demo, with Chromium. Look at them before you commit them.
# CHROMIUM names another browser than "chromium".
set -euo pipefail
cd "$(dirname "$0")/.."

browser=${CHROMIUM:-chromium}
if ! command -v "$browser" >/dev/null; then
  echo "starlingstatus/screenshots.sh: there is no $browser (Debian's package is chromium)" >&2
  exit 1
fi
scratch=$(mktemp -d)
demo=
cleanup() {
  if [ -n "$demo" ]; then kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; fi
  rm -rf "$scratch"
}
trap cleanup EXIT

go build -o "$scratch/demo" ./starlingstatus/demo
"$scratch/demo" -listen 127.0.0.1:0 >"$scratch/out" 2>"$scratch/err" &
demo=$!
for _ in $(seq 300); do
  if grep -q '^http://.*/$' "$scratch/out"; then break; fi
  sleep 0.1
done
page=$(grep -m1 '^http://.*/$' "$scratch/out") || { cat "$scratch/err" >&2; exit 1; }
sleep 8 # until it is known who is silent

# shoot NAME SIZE PAGE FLAG... writes docs/images/NAME.png.
shoot() {
  local name=$1 size=$2 url=$3
  shift 3
  "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --user-data-dir="$scratch/profile" \
    --window-size="$size" --screenshot="$scratch/$name.png" "$@" "$url" >"$scratch/$name.log" 2>&1 ||
    { cat "$scratch/$name.log" >&2; exit 1; }
  mv "$scratch/$name.png" "docs/images/$name.png"
}

mkdir -p docs/images
asked=${page%status/}asked/
shoot status-light 1200,1080 "$asked"
shoot status-dark 1200,1080 "$asked" --blink-settings=preferredColorScheme=0
shoot status-narrow 500,1500 "$asked"
wc -c docs/images/status-*.png
