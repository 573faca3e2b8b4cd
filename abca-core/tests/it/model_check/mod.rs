//! The task machine under a model checker: the real `decide`, the store's real rules for a row, and a world that does
//! its worst. Every state within the bounds is visited, not sampled.

mod cases;
mod drain;
mod fixtures;
mod guards;
mod jobs;
mod machine;
mod memory;
mod print;
mod properties;
mod rows;
mod sessions;
mod table;
mod workers;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};

use stateright::{Checker, Model};

use machine::Race;
use properties as p;
use world::{Bounds, Guards};

/// One task; two workers that take it from each other once; one crash, lost answer or failed call; one cancel.
const SMALL: Bounds = Bounds {
    tasks: 1,
    workers: 2,
    attempts: 1,
    users: 1,
    cap: 1,
    system: 2,
    ticks: 1,
    steals: 1,
    faults: 1,
    late: 0,
    cancels: 1,
    verdicts: false,
    proposals: false,
    gates: false,
    tombstones: true,
    repeats: 0,
    timers: false,
};

/// Visits every state within the bounds on one thread, finds no promise broken, and finds every way that is to be
/// there; answers how many states there are, and how many were generated.
#[expect(clippy::disallowed_methods, reason = "how long it took is told to people only")]
fn check(name: &str, bounds: Bounds, ways: &[&'static str]) -> (usize, usize) {
    let began = std::time::Instant::now();
    let checker = Race::new(bounds, Guards::ALL).checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    let (generated, depth, took) = (checker.state_count(), checker.max_depth(), began.elapsed().as_secs());
    eprintln!("| {name} | {states} | {generated} | {depth} | {took} s |");
    for promise in p::ALWAYS {
        checker.assert_no_discovery(promise);
    }
    // What never happens proves nothing.
    for way in ways {
        checker.assert_any_discovery(way);
    }
    (states, generated)
}

#[test]
fn two_workers_take_a_task_from_each_other() {
    check("two workers", SMALL, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::ZOMBIE]);
}

#[test]
fn a_second_attempt_follows_a_first_that_is_lost() {
    let bounds = Bounds { attempts: 2, workers: 1, steals: 0, ticks: 2, ..SMALL };
    check("two attempts", bounds, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::TIMES_OUT, p::AGAIN]);
}

#[test]
fn words_come_late_out_of_order_and_past_the_gate() {
    let bounds = Bounds { attempts: 2, workers: 1, steals: 0, faults: 0, late: 1, verdicts: true, ..SMALL };
    check("late words", bounds, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::AGAIN]);
}

#[test]
fn a_human_is_asked_and_answers_or_does_not() {
    let bounds = Bounds { workers: 1, steals: 0, faults: 0, gates: true, ticks: 2, ..SMALL };
    check("gates", bounds, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::AWAITS]);
}

#[test]
fn a_session_dies_between_its_pull_request_and_its_report() {
    let bounds = Bounds { attempts: 2, workers: 1, steals: 0, proposals: true, ..SMALL };
    check("proposals", bounds, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::INFERS, p::AGAIN]);
    let bounds = Bounds { faults: 0, ticks: 2, proposals: true, ..SMALL };
    check("proposals, two workers", bounds, &[p::COMPLETES, p::FAILS, p::IS_CANCELLED, p::INFERS, p::ZOMBIE]);
}

#[test]
fn two_tasks_want_the_same_slot() {
    let bounds = Bounds { tasks: 2, steals: 0, faults: 0, ticks: 0, ..SMALL };
    check("two tasks", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::QUEUES]);
}

#[test]
fn a_backend_without_tombstones() {
    let bounds = Bounds { faults: 0, tombstones: false, ..SMALL };
    check("no tombstones", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::LATE_START]);
}

#[test]
fn two_users_share_what_the_system_has() {
    let bounds = Bounds { tasks: 3, users: 2, workers: 1, system: 1, steals: 0, faults: 0, ticks: 0, ..SMALL };
    check("two users", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::QUEUES]);
}

