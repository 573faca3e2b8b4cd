//! Inputs from outside.

use super::super::fixtures::{
    admit, at, claim, commit as make, complete, note, nudge, registration, running, signal, start_intent, task, task_id,
};
use super::{StoreHarness, add, applied, commit, join_all, live, load, take};
use crate::id::SessionId;
use crate::session::{LogEntry, LogRecord};
use crate::store::{Append, AppendOutcome, CommitOutcome, NUDGES_PENDING, NewSignal, Release, SignalOutcome};
use crate::task::{ApprovalScope, Cause, GateDecision, SessionPhase, SignalKind, TaskStatus};
use crate::testing::fixtures;
use crate::time::Millis;

pub(super) async fn a_signal_makes_the_task_due_and_moves_the_revision(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    store.release(&[Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None }]).await.unwrap();
    let new = nudge(task_id(1), "n", at(7));
    assert_eq!(store.signal(std::slice::from_ref(&new)).await.unwrap(), [SignalOutcome::Accepted]);
    let now = load(&store, task_id(1)).await;
    assert_eq!((now.revision, now.epoch, now.signals.as_slice()), (s.revision + 1, s.epoch, [new.signal].as_slice()));
    assert_eq!(store.next_due().await.unwrap(), Some(at(7)));
}

pub(super) async fn the_same_signal_twice_is_one(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let batch = [nudge(task_id(1), "n", at(7)), nudge(task_id(1), "n", at(8)), nudge(task_id(2), "n", at(8))];
    let want = [SignalOutcome::Accepted, SignalOutcome::Duplicate, SignalOutcome::NotFound];
    assert_eq!(store.signal(&batch).await.unwrap(), want);
    let racing = nudge(task_id(1), "r", at(9));
    let racing = [racing];
    let outcomes = join_all((0..16).map(|_| store.signal(&racing))).await;
    let accepted = outcomes.into_iter().flat_map(Result::unwrap).filter(|o| *o == SignalOutcome::Accepted).count();
    assert_eq!(accepted, 1);
    assert_eq!(load(&store, task_id(1)).await.signals.len(), 2);
}

pub(super) async fn a_consumed_signal_is_still_known(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let new = [nudge(task_id(1), "n", at(7))];
    store.signal(&new).await.unwrap();
    let s = take(&store, task_id(1), 1, at(8)).await;
    let mut read = note(&s, at(9));
    read.consumed = vec![new[0].signal.id.clone()];
    let s = applied(&store, &s, read).await;
    assert_eq!(s.signals, []);
    assert_eq!(store.signal(&new).await.unwrap(), [SignalOutcome::Duplicate]);
    assert_eq!(load(&store, task_id(1)).await, s);
}

pub(super) async fn an_ended_task_takes_no_signal(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let end = applied(&store, &s, complete(&s, at(9))).await;
    let new = nudge(task_id(1), "late", at(10));
    assert_eq!(store.signal(&[new]).await.unwrap(), [SignalOutcome::Terminal(TaskStatus::Completed)]);
    assert_eq!(load(&store, task_id(1)).await, end);
}

pub(super) async fn a_guarded_signal_needs_the_current_session(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let session = SessionId::of(task_id(1), 1);
    let word = registration(&session, task_id(1), at(5));
    let say = async |word: &NewSignal| store.signal(std::slice::from_ref(word)).await.unwrap().pop().unwrap();
    add(&store, task(1)).await;
    assert_eq!(say(&word).await, SignalOutcome::Refused, "no session is expected yet");
    let s = take(&store, task_id(1), 1, at(1)).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let s = applied(&store, &s, start_intent(&s, at(3))).await;
    let other = registration(&SessionId::of(task_id(1), 2), task_id(1), at(5));
    assert_eq!(say(&other).await, SignalOutcome::Refused, "another session");
    assert_eq!(load(&store, task_id(1)).await, s, "a refused signal changes nothing");
    assert_eq!(say(&word).await, SignalOutcome::Accepted);
    assert_eq!(say(&word).await, SignalOutcome::Duplicate);
    let s = load(&store, task_id(1)).await;
    let s = applied(&store, &s, running(&s, at(6))).await;
    let mut stop = note(&s, at(7));
    stop.task.session.as_mut().unwrap().phase = SessionPhase::Stopping;
    applied(&store, &s, stop).await;
    let mut late = nudge(task_id(1), "late", at(8));
    late.expect_session = Some(session);
    assert_eq!(say(&late).await, SignalOutcome::Refused, "it is being stopped");
}

pub(super) async fn a_signal_interrupts_a_lease(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let old = take(&store, task_id(1), 1, at(1)).await;
    store.signal(&[nudge(task_id(1), "n", at(2))]).await.unwrap();
    let new = store.claim(&claim(2, at(2), 5)).await.unwrap().pop().expect("due, whoever holds its lease");
    assert_eq!((new.epoch, new.signals.len()), (old.epoch + 1, 1));
    assert_eq!(commit(&store, make(&old, note(&old, at(3)), 0)).await, CommitOutcome::Fenced);
    assert_eq!(store.claim(&claim(3, at(3), 5)).await.unwrap(), [], "claimed once for one signal");
}

pub(super) async fn signals_come_in_order(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let ids = ["z", "a", "m", "b"];
    for (n, id) in (1..).zip(ids) {
        store.signal(&[nudge(task_id(1), id, at(n))]).await.unwrap();
    }
    let came: Vec<String> = load(&store, task_id(1)).await.signals.iter().map(|s| s.id.to_string()).collect();
    assert_eq!(came, ids);
}

