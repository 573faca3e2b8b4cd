//! Each guard removed once: the checker must find what the guard is for, or it would not see it break either.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use super::machine::Race;
use super::world::{Bounds, Guards};
use super::{SMALL, properties as p};

/// One task, two workers that take it from each other, and nothing else going wrong.
const STOLEN: Bounds = Bounds { faults: 0, cancels: 0, ..SMALL };
/// Two tasks that want the same slot.
const TWO: Bounds = Bounds { tasks: 2, ticks: 0, steals: 0, faults: 0, cancels: 0, ..SMALL };

/// Whether the checker finds `broken` without the guard, and does not with it.
fn guards(broken: &'static str, bounds: Bounds, without: Guards) {
    let found = |guards: Guards| {
        let wanted = HasDiscoveries::AnyOf(BTreeSet::from([broken]));
        let checker = Race::new(bounds, guards).checker().threads(2).finish_when(wanted).spawn_bfs().join();
        let steps = checker.discovery(broken).map(|path| path.into_actions().len());
        (steps, checker.unique_state_count())
    };
    let (steps, states) = found(without);
    let steps = steps.unwrap_or_else(|| panic!("{states} states, and none shows that `{broken}` is broken"));
    eprintln!("without its guard `{broken}` breaks within {steps} steps ({states} states seen)");
    assert_eq!(found(Guards::ALL).0, None, "`{broken}` is broken with every guard in place");
}

#[test]
fn the_revision_is_needed() {
    guards(p::CAS, Bounds { cancels: 1, workers: 1, steals: 0, ..STOLEN }, Guards { cas: false, ..Guards::ALL });
    // And what it is for: a cancel that comes between a decision and its commit.
    guards(p::INBOX, Bounds { cancels: 1, workers: 1, steals: 0, ..STOLEN }, Guards { cas: false, ..Guards::ALL });
}

#[test]
fn the_epoch_is_needed() {
    guards(p::FENCE, STOLEN, Guards { fence: false, ..Guards::ALL });
}

#[test]
fn recognising_a_repeated_commit_is_needed() {
    let bounds = Bounds { faults: 1, workers: 1, steals: 0, ..STOLEN };
    guards(p::OWN_WORD, bounds, Guards { idempotence: false, ..Guards::ALL });
}

#[test]
fn the_registration_gate_is_needed() {
    // Without tombstones it is all that keeps a late start from working.
    let bounds = Bounds { cancels: 1, tombstones: false, late: 1, ..STOLEN };
    guards(p::GATE, bounds, Guards { gate: false, ..Guards::ALL });
}

#[test]
fn carrying_out_a_stop_before_the_end_is_needed() {
    let bounds = Bounds { cancels: 1, ..STOLEN };
    guards(p::NO_ORPHAN, bounds, Guards { stop: false, ..Guards::ALL });
    guards(p::NO_WORK, bounds, Guards { stop: false, ..Guards::ALL });
}

#[test]
fn the_tombstone_of_what_never_began_is_needed() {
    guards(p::NO_ORPHAN, Bounds { cancels: 1, ..STOLEN }, Guards { tombstone: false, ..Guards::ALL });
}

#[test]
fn telling_words_apart_is_needed() {
    let bounds = Bounds { workers: 1, steals: 0, ticks: 0, gates: true, repeats: 1, ..STOLEN };
    guards(p::ASKED, bounds, Guards { dedup: false, ..Guards::ALL });
}

/// There is no timer with an epoch of its own: a due time lives on the row, and whoever gives a lease back writes it
/// under the epoch and the revision that it decided on.
#[test]
fn the_revision_of_a_due_time_is_needed() {
    let bounds = Bounds { workers: 1, steals: 0, cancels: 1, timers: true, ..STOLEN };
    guards(p::WAKES, bounds, Guards { timer: false, ..Guards::ALL });
}

#[test]
fn tombstones_are_needed_where_nothing_else_refuses_a_late_start() {
    // The same world with a backend that starts what was stopped: the session is there, and the gate keeps it idle.
    let bounds = Bounds { cancels: 1, tombstones: false, ..STOLEN };
    let checker = Race::new(bounds, Guards::ALL).checker().threads(2).spawn_bfs().join();
    checker.assert_no_discovery(p::NO_WORK);
    checker.assert_any_discovery(p::LATE_START);
}

#[test]
fn asking_the_forge_before_a_task_is_given_up_is_needed() {
    let bounds = Bounds { workers: 1, steals: 0, proposals: true, ..STOLEN };
    guards(p::DELIVERED, bounds, Guards { asks: false, ..Guards::ALL });
}

#[test]
fn giving_slots_back_is_needed() {
    guards(p::SLOTS, Bounds { cancels: 1, ..TWO }, Guards { release: false, ..Guards::ALL });
}

#[test]
fn the_order_of_the_queue_is_needed() {
    guards(p::FIFO, TWO, Guards { fifo: false, ..Guards::ALL });
}

#[test]
fn the_cap_is_needed() {
    guards(p::CAP, TWO, Guards { cap: false, ..Guards::ALL });
}
