//! Whole worlds from seeds: the real orchestrator, several workers of it, under every fault that can be simulated.
//!
//! A seed decides everything: tasks, sessions, people, clocks, faults. A failing one prints the command that replays it.

mod compute;
mod crashes;
mod front;
mod latch;
mod mutants;
mod plan;
mod runtime;
mod session;
mod trouble;
mod workers;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use abca_core::task::TaskStatus;
use abca_core::testing::Trace;
use abca_core::testing::witness::Promise;
use mutants::Mutant;
use world::{Outcome, run};

/// Everything that must have happened in a thousand seeds, and does not happen by itself.
const FAULTS: [&str; 56] = [
    "backend: answer lost",
    "backend: dies after",
    "backend: dies before",
    "backend: done twice",
    "backend: fails",
    "backend: hours late",
    "backend: lands later",
    "backend: slow",
    "clock: an hour ahead at most",
    "clock: an hour behind at most",
    "clock: jumps ahead",
    "clock: jumps back",
    "forge: cannot be reached",
    "forge: does not answer",
    "forge: refuses a task",
    "gateway: replaced",
    "human: approves",
    "human: denies",
    "human: does not answer in time",
    "human: never answers",
    "operator: lowers a cap",
    "person: cancels",
    "person: cancels, again and again",
    "person: nudges",
    "person: uploads",
    "session: asks a human",
    "session: dies after its report",
    "session: dies at work",
    "session: dies before it registers",
    "session: falls silent",
    "session: gives up on the platform",
    "session: hangs",
    "session: hears a nudge or a decision",
    "session: is told to stop",
    "session: lingers after its report",
    "session: never says a word",
    "session: registers late",
    "session: reports twice",
    "store: answer lost",
    "store: dies after",
    "store: dies before",
    "store: done twice",
    "store: fails",
    "store: hours late",
    "store: lands later",
    "store: slow",
    "storm: backend away",
    "storm: disk full",
    "storm: outcomes unknown",
    "storm: slow store",
    "storm: store away",
    "storm: throttled",
    "worker: cut off",
    "worker: drained for a new version",
    "worker: frozen",
    "worker: killed between two calls",
];

/// What a range of seeds came to.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    sessions: usize,
    hours: f64,
    tally: BTreeMap<&'static str, u64>,
    visited: BTreeMap<TaskStatus, u64>,
    ends: BTreeMap<TaskStatus, u64>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.sessions += outcome.sessions;
        self.hours += outcome.lasted.as_secs_f64() / 3_600.0;
        outcome.tally.iter().for_each(|(what, n)| *self.tally.entry(what).or_default() += n);
        outcome.visited.iter().for_each(|s| *self.visited.entry(*s).or_default() += 1);
        outcome.ends.iter().for_each(|(s, n)| *self.ends.entry(*s).or_default() += n);
    }

    fn print(&self, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{} seeds in {seconds:.1} s ({:.0} a second), {:.0} simulated hours ({:.0} a second), {} sessions, {} steps",
            self.seeds,
            self.seeds as f64 / seconds,
            self.hours,
            self.hours / seconds,
            self.sessions,
            self.steps,
        );
        self.tally.iter().for_each(|(what, n)| println!("{n:>9}  {what}"));
        self.visited.iter().for_each(|(s, n)| println!("{n:>9}  seeds visited {s}"));
        self.ends.iter().for_each(|(s, n)| println!("{n:>9}  tasks ended as {s}"));
    }

    fn saw_everything(&self) {
        for fault in FAULTS {
            assert!(self.tally.contains_key(fault), "`{fault}` never happened");
        }
        for status in TaskStatus::ALL {
            assert!(self.visited.contains_key(&status), "{status} was never visited");
        }
    }
}

/// Runs a seed, and says how to run it again where it fails.
fn holds(seed: u64) -> Outcome {
    let outcome = run(seed, None, Trace::hashing());
    assert!(outcome.findings.is_empty(), "{}", failed(seed, &outcome));
    outcome
}

fn failed(seed: u64, outcome: &Outcome) -> String {
    let findings: Vec<String> = outcome.findings.iter().take(5).map(ToString::to_string).collect();
    format!(
        "seed {seed} fails:\n  {}\nreplay it, with its trace:\n  ABCA_SIM_SEEDS={seed} cargo test -p abca --test it sim::replay -- --ignored --nocapture",
        findings.join("\n  ")
    )
}

fn seeds(range: Range<u64>) {
    let began = Instant::now();
    let mut sum = Sum::default();
    for seed in range {
        sum.add(&holds(seed));
    }
    sum.print(began);
    sum.saw_everything();
}

macro_rules! ranges {
    ($($name:ident $first:literal .. $end:literal;)+) => {
        $(#[test]
        fn $name() {
            seeds($first..$end);
        })+
    };
}

// Ten thousand, in parts that run side by side.
ranges! {
    seeds_0 0..1_250;
    seeds_1 1_250..2_500;
    seeds_2 2_500..3_750;
    seeds_3 3_750..5_000;
    seeds_4 5_000..6_250;
    seeds_5 6_250..7_500;
    seeds_6 7_500..8_750;
    seeds_7 8_750..10_000;
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..150 {
        let (one, two) = (run(seed, None, Trace::keeping()), run(seed, None, Trace::keeping()));
        let differs = one.lines.iter().zip(&two.lines).position(|(a, b)| a != b);
        let at = differs.map(|i| (i, &one.lines[i], &two.lines[i]));
        assert_eq!((one.hash, one.steps), (two.hash, two.steps), "seed {seed} differs at {at:?}");
        assert_eq!(one.tally, two.tally, "seed {seed}");
    }
}

