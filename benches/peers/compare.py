"""Runs abca and mini-swe-agent in turn (A/B/A/B/A) on the same scripted server and task, and prints what each took.

compare.py ABCA_PROGRAM [TURNS] [ROUNDS]
"""

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from server import Script

TASK = "Echo what you are told, then stop."


def descendants(root):
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
            except OSError:
                pass
    found, todo = [], [root]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def memory(pids):
    """Proportional and resident set of all together, in MiB, and the same by program."""
    total = {"Pss": 0, "Rss": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    name = line.split(":")[0]
                    if name in total:
                        total[name] += int(line.split()[1])
        except OSError:
            pass
    return total["Pss"] / 1024, total["Rss"] / 1024


def run(command, env, turns):
    """Runs a command to the end of everything that it started. Answers what it took."""
    server = Script(turns)
    peak = [0.0, 0.0]
    over = threading.Event()

    def sample():
        while not over.wait(0.1):
            pss, rss = memory(descendants(os.getpid()))
            peak[0], peak[1] = max(peak[0], pss), max(peak[1], rss)

    sampler = threading.Thread(target=sample)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    sampler.start()
    full = {**os.environ, **env, "OPENAI_BASE_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_API_KEY": "dummy"}
    child = subprocess.Popen(command, env=full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = child.communicate()[0]
    ended = time.monotonic()
    # What it left behind (detached sessions) is ours to wait for: it counts too.
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    over.set()
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    server.shutdown()
    server.server_close()
    if child.returncode != 0 or server.problems or len(server.seen) < turns + 1:
        sys.exit(f"{command[0]}: status {child.returncode}, {len(server.seen)} calls, {server.problems}\n{said[-3000:]}")
    gaps = [b[0] - a[1] for a, b in zip(server.seen, server.seen[1:])]
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return {
        "start": server.seen[0][0] - begun,
        "turn": statistics.median(gaps) * 1e3,
        "turn95": sorted(gaps)[int(len(gaps) * 0.95)] * 1e3,
        "loop": server.seen[-1][1] - server.seen[0][0],
        "wall": ended - begun,
        "cpu": cpu,
        "pss": peak[0],
        "rss": peak[1],
    }


def main():
    abca, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    # Detached processes become ours, so that their CPU time is counted.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        repo = os.path.join(folder, "repo")
        os.mkdir(repo)
        git = ["git", "-C", repo, "-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
        with open(os.path.join(repo, "a.txt"), "w") as file:
            file.write("a\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "First"], check=True)
        state = os.path.join(folder, "state")
        flags = ["--model", "openai:fake", "--max-turns", "200", "--output", "json"]
        systems = {
            "abca": ([abca, "--state", state, "run", "--repo", repo, *flags, TASK], {}),
            "mini-swe-agent": (
                [sys.executable, os.path.join(here, "mini.py"), repo, TASK],
                {"MSWEA_SILENT_STARTUP": "1", "MSWEA_COST_TRACKING": "ignore_errors", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            ),
        }
        # Once each, uncounted: files in the page cache, bytecode compiled, the state folder made.
        results = {name: [] for name in systems}
        for name, (command, env) in systems.items():
            run(command, env, 2)
        base = {name: run(command, env, 1) for name, (command, env) in systems.items()}
        order = ["abca", "mini-swe-agent"] * rounds + ["abca"]
        for name in order:
            results[name].append(run(*systems[name], turns))
    print(f"{turns} turns of `echo`, order {'/'.join(n[0].upper() for n in order)}, medians over runs; load {open('/proc/loadavg').read()[:14]}")
    head = ["", "turn ms", "turn p95", "CPU/turn ms", "to 1st call s", "whole s", "CPU whole s", "PSS MiB", "RSS MiB"]
    print(f"{head[0]:<16}" + "".join(f"{h:>14}" for h in head[1:]))
    for name, runs in results.items():
        mid = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        per_turn = (mid["cpu"] - base[name]["cpu"]) / (turns - 1) * 1e3
        row = [mid["turn"], mid["turn95"], per_turn, mid["start"], mid["wall"], mid["cpu"], mid["pss"], mid["rss"]]
        print(f"{name:<16}" + "".join(f"{v:>14.2f}" for v in row))
    print("turn: from the end of the model's answer to the next request's last byte, the command included.")
    print("CPU/turn: CPU of the whole process tree, less that of a run of one turn, per further turn.")
    print("PSS, RSS: highest sum over the whole process tree, sampled every 100 ms.")


main()
