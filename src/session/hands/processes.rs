//! Finding and killing processes by descent, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

/// A process at one moment. Pid and start time together are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    start: u64,
    parent: i32,
    zombie: bool,
}

/// Sends a signal to all descendants of a process, not to itself.
pub(super) fn signal_descendants(of: u32, signal: Signal) {
    for p in descendants(&[of as i32]) {
        send(p, signal);
    }
}

/// Kills all descendants of a process, not itself. They are stopped first, so that none can fork away meanwhile.
/// Answers how many there were.
pub(super) fn kill_descendants(of: u32) -> usize {
    kill_below(|| vec![of as i32])
}

/// Kills and reaps every child of this process that is not one of `known`, and all below. For a program that is the
/// subreaper of what it starts: these are what killed supervisors leave behind.
pub(super) fn kill_strays(known: &BTreeSet<u32>) {
    let me = std::process::id() as i32;
    let strays = || -> Vec<Process> {
        snapshot()
            .unwrap_or_default()
            .into_values()
            .filter(|p| p.parent == me && !known.contains(&(p.pid as u32)))
            .collect()
    };
    for _ in 0..PASSES {
        let found = strays();
        if found.is_empty() {
            return;
        }
        for p in &found {
            send(*p, Signal::STOP);
        }
        kill_below(|| found.iter().map(|p| p.pid).collect());
        for p in &found {
            send(*p, Signal::KILL);
            if let Some(pid) = Pid::from_raw(p.pid) {
                // Its children come to us when it is gone, and are found by the next pass.
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Against a fork bomb at its process limit a few passes do; this only bounds the loop.
const PASSES: usize = 200;
/// After so many passes that all found new processes, what was found is killed without waiting for the last one.
const IMPATIENCE: usize = 20;

fn kill_below(roots: impl Fn() -> Vec<i32>) -> usize {
    let mut seen = BTreeSet::new();
    for pass in 1..=PASSES {
        let mut fresh = false;
        for p in descendants(&roots()) {
            if seen.insert((p.pid, p.start)) {
                fresh = true;
                send(p, Signal::STOP);
            }
        }
        // Unless new ones keep coming, nobody below can fork any more. Where they do, killing what is there is what is left.
        if fresh && pass % IMPATIENCE != 0 {
            continue;
        }
        for p in descendants(&roots()) {
            send(p, Signal::KILL);
        }
        if descendants(&roots()).iter().all(|p| seen.contains(&(p.pid, p.start))) {
            break;
        }
    }
    seen.len()
}

/// Living descendants, not the roots.
fn descendants(roots: &[i32]) -> Vec<Process> {
    let Ok(all) = snapshot() else { return Vec::new() };
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for p in all.into_values() {
        children.entry(p.parent).or_default().push(p);
    }
    let mut found = Vec::new();
    let mut next: Vec<i32> = roots.to_vec();
    while let Some(pid) = next.pop() {
        for p in children.remove(&pid).unwrap_or_default() {
            next.push(p.pid);
            if !p.zombie {
                found.push(p);
            }
        }
    }
    found
}

/// Whether `/proc` is there and shows this process.
pub(super) fn visible() -> bool {
    process(std::process::id() as i32).is_some()
}

fn snapshot() -> io::Result<BTreeMap<i32, Process>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        if let Some(p) = process(pid) {
            all.insert(pid, p);
        }
    }
    Ok(all)
}

fn process(pid: i32) -> Option<Process> {
    parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid ...`, the start time in field 22; the name may hold anything, also `)`.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, start, parent, zombie: state == "Z" || state == "X" })
}

/// By pidfd where the kernel has it, so that a pid used anew meanwhile is never hit.
fn send(to: Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(to.pid) else { return };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => {
            if process(to.pid).is_some_and(|now| now.start == to.start) {
                let _ = pidfd_send_signal(fd, signal);
            }
        }
        Err(rustix::io::Errno::SRCH) => {}
        Err(_) => {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_parser() {
        let stat = b"42 (a) S 1 (b) R 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 991 0 0";
        let got = parse(42, stat).unwrap();
        assert_eq!((got.parent, got.zombie), (7, false));
        assert!(parse(1, b"garbage").is_none());
        assert!(visible());
    }
}
