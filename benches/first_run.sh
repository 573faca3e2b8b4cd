#!/bin/sh
# From `git clone` to the demo's pull request, as a new user: nothing of cargo's is cached, nothing is compiled.
#
#   benches/first_run.sh [repository]        default: the repository that this script lies in
#
# Prints seconds for clone, download, compile and demo, and the ten crates that took longest to compile. Needs the Rust
# toolchain, git and python3 (for the table of crates only). Keeps nothing but what it prints; `KEEP=1` keeps the folder.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
from=${1:-$here}
work=$(mktemp -d "${TMPDIR:-/tmp}/abca-first-run.XXXXXX")
[ -n "${KEEP:-}" ] || trap 'rm -rf "$work"' EXIT INT TERM
now() { date +%s.%N; }
took() { printf '%-34s %8.1f s\n' "$1" "$(echo "$3 $2" | awk '{ print $1 - $2 }')"; }

# Where the registry is reached is the machine's; what was downloaded from it is not taken over.
mkdir "$work/cargo"
for config in "${CARGO_HOME:-$HOME/.cargo}"/config.toml "${CARGO_HOME:-$HOME/.cargo}"/config; do
    if [ -f "$config" ]; then cp "$config" "$work/cargo/"; fi
done
export RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
export CARGO_HOME="$work/cargo"
unset CARGO_TARGET_DIR CARGO_BUILD_JOBS CARGO_NET_OFFLINE CARGO_BUILD_TARGET_DIR RUSTFLAGS 2>/dev/null || true

echo "# first run: $(date -u '+%Y-%m-%d %H:%M UTC'), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $(rustc --version)"
start=$(now)
git clone --quiet "$from" "$work/abca"
cd "$work/abca"
cloned=$(now)
# Downloads what this build needs, and nothing for other features or systems.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo tree --quiet --locked --package abca --features cli --edges normal,build --target "$host" >"$work/tree"
fetched=$(now)
cargo build --quiet --locked --package abca --features cli --bin abca --timings 2>"$work/build.log" || {
    cat "$work/build.log"
    exit 1
}
built=$(now)
cargo abca --state "$work/state" demo 2>&1 | sed 's/^/    /'
ended=$(now)

echo
echo "commit $(git rev-parse --short HEAD), $(sed 's/.* \(v[0-9]\)/\1/' "$work/tree" | wc -l) lines in the tree of crates"
took 'git clone (local)' "$start" "$cloned"
took 'download' "$cloned" "$fetched"
took 'compile (dev profile)' "$fetched" "$built"
took 'demo, to the pull request' "$built" "$ended"
took 'together' "$start" "$ended"
echo "load afterwards $(cut -d' ' -f1-3 /proc/loadavg)"
echo
python3 - target/cargo-timings/cargo-timing.html <<'PYTHON'
import json, re, sys

units = json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);\n", open(sys.argv[1]).read(), re.S).group(1))
print(f"{len(units)} units; the ten slowest (seconds of wall time while others compile beside):")
for unit in sorted(units, key=lambda u: -u["duration"])[:10]:
    print(f"  {unit['duration']:7.1f}  {unit['name']} {unit['version']} {unit['target'].strip()}")
PYTHON
