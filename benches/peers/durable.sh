#!/usr/bin/env bash
# abca's stores beside Restate, DBOS and duroxide: the same life of seven durable steps, interleaved, on this machine.
#
#   benches/peers/durable.sh [seconds a run, default 5] [rounds, default 2] [in flight ..., default 1 16 64 256]
#
# Needs cargo, npm and PostgreSQL (scripts/postgres installs it). Peers are built below $CARGO_TARGET_DIR or the target folder, and
# downloaded from the registries only; Restate's server is its npm package (BSL). Every run prints: in flight, lives/s, durable
# steps/s, p50, p95, p99 in ms. Peers without admission do no admission: their steps are empty, ours is a real one. abca's rows
# are the store alone (`store`, ten calls a life, the rules of the task machine included) and the whole orchestrator (`lives`).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=${1:-5}
rounds=${2:-2}
shift $(($# > 2 ? 2 : $#))
levels=("$@")
[ ${#levels[@]} -gt 0 ] || levels=(1 16 64 256)
work=$(mktemp -d "${TMPDIR:-/tmp}/abca-durable.XXXXXX")
chmod 755 "$work"
target=${CARGO_TARGET_DIR:-$root/target}
peers=${ABCA_PEERS_TARGET:-$target/peers}
export ABCA_POSTGRES_DIR="$work/pg" ABCA_POSTGRES_PORT=55447
end() {
  kill $(jobs -p) 2>/dev/null || true
  bash "$root/scripts/postgres" stop || true
  rm -rf "$work"
}
trap end EXIT

echo "# durable peers: $(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git -C "$root" rev-parse --short HEAD), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)"
CARGO_TARGET_DIR="$peers" cargo build --quiet --release --manifest-path "$here/durable/Cargo.toml"
(cd "$root" && cargo bench --quiet -p abca-store --features sqlite,postgres --bench store --no-run 2>/dev/null)
npm=${ABCA_PEERS_NPM:-$work/npm}
mkdir -p "$npm"
[ -d "$npm/node_modules/@restatedev" ] ||
  (cd "$npm" && npm install --silent --ignore-scripts @restatedev/restate-server >/dev/null 2>&1)
url=$(bash "$root/scripts/postgres" start)
bin="$peers/release"

restate=$(find "$npm/node_modules" -path '*linux-x64*' -name restate-server -type f | head -1)
"$bin/restate_service" >/dev/null 2>&1 &
(cd "$work" && RESTATE_DISABLE_TELEMETRY=true RESTATE_LOG_FILTER=error \
  "$restate" --base-dir "$work/restate" --bind-port 15122 >"$work/restate.log" 2>&1) &
for _ in $(seq 100); do
  curl -sf -o /dev/null -X POST http://127.0.0.1:9070/deployments -H 'content-type: application/json' \
    -d '{"uri":"http://127.0.0.1:19081","force":true}' && break
  sleep 0.2
done
psql "$url" -qAtc 'CREATE DATABASE dbos_bench' >/dev/null

printf '%-18s %9s %9s %9s %10s %10s %10s\n' system 'in flight' lives/s steps/s 'p50 ms' 'p95 ms' 'p99 ms'
for round in $(seq "$rounds"); do
  for level in "${levels[@]}"; do
    echo "-- round $round, $level in flight, load $(cut -d' ' -f1 /proc/loadavg)"
    (cd "$root" && ABCA_TEST_POSTGRES="$url" TMPDIR="$work" \
      cargo bench --quiet -p abca-store --features sqlite,postgres --bench store -- "$seconds" "$level" 2>/dev/null | grep -E '^(sqlite|postgres|in-process)') || true
    "$bin/restate_drive" "$seconds" "$level" http://127.0.0.1:8080/Task/run
    "$bin/dbos_lives" "$seconds" "$level" "${url%/*}/dbos_bench" 2>/dev/null
    mkdir -p "$work/dur" && rm -f "$work"/dur/* && "$bin/duroxide_lives" "$seconds" "$level" "$work/dur" 2>/dev/null | grep "^duroxide"
  done
done
echo "load afterwards $(cut -d' ' -f1-3 /proc/loadavg)"
