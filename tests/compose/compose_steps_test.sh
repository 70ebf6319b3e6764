#!/usr/bin/env bash
# The commands of docker-compose.yml, in its order, without containers: a
# federation on this machine that ends with a promoted round.
#   compose_steps_test.sh PROJECT PROGRAMS
set -euo pipefail

root=$1
export PATH=$2:$PATH
entrypoint=$root/scripts/docker/entrypoint
work=$(mktemp -d)
children=()
started=()

finish() {
  local code=$?
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait
  if ((code != 0)); then tail -n 20 "$work"/*.log; fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT

read -r CONSILIUM_PORT CONSILIUM_ENROLL_PORT CONSILIUM_METRICS_PORT < <(
  python3 -c '
import socket
s = [socket.socket() for _ in range(3)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))')
export CONSILIUM_PORT CONSILIUM_ENROLL_PORT CONSILIUM_METRICS_PORT
export CONSILIUM_HOST=127.0.0.1 no_proxy=127.0.0.1
export CONSILIUM_INVITATIONS=$work/invitations CONSILIUM_MODEL=$work/model
export CONSILIUM_HOSPITALS=$work
mkdir -m 0700 "$work"/{coordinator,invitations,model,hospital-{a,b,c}}

# DATA COMMAND...: as the service with that volume; its command is remembered.
as() {
  local volume=$1
  shift
  started+=("$*")
  CONSILIUM_DATA=$work/$volume "$entrypoint" "$@"
}
stay() {  # the same, until the test ends
  local volume=$1
  shift
  started+=("$*")
  CONSILIUM_DATA=$work/$volume CONSILIUM_INSTITUTION=$volume \
    "$entrypoint" "$@" >"$work/$volume.log" 2>&1 &
  children+=("$!")
}
healthy() {  # VOLUME: as compose waits for it
  for _ in {1..600}; do
    if CONSILIUM_DATA=$work/$1 "$entrypoint" health 2>/dev/null; then return; fi
    kill -0 "${children[-1]}"
    sleep 0.2
  done
  echo "$1 is not healthy" >&2
  return 1
}

names=(hospital-a hospital-b hospital-c)
as coordinator init >"$work/init.log"
stay coordinator coordinator
as coordinator data "${names[@]}"
healthy coordinator
as coordinator import
as coordinator invite "${names[@]}"
for name in "${names[@]}"; do stay "$name" client; done
for name in "${names[@]}"; do healthy "$name"; done
as coordinator round >"$work/round.log"
grep -q promoted "$work/round.log"

# Once more, as after a stop: nothing is set up twice, and another round runs.
as coordinator init
as coordinator data "${names[@]}"
as coordinator import
as coordinator invite "${names[@]}"
as coordinator round >"$work/round.log"
grep -q promoted "$work/round.log"

# Every command of the file was run, and no other.
wanted=$(sed -nE 's/^ *command: \[(.*)\]$/\1/p' "$root/docker-compose.yml" |
  tr -d '",' | sort -u)
diff <(printf '%s\n' "${started[@]}" | sort -u) <(printf '%s\n' "$wanted")
