#!/usr/bin/env bash
# Runs the examples and checks what they print.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
started=()
cleanup() {
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap cleanup EXIT

# fail MESSAGE NAME... shows what the NAMEs printed.
fail() {
  echo "ci/examples.sh: $1" >&2
  shift
  for name in "$@"; do
    echo "--- $name printed:" >&2
    cat "$scratch/$name.out" >&2 || true
  done
  exit 1
}

# await NAME PATTERN polls until NAME has printed a line that is all PATTERN, for 30 s at most.
await() {
  for _ in $(seq 300); do
    grep -qxsE -- "$2" "$scratch/$1.out" && return
    sleep 0.1
  done
  fail "$1 has not printed '$2' within 30 s" $(basename -s .out "$scratch"/*.out)
}

# ended PID NAME waits for a polite end, for 30 s at most.
ended() {
  for _ in $(seq 300); do
    kill -0 "$1" 2>/dev/null || { wait "$1" || fail "$2 exited with $?" "$2"; return 0; }
    sleep 0.1
  done
  fail "$2 is still running after 30 s" "$2"
}

quickstart() {
  go run ./examples/quickstart | tee "$scratch/quickstart.out" || fail "quickstart failed"
  grep -q ' gossip ' "$scratch/quickstart.out" || fail "nothing came by gossip"
  grep -q 'README.md .* stream ' "$scratch/quickstart.out" || fail "README.md did not come by stream"
}

# chat NAME [FLAGS] starts a member that reads $scratch/NAME.in, and leaves its process in $pid. It must not inherit the
# other members' inputs, or they would never end.
chat() {
  local name=$1
  shift
  mkfifo "$scratch/$name.in"
  "$scratch/chat" -name "$name" "$@" <"$scratch/$name.in" >"$scratch/$name.out" 2>&1 3>&- 4>&- 5>&- &
  pid=$!
  started+=("$pid")
}

# Three members: one leaves at the end of its input, one is killed, one leaves at a signal.
chats() {
  local pid a b c address
  go build -o "$scratch/chat" ./examples/chat
  chat a; a=$pid; exec 3>"$scratch/a.in"
  await a '.* -join [0-9.:]+'
  address=$(sed -n 's/.* -join //p' "$scratch/a.out")
  chat b -join "$address"; b=$pid; exec 4>"$scratch/b.in"
  chat c -join "$address"; c=$pid; exec 5>"$scratch/c.in"
  for name in b c; do await a "\* $name joined"; done
  for name in a c; do await b "\* $name joined"; done

  echo 'hello everybody' >&3
  await b 'a: hello everybody'
  await c 'a: hello everybody'
  echo '/to a only you' >&4
  await a 'b \(to you\): only you'
  await b '\* a has it'
  echo '/to nobody hello' >&4
  await b '\* nobody called nobody is here.*'
  if grep -q 'only you' "$scratch/c.out"; then fail "c was told what was meant for a"; fi

  exec 3>&-
  ended "$a" a
  await b '\* a left'
  { kill -9 "$c" && wait "$c"; } 2>/dev/null || true
  await b '\* c failed'
  kill -TERM "$b"
  ended "$b" b
  exec 4>&- 5>&-
  echo 'chat: three members joined, talked, left and failed as they should'
}

# A file that several members are given in pieces, while one is killed and another one joins; and one more for that one.
push() {
  head -c 16777216 /dev/urandom >"$scratch/large.file"
  head -c 1000000 /dev/urandom >"$scratch/next.file"
  go -C examples/push build -o "$scratch/push" . || fail "push does not build"
  "$scratch/push" "$scratch/large.file" "$scratch/next.file" >"$scratch/push.out" 2>&1 || fail "push failed" push
  local file sum want
  for file in large next; do
    sum=$(sha256sum <"$scratch/$file.file" | cut -d' ' -f1)
    case $file in large) want=4 ;; next) want=5 ;; esac
    [ "$(grep -c "$sum" "$scratch/push.out")" = "$want" ] || fail "not $want members have $file.file" push
  done
  echo 'push: every member was given the files that it is owed'
}

# request PORT METHOD PATH [BODY] prints the answer.
request() {
  local body=${4-}
  exec 6<>"/dev/tcp/127.0.0.1/$1"
  printf '%s %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$2" "$3" "${#body}" "$body" >&6
  cat <&6
  exec 6>&-
}

# replica NAME [FLAGS] starts a replica of the service, waits until it serves, and leaves its process in $pid and the ports of its
# HTTP server and of the cluster in $http and $bind.
replica() {
  local name=$1
  shift
  "$scratch/flags" -http 127.0.0.1:0 -bind 127.0.0.1:0 "$@" >"$scratch/$name.out" 2>&1 &
  pid=$!
  started+=("$pid")
  await "$name" '.* INFO serving .*'
  http=$(sed -n 's/.* http=[0-9.]*:\([0-9]*\) .*/\1/p' "$scratch/$name.out")
  bind=$(sed -n 's/.* cluster=[0-9.]*:\([0-9]*\)$/\1/p' "$scratch/$name.out")
}

# Two replicas: what one is told the other one says, and when one has left the other one still has it.
flags() {
  local pid http bind x y x_http y_http
  go build -o "$scratch/flags" ./examples/flags
  replica flags-x; x=$pid x_http=$http
  replica flags-y -seeds "127.0.0.1:$bind" -min-members 2; y=$pid y_http=$http
  for _ in $(seq 300); do
    request "$y_http" GET /ready >"$scratch/ready.out"
    if grep -q ' 200 ' "$scratch/ready.out"; then break; fi
    sleep 0.1
  done
  request "$y_http" PUT '/flags/dark-mode?confirm' '{"on":true}' >"$scratch/put.out"
  grep -q ' 204 ' "$scratch/put.out" || fail "a write was not confirmed" put ready flags-x flags-y
  request "$x_http" GET /flags >"$scratch/get.out"
  grep -qF '{"dark-mode":{"on":true}}' "$scratch/get.out" || fail "a confirmed write is not with the other replica" get flags-x flags-y
  kill -TERM "$x"
  ended "$x" flags-x
  request "$y_http" GET /flags/dark-mode >"$scratch/get.out"
  grep -qF '{"on":true}' "$scratch/get.out" || fail "a flag is gone with the other replica" get flags-x flags-y
  request "$y_http" DELETE '/flags/dark-mode?confirm' >"$scratch/put.out"
  grep -q ' 503 ' "$scratch/put.out" || fail "one of two replicas confirms" put flags-y
  kill -TERM "$y"
  ended "$y" flags-y
  echo 'flags: two replicas have the same, and the second one kept it'
}

# cached NAME [FLAGS] starts a process of cachesync, waits until it serves, and leaves its process in $pid and its port in $http.
cached() {
  local name=$1
  shift
  "$scratch/cachesync" -http 127.0.0.1:0 -bind 127.0.0.1:0 "$@" >"$scratch/$name.out" 2>&1 &
  pid=$!
  started+=("$pid")
  await "$name" '.* INFO serving .*'
  http=$(sed -n 's/.* http=[0-9.]*:\([0-9]*\)$/\1/p' "$scratch/$name.out")
}

# A database and two members that cache it: a row that one has cached and the other one changes is the new one with both.
cachesync() {
  local pid http bind db x y db_http x_http y_http
  go -C examples/cachesync build -o "$scratch/cachesync" . || fail "cachesync does not build"
  cached cache-db -db 127.0.0.1:0 database; db=$pid db_http=$http
  cached cache-x -db "127.0.0.1:$db_http"; x=$pid x_http=$http
  bind=$(sed -n 's/.* cluster=\([0-9.:]*\) .*/\1/p' "$scratch/cache-x.out")
  cached cache-y -db "127.0.0.1:$db_http" -seeds "$bind" -min-members 2; y=$pid y_http=$http
  for _ in $(seq 300); do
    request "$y_http" GET /ready >"$scratch/ready.out"
    if grep -q ' 200 ' "$scratch/ready.out"; then break; fi
    sleep 0.1
  done
  local row
  for row in red green; do
    request "$y_http" PUT /rows/apple "$row" >"$scratch/put.out"
    grep -q ' 204 ' "$scratch/put.out" || fail "a write was not confirmed" put ready cache-x cache-y
    for http in "$x_http" "$y_http"; do
      request "$http" GET /rows/apple >"$scratch/get.out"
      grep -qF "$row" "$scratch/get.out" || fail "a member has not the row that is confirmed, $row" get cache-x cache-y
    done
  done
  kill -TERM "$x"
  ended "$x" cache-x
  request "$y_http" PUT /rows/apple blue >"$scratch/put.out"
  grep -q ' 503 ' "$scratch/put.out" || fail "one of two members writes" put cache-y
  kill -TERM "$y"
  ended "$y" cache-y
  kill -TERM "$db"
  ended "$db" cache-db
  echo 'cachesync: no member gives out a row that was changed'
}

quickstart
chats
flags
cachesync
push
