#!/usr/bin/env bash
# What a crash costs: abca's orchestrator beside Restate, DBOS and duroxide, killed under the same load, one after the other.
#
#   benches/peers/crash.sh [seconds a run, default 60] [rounds, default 1] [in flight, default 64] [system ..., default all]
#
# Needs cargo, npm and PostgreSQL, as durable.sh does. The worker gets SIGKILL at half of the time and is started again at once;
# at three quarters PostgreSQL stops in immediate mode, or Restate's server gets SIGKILL, and is started again at once. A store
# in the worker's own process (SQLite) dies with it and has no second fault. Columns, for each fault: lives/s in the 5 s before
# it; seconds until a whole second began with nine tenths of that; the longest time in which nothing ended. Then: tasks
# submitted; lost, that is not ended 60 s after the last submission; steps done again. Each step leaves a mark outside the system
# (a line in a file, O_APPEND): seven a life for the peers; for abca the two parts of a life that are not the store's own,
# preparation and session. A client that hears an error, or nothing for 30 s, asks again with the same idempotency key.
#
# How each resumes: all by their defaults. abca: the roster in the state folder ends a dead worker's leases (30 s) at once.
# Restate: its server retries invocations (exponentially from 50 ms). DBOS: launch puts what this executor left behind on the internal
# queue; database errors are retried from 1 s on. duroxide: locks of 5 s (turns) and 30 s (activities) run out; concurrency 4 and 4.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=${1:-60}
rounds=${2:-1}
level=${3:-64}
shift $(($# > 3 ? 3 : $#))
systems=("$@")
[ ${#systems[@]} -gt 0 ] || systems=(abca-sqlite restate abca-postgres dbos duroxide)
work=$(mktemp -d "${TMPDIR:-/tmp}/abca-crash.XXXXXX")
chmod 755 "$work"
peers=${ABCA_PEERS_TARGET:-${CARGO_TARGET_DIR:-$root/target}/peers}
export ABCA_POSTGRES_DIR="$work/pg" ABCA_POSTGRES_PORT=55449
export RESTATE_DISABLE_TELEMETRY=true RESTATE_LOG_FILTER=error
end() {
  kill $(jobs -p) 2>/dev/null || true
  bash "$root/scripts/postgres" stop || true
  rm -rf "$work"
}
trap end EXIT

echo "# crash: $(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git -C "$root" rev-parse --short HEAD), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $level in flight, $seconds s a run"
CARGO_TARGET_DIR="$peers" cargo build --quiet --release --manifest-path "$here/durable/Cargo.toml"
bin="$peers/release"
# Where cargo put our worker.
abca=$(cd "$root" && cargo bench --quiet -p abca --features bench,postgres --bench crash --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\/crash-[^"]*\)".*/\1/p' | tail -1)
npm=${ABCA_PEERS_NPM:-$work/npm}
mkdir -p "$npm"
[ -d "$npm/node_modules/@restatedev" ] ||
  (cd "$npm" && npm install --silent --ignore-scripts @restatedev/restate-server >/dev/null 2>&1)
restate=$(find "$npm/node_modules" -path '*linux-x64*' -name restate-server -type f | head -1)
url=$(bash "$root/scripts/postgres" start)

# The service is made known as soon as both are up.
enlist() {
  for _ in $(seq 150); do
    curl -sf -o /dev/null -X POST http://127.0.0.1:9070/deployments -H 'content-type: application/json' \
      -d '{"uri":"http://127.0.0.1:19081","force":true}' && return
    sleep 0.2
  done
}

# NAME DOOR WORKER [KIND SERVER]
crash() {
  echo "  $1: load $(cut -d' ' -f1-3 /proc/loadavg)" >&2
  (cd "$work" && EFFECTS="$work/effects" timeout $((seconds + 240)) "$bin/crash" "$1" "$seconds" "$level" "${@:2}") || echo "$1: no figures"
  rm -f "$work/effects"
}

printf '%-20s %9s %7s %8s %9s %7s %8s %9s %5s %6s\n' \
  'system' 'before/s' 'back s' 'silent s' 'before/s' 'back s' 'silent s' submitted lost again
for round in $(seq "$rounds"); do
  for system in "${systems[@]}"; do
    own="$work/$system-$round"
    case $system in
      abca-sqlite) crash 'abca (sqlite)' tcp:19083 "$abca serve 19083 sqlite:$own $own-state" ;;
      abca-postgres)
        psql "$url" -qAtc "CREATE DATABASE abca_$round" >/dev/null
        crash 'abca (postgres)' tcp:19084 "$abca serve 19084 ${url%/*}/abca_$round $own-state" command "bash $root/scripts/postgres crash"
        ;;
      dbos)
        psql "$url" -qAtc "CREATE DATABASE dbos_$round" >/dev/null
        crash 'dbos (postgres)' tcp:19085 "$bin/dbos_lives serve 19085 ${url%/*}/dbos_$round" command "bash $root/scripts/postgres crash"
        ;;
      duroxide)
        mkdir -p "$own"
        crash 'duroxide (sqlite)' tcp:19086 "$bin/duroxide_lives serve 19086 $own"
        ;;
      restate)
        enlist &
        crash restate http://127.0.0.1:8080/Task/run "$bin/restate_service" process "$restate --base-dir $own --bind-port 15122"
        ;;
      *) echo "no such system: $system" >&2 && exit 2 ;;
    esac
  done
done
echo "load afterwards $(cut -d' ' -f1-3 /proc/loadavg)"