#[test]
fn words_are_sent_again() {
    let bounds = Bounds { workers: 1, steals: 0, faults: 0, gates: true, repeats: 1, ..SMALL };
    check("repeats", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::AWAITS]);
}

#[test]
fn leases_are_given_back_and_due_times_kept() {
    let bounds = Bounds { steals: 0, timers: true, ..SMALL };
    check("timers", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::ZOMBIE]);
}

#[test]
fn three_workers_take_a_task_from_each_other() {
    let bounds = Bounds { workers: 3, steals: 2, faults: 0, ticks: 0, ..SMALL };
    check("three workers", bounds, &[p::COMPLETES, p::IS_CANCELLED, p::ZOMBIE]);
}

/// Takes minutes, and three gigabytes: `cargo test -p abca-core --release --test it -- --ignored --nocapture model_check::large`.
#[test]
#[ignore = "visits 37 million states: run in release"]
fn large() {
    let usual = [p::COMPLETES, p::FAILS, p::IS_CANCELLED];
    let with = |way| [usual.as_slice(), &[way]].concat();
    let queue = [p::COMPLETES, p::IS_CANCELLED, p::QUEUES];
    let queue_with = |ways: &[&'static str]| [&queue, ways].concat();
    // Without thefts and mishaps, which the others have.
    let calm = Bounds { steals: 0, faults: 0, ..SMALL };
    let several = Bounds { system: 1, ..calm };
    // The longest first.
    let runs = [
        ("approvals, words sent again", Bounds { gates: true, repeats: 1, ticks: 2, ..SMALL }, with(p::AWAITS)),
        ("three tasks of three users", Bounds { tasks: 3, users: 3, ..several }, queue_with(&[])),
        ("two tasks, a theft and a mishap", Bounds { tasks: 2, ..SMALL }, queue_with(&[p::FAILS, p::ZOMBIE])),
        ("three tasks of two users", Bounds { tasks: 3, users: 2, ..several }, queue_with(&[])),
        (
            "two thefts, two mishaps, a late word",
            Bounds { steals: 2, faults: 2, late: 1, verdicts: true, ..SMALL },
            with(p::ZOMBIE),
        ),
        (
            "pull requests of two tasks, two attempts",
            Bounds { tasks: 2, attempts: 2, ticks: 2, proposals: true, ..calm },
            queue_with(&[p::INFERS, p::AGAIN]),
        ),
        (
            "no tombstones, two attempts, a late word",
            Bounds { attempts: 2, tombstones: false, late: 1, ..SMALL },
            with(p::LATE_START),
        ),
        ("due times, two attempts", Bounds { attempts: 2, timers: true, ..SMALL }, with(p::AGAIN)),
        ("due times, two tasks", Bounds { tasks: 2, timers: true, ..calm }, queue_with(&[])),
        ("three workers, two thefts", Bounds { workers: 3, steals: 2, ..SMALL }, with(p::ZOMBIE)),
        (
            "two tasks, two attempts, a mishap",
            Bounds { tasks: 2, attempts: 2, faults: 1, ..calm },
            queue_with(&[p::FAILS, p::AGAIN]),
        ),
        (
            "two attempts, a mishap, a late word",
            Bounds { attempts: 2, workers: 1, steals: 0, late: 1, verdicts: true, ..SMALL },
            with(p::AGAIN),
        ),
    ];
    // Each on a thread of its own, two at a time: threads of one checker stand in each other's way.
    let (next, states, generated) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, bounds, ways)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = check(name, *bounds, ways);
                    states.fetch_add(seen.0, Ordering::Relaxed);
                    generated.fetch_add(seen.1, Ordering::Relaxed);
                }
            });
        }
    });
    let (states, generated) = (states.into_inner(), generated.into_inner());
    eprintln!("{states} unique states, {generated} generated, in {} configurations", runs.len());
    assert!(states >= 30_000_000, "only {states} states");
}
