//! Every state with every cause, observation and moment, in bounded form: `decide` always has an answer, the same one,
//! along the table, that waits for something to come and never runs in a circle.

mod axes;

use std::collections::BTreeSet;

use abca_core::store::check_change;
use abca_core::task::{
    Backend, Decision, Observation, Snapshot, TRANSITIONS, TaskStatus, Transition, apply, decide, fail_dead_letter,
};
use abca_core::{Millis, Timestamp};

use super::fixtures::{TICK, at};
use axes::{STANDS, backends, heartbeats, inboxes, moments, observations, snapshot};

/// Rows of the table of transitions that were decided.
type Rows = BTreeSet<Transition>;

/// What came of asking.
#[derive(Debug, Default)]
struct Answers {
    asked: u64,
    wrong: u64,
    /// The first few of what is wrong.
    examples: Vec<String>,
    rows: Rows,
}

/// Checks one input; what is wrong with the answer, if anything.
fn fault(s: &Snapshot, seen: &[Observation], backend: &Backend, now: Timestamp, rows: &mut Rows) -> Option<String> {
    let first = decide(s, seen, backend, now);
    if decide(s, seen, backend, now) != first {
        return Some("another answer to the same question".to_owned());
    }
    let mut at_hand = s.clone();
    let mut decision = first;
    for _ in 0..6 {
        match decision {
            Decision::Wait { until: None } if at_hand.task.status.is_terminal() => return None,
            Decision::Wait { until: None } => return Some(format!("waits for ever in {}", at_hand.task.status)),
            Decision::Wait { .. } if at_hand.task.status.is_terminal() => {
                return Some("waits after the end".to_owned());
            }
            Decision::Wait { until: Some(until) } if until <= now => return Some("waits for the past".to_owned()),
            // Clocks may be behind by what `moments` says; nothing waits longer than the longest limit for that.
            Decision::Wait { until: Some(until) } if until.since(now) > Millis(5 * TICK.0) => {
                return Some(format!("waits for {}", until.since(now)));
            }
            Decision::Wait { .. } | Decision::Ask(_) | Decision::Run(_) if at_hand.task.status.is_terminal() => {
                return Some("goes on after the end".to_owned());
            }
            Decision::Wait { .. } | Decision::Ask(_) | Decision::Run(_) => return None,
            Decision::Commit(change) => {
                if let Err(error) = check_change(&at_hand, &change) {
                    return Some(format!("decides what no store takes: {error}"));
                }
                rows.extend(change.transition);
                let next = apply(&at_hand, &change);
                if is_the_same(&at_hand, &next) {
                    return Some("commits a change that changes nothing".to_owned());
                }
                at_hand = next;
                decision = decide(&at_hand, &[], backend, now);
            }
        }
    }
    Some(format!("commits in a circle in {}", at_hand.task.status))
}

/// Whether a commit left everything as it was, but for its traces.
fn is_the_same(before: &Snapshot, after: &Snapshot) -> bool {
    let mut bare = after.clone();
    bare.revision = before.revision;
    bare.task.updated_at = before.task.updated_at;
    bare.task.failure.clone_from(&before.task.failure);
    bare == *before
}

/// Every record of an attempt, with every inbox and heartbeat.
fn records(attempt: u32) -> impl Iterator<Item = Snapshot> {
    let bare = TaskStatus::ALL
        .into_iter()
        .flat_map(move |status| STANDS.into_iter().filter_map(move |stands| snapshot(status, stands, attempt)));
    bare.flat_map(move |bare| {
        // What has ended has an empty inbox.
        let inboxes = inboxes(attempt).into_iter().take(if bare.task.status.is_terminal() { 1 } else { usize::MAX });
        inboxes.flat_map(move |signals| {
            let with = Snapshot { signals, ..bare.clone() };
            heartbeats().map(|heartbeat_at| Snapshot { heartbeat_at, ..with.clone() })
        })
    })
}

/// Asks of one attempt's records every `stride`th question, evenly over the whole.
fn ask(attempt: u32, stride: u64) -> Answers {
    let (observations, backends) = (observations(attempt), backends());
    let mut answers = Answers::default();
    let mut nth = 0u64;
    for s in records(attempt) {
        if let Some(why) = given_up(&s, at(2), &mut answers.rows) {
            answers.wrong += 1;
            answers.examples.push(format!("{why}: {s:?}"));
        }
        for (seen, backend) in observations.iter().flat_map(|o| backends.iter().map(move |b| (o, b))) {
            for now in moments() {
                nth += 1;
                if !nth.is_multiple_of(stride) {
                    continue;
                }
                answers.asked += 1;
                let why = fault(&s, seen, backend, now, &mut answers.rows);
                if let Some(why) = why {
                    answers.wrong += 1;
                    answers.examples.push(format!("{why}: {seen:?} {backend:?} at {now} on {s:?}"));
                    answers.examples.truncate(8);
                }
            }
        }
    }
    answers
}

/// What is wrong with how an operator ends it, if anything.
fn given_up(s: &Snapshot, now: Timestamp, rows: &mut Rows) -> Option<String> {
    if s.task.status.is_terminal() {
        return None;
    }
    let change = fail_dead_letter(s, "no", now);
    rows.extend(change.transition);
    let error = check_change(s, &change).err().map(|e| format!("no store takes how an operator ends it: {e}"));
    error.or_else(|| (!change.task.status.is_terminal()).then(|| "an operator cannot end it".to_owned()))
}

fn ask_all(stride: u64) {
    let (first, last) = std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(1, stride));
        (ask(2, stride), first.join().unwrap())
    });
    let (asked, wrong) = (first.asked + last.asked, first.wrong + last.wrong);
    let examples: Vec<_> = first.examples.into_iter().chain(last.examples).collect();
    let rows: Rows = first.rows.into_iter().chain(last.rows).collect();
    eprintln!("{asked} combinations, {} of {} transitions decided", rows.len(), TRANSITIONS.len());
    assert!(asked >= 100_000, "only {asked} combinations");
    assert_eq!(wrong, 0, "of {asked}, e.g. {examples:#?}");
    // A row that nothing decides is dead, or the questions miss it.
    let never: Vec<_> = TRANSITIONS.iter().filter(|row| !rows.contains(*row)).collect();
    assert_eq!(never, Vec::<&Transition>::new(), "rows that nothing decides");
}

/// One question of 211, which divides no axis, so that they fall evenly over all of them.
#[test]
fn every_state_and_cause_has_one_answer_within_the_table() {
    ask_all(211);
}

/// The whole product: `cargo test -p abca-core --release --test it -- --ignored --nocapture whole_table`.
#[test]
#[ignore = "73 million decisions: run in release"]
fn whole_table() {
    ask_all(1);
}
