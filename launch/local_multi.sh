#!/usr/bin/env bash
# Runs the same `tlx …` in N processes of this machine that form one run, as N machines would.
#
#   bash launch/local_multi.sh --processes=2 train --config=… --workdir=…
#   bash launch/local_multi.sh --processes=2 --restarts=3 train …   starts again when one dies
#   bash launch/local_multi.sh --processes=2 --dry-run train …      prints the commands
#
# Each line that process k prints begins with [k]. TERM and Ctrl-C reach all of them: they save and
# stop after the same step, and the same command goes on from there. When one dies, the others are
# given ten seconds, then killed, since a run cannot go on without it; with --restarts=N all are
# started again, N times at most, and go on from the last checkpoint; not after status 2, which says
# that tlx cannot read the command, and would not then.
#
# With GPUs, as many processes as GPUs: process k has the k-th. Tried on processors alone.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

processes=2
restarts=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
    --processes=*) processes=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --dry-run) DRY_RUN=1 ;;
    -*) die "expected --processes=N, --restarts=N or --dry-run before the command, got $1" ;;
    *) break ;;
  esac
  shift
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || die "expected --processes=N of 1 at least, got $processes"
[[ $restarts =~ ^(0|[1-9][0-9]*)$ ]] || die "expected --restarts=N of 0 at least, got $restarts"
[ $# -gt 0 ] || die "say what to run, as in: bash launch/local_multi.sh train --config=… --workdir=…"

# Becomes process RANK of the run whose coordinator listens on PORT.
become() {
  local rank=$1 port=$2
  shift 2
  run exec env JAX_COORDINATOR_ADDRESS="127.0.0.1:$port" JAX_NUM_PROCESSES="$processes" \
    JAX_PROCESS_ID="$rank" JAX_LOCAL_DEVICE_IDS="$rank" "$TLX_VENV/bin/tlx" "$@"
}

free_port() {
  "$TLX_VENV/bin/python" -c '
import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
}

# Starts all processes; in groups of their own, so that Ctrl-C reaches them by this script alone.
start_all() {
  local port rank
  port=$(free_port)
  pids=()
  set -m
  for ((rank = 0; rank < processes; rank++)); do
    become "$rank" "$port" "$@" </dev/null \
      > >(trap '' TERM INT && exec sed -u "s/^/[$rank] /") 2>&1 &
    pids+=($!)
  done
  set +m
}

# Waits until all have ended; `code` is then that of one that failed first, or 0.
wait_for_all() {
  local pid running deadline=""
  code=0
  while :; do
    running=0
    for pid in "${pids[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        running=$((running + 1))
      elif [ "$code" -eq 0 ]; then
        wait "$pid" || code=$?
      fi
    done
    [ "$running" -gt 0 ] || return 0
    if [ "$code" -ne 0 ] && [ -z "$deadline" ]; then deadline=$((SECONDS + 10)); fi
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
      for pid in "${pids[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
    fi
    sleep 0.2
  done
}

forward() {
  local pid
  asked=yes
  for pid in "${pids[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
}

ensure_env demo
if [ -n "${DRY_RUN:-}" ]; then
  for ((rank = 0; rank < processes; rank++)); do become "$rank" PORT "$@"; done
  exit
fi
pids=()
asked=""
trap 'forward TERM' TERM
trap 'forward INT' INT
for ((attempt = 0; ; attempt++)); do
  start_all "$@"
  wait_for_all
  case "$asked$code" in
    0 | 130 | 143 | yes*) exit "$code" ;; # done, or stopped
    2) break ;;
  esac
  if [ "$attempt" -ge "$restarts" ]; then break; fi
  say "a process ended with status $code: starting all again ($((attempt + 1)) of $restarts)"
done
say "a process ended with status $code"
exit "$code"