/// What the agent says it has heard.
fn acknowledge(from: u64, ids: &[String]) -> Append {
    let session = SessionId::of(task_id(1), 1);
    let entry = |id: &String| LogEntry::Injected {
        signal: Some(id.clone()),
        origin: "nudge".to_owned(),
        text: format!("nudge {id}"),
    };
    let record = |id| LogRecord { session: session.clone(), at: at(from), entry: entry(id) };
    let records = ids.iter().map(record).collect();
    Append { task: task_id(1), expect_seq: from, records, events: Vec::new(), now: at(100), session: session.clone() }
}

pub(super) async fn no_more_nudges_wait_than_the_limit(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let batch: Vec<NewSignal> =
        (0..=NUDGES_PENDING).map(|n| nudge(task_id(1), &format!("n{n}"), at(n as u64))).collect();
    let mut want = vec![SignalOutcome::Accepted; NUDGES_PENDING];
    want.push(SignalOutcome::Full);
    assert_eq!(store.signal(&batch).await.unwrap(), want);
    let full = load(&store, task_id(1)).await;
    assert_eq!(full.signals.len(), NUDGES_PENDING);
    assert_eq!(store.signal(&batch[..1]).await.unwrap(), [SignalOutcome::Duplicate], "a repeat is no new one");
    assert_eq!(store.signal(&batch[NUDGES_PENDING..]).await.unwrap(), [SignalOutcome::Full]);
    assert_eq!(load(&store, task_id(1)).await, full, "a refused nudge changes nothing");
    let cancel = signal(task_id(1), "cancel", SignalKind::Cancel { by: "ann".to_owned() }, at(99));
    assert_eq!(store.signal(&[cancel]).await.unwrap(), [SignalOutcome::Accepted], "a cancel always has room");
}

pub(super) async fn a_nudge_that_was_heard_leaves_the_inbox(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let before = live(&store, task(1)).await;
    let ids: Vec<String> = (0..NUDGES_PENDING).map(|n| format!("n{n}")).collect();
    let batch: Vec<NewSignal> = ids.iter().map(|id| nudge(task_id(1), id, at(50))).collect();
    store.signal(&batch).await.unwrap();
    let stale = load(&store, task_id(1)).await;
    // Only nudges are taken out by being heard, and only those that wait.
    let exited = SignalKind::SessionExited { session: SessionId::of(task_id(1), 1) };
    store.signal(&[signal(task_id(1), "exited", exited, at(51))]).await.unwrap();
    let heard = acknowledge(1, &[ids[0].clone(), ids[2].clone(), "exited".to_owned(), "unknown".to_owned()]);
    assert_eq!(
        store.append(std::slice::from_ref(&heard)).await.unwrap(),
        [AppendOutcome::Appended { len: 4, quiet: false }]
    );
    let s = load(&store, task_id(1)).await;
    let mut left: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !["n0", "n2"].contains(id)).collect();
    left.push("exited");
    assert_eq!(s.signals.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), left);
    assert_eq!(s.revision, before.revision + NUDGES_PENDING as u64 + 2, "once more for what was heard");
    assert_eq!(commit(&store, make(&stale, note(&stale, at(60)), 0)).await, CommitOutcome::Stale(Box::new(s.clone())));
    // A repeat of either changes nothing.
    assert_eq!(store.append(&[heard]).await.unwrap(), [AppendOutcome::Exists { len: 4, same: true }]);
    assert_eq!(store.signal(&batch[..1]).await.unwrap(), [SignalOutcome::Duplicate]);
    assert_eq!(load(&store, task_id(1)).await, s);
    assert_eq!(store.signal(&[nudge(task_id(1), "more", at(61))]).await.unwrap(), [SignalOutcome::Accepted]);
    let s = load(&store, task_id(1)).await;
    let end = applied(&store, &s, complete(&s, at(70))).await;
    assert_eq!((end.signals.len(), end.task.status), (0, TaskStatus::Completed));
}

pub(super) async fn an_answer_that_was_taken_in_leaves_the_inbox_once_the_task_runs(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let mut asks = fixtures::step(&s, TaskStatus::AwaitingApproval, Cause::ApprovalRequested, at(50));
    asks.task.awaiting = Some(Box::new(fixtures::gate("gate-1", at(900))));
    let waiting = applied(&store, &s, asks).await;
    let answer = signal(task_id(1), "decided", fixtures::decided("gate-1", true), at(51));
    assert_eq!(store.signal(&[answer]).await.unwrap(), [SignalOutcome::Accepted]);
    let session = SessionId::of(task_id(1), 1);
    let settled = |n| {
        let decision = GateDecision::approve("ann", ApprovalScope::ThisCall);
        let entry = LogEntry::ApprovalSettled {
            request: "gate-1".to_owned(),
            signal: "decided".to_owned(),
            decision,
            waited_ms: Millis(0),
        };
        let records = vec![LogRecord { session: session.clone(), at: at(n), entry }];
        let (task, events, session) = (task_id(1), Vec::new(), session.clone());
        Append { task, expect_seq: n, records, events, now: at(100), session }
    };
    let inbox = async || load(&store, task_id(1)).await.signals.len();
    store.append(&[settled(1)]).await.unwrap();
    assert_eq!(inbox().await, 1, "the task has not taken it in");
    let s = load(&store, task_id(1)).await;
    let mut runs = fixtures::step(&s, TaskStatus::Running, Cause::ApprovalDecided, at(110));
    runs.task.awaiting = None;
    assert!(waiting.revision < s.revision);
    applied(&store, &s, runs).await;
    assert_eq!(inbox().await, 1, "its session has not heard of that");
    store.append(&[settled(2)]).await.unwrap();
    assert_eq!(inbox().await, 0);
}