/// Two workers whose clocks were more than two hours apart took a task from each other without a pause, and for ever: each
/// had it before the other had committed anything.
#[test]
fn workers_whose_clocks_are_hours_apart_do_not_take_a_task_from_each_other_for_ever() {
    for seed in [477, 39_248, 43_881, 125_930, 262_892, 271_590, 979_687] {
        assert!(holds(seed).steps < 3_000, "{seed}");
    }
}

/// `ABCA_SIM_SEEDS=7` replays a seed with its trace; `ABCA_SIM_SEEDS=0..1000000` runs a range on every core.
#[test]
#[ignore = "wants ABCA_SIM_SEEDS"]
fn replay() {
    let wanted = std::env::var("ABCA_SIM_SEEDS").expect("set ABCA_SIM_SEEDS to a seed, or to a range as `0..1000000`");
    match wanted.split_once("..") {
        None => {
            let seed = wanted.parse().expect("a seed is a number");
            let outcome = run(seed, None, Trace::printing());
            println!("{:#?}", outcome.tally);
            assert!(outcome.findings.is_empty(), "{}", failed(seed, &outcome));
        }
        Some((first, end)) => {
            let (first, end): (u64, u64) = (first.parse().expect("a number"), end.parse().expect("a number"));
            many(first..end);
        }
    }
}

/// A range on every core; all seeds that fail are named.
fn many(range: Range<u64>) {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let part = |n: u64| {
            let range = range.clone();
            scope.spawn(move || {
                let (mut sum, mut failures) = (Sum::default(), Vec::new());
                for seed in range.filter(|s| s % threads == n) {
                    let outcome = run(seed, None, Trace::hashing());
                    sum.add(&outcome);
                    if !outcome.findings.is_empty() {
                        failures.push(failed(seed, &outcome));
                    }
                }
                (sum, failures)
            })
        };
        let running: Vec<_> = (0..threads).map(part).collect();
        running.into_iter().map(|t| t.join().expect("a thread runs to its end")).collect()
    });
    let (mut all, mut failures) = (Sum::default(), Vec::new());
    for (sum, failed) in parts {
        all.seeds += sum.seeds;
        all.steps += sum.steps;
        all.sessions += sum.sessions;
        all.hours += sum.hours;
        sum.tally.iter().for_each(|(k, n)| *all.tally.entry(k).or_default() += n);
        sum.visited.iter().for_each(|(k, n)| *all.visited.entry(*k).or_default() += n);
        sum.ends.iter().for_each(|(k, n)| *all.ends.entry(*k).or_default() += n);
        failures.extend(failed);
    }
    all.print(began);
    assert!(failures.is_empty(), "{} seeds fail\n{}", failures.len(), failures.join("\n"));
    if all.seeds >= 1_000 {
        all.saw_everything();
    }
}

/// Seeds in which a guard must be missed at the latest.
const FOUND_WITHIN: u64 = 600;

/// Takes a guard away, and answers the first seed in which that is found, and as what.
fn missed(mutant: Mutant) -> (u64, Vec<Promise>) {
    let found =
        |seed| Some(run(seed, Some(mutant), Trace::hashing())).filter(|o| !o.findings.is_empty()).map(|o| (seed, o));
    let (seed, outcome) = (0..FOUND_WITHIN).find_map(found).unwrap_or_else(|| panic!("nobody misses {mutant:?}"));
    let mut promises: Vec<Promise> = outcome.findings.iter().map(|f| f.promise).collect();
    promises.sort();
    promises.dedup();
    (seed, promises)
}

macro_rules! missed {
    ($($name:ident $mutant:ident $($promise:ident)|+;)+) => {
        $(#[test]
        fn $name() {
            let (seed, promises) = missed(Mutant::$mutant);
            println!("{:?}: seed {seed}: {promises:?}", Mutant::$mutant);
            let meant = [$(Promise::$promise),+];
            assert!(promises.iter().any(|p| meant.contains(p)), "seed {seed} found {promises:?} instead");
        })+
    };
}

missed! {
    without_the_fence NoFence Fence | Cas;
    without_the_revision NoCas Cas;
    without_commit_ids NoCommitId Once;
    without_signal_ids NoSignalId SignalOnce;
    without_the_registration_gate NoGate Gate;
    without_a_cap NoCap Cap;
    without_an_order NoFifo Fifo;
    without_due_times NoTimer Ends;
    with_leases_for_ever RenewsAnything Fence;
    with_lost_submissions LosesTasks Kept;
    with_lost_events LosesEvent Gapless;
    with_two_ends EndsTwice OneEnd;
    with_unread_inboxes LeavesInbox Inbox;
    with_hidden_cancels HidesCancel Cancel;
    with_leaked_slots LeaksSlots Slots;
    without_tombstones NoTombstone NoOrphan | OneSession;
    with_second_starts StartsAgain StartOnce;
    with_stops_that_stop_nothing StopsNothing NoWork | NoOrphan | OneSession;
}
