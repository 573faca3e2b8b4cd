#!/bin/sh
# abca beside mini-swe-agent: the same scripted OpenAI-compatible server on loopback, the same task, in turn (A/B/A).
#
#   benches/peers/mini_swe_agent.sh [turns] [rounds]        default 30 turns, 3 rounds
#
# Installs mini-swe-agent from PyPI into `$PEERS_VENV` (default: a folder below the target folder), builds abca with the
# release profile (or takes `$ABCA`), and prints wall time and CPU per turn and memory. Needs python3 and git.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${PEERS_VENV:-$target/peers-venv}
version=2.4.6

if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
if ! "$venv/bin/python" -c "import mcp, minisweagent as m; raise SystemExit(m.__version__ != '$version')" >/dev/null 2>&1; then
    "$venv/bin/pip" install --quiet "mini-swe-agent==$version" mcp # litellm 1.108 imports mcp without asking for it
fi
if [ -z "${ABCA:-}" ]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package abca --features cli --bin abca
    ABCA="$target/release/abca"
fi
export MSWEA_CONFIGURED=true MSWEA_SILENT_STARTUP=1 PYTHONDONTWRITEBYTECODE=
echo "# mini-swe-agent $version ($("$venv/bin/python" --version)) and $("$ABCA" --version), commit $(git -C "$root" rev-parse --short HEAD), $(nproc) cores, $(date -u '+%Y-%m-%d %H:%M UTC')"
exec "$venv/bin/python" "$here/compare.py" "$ABCA" "${1:-30}" "${2:-3}"
