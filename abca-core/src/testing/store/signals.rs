//! Inputs from outside.

use super::super::fixtures::{
    admit, at, claim, commit as make, complete, note, nudge, registration, running, start_intent, task, task_id,
};
use super::{StoreHarness, add, applied, commit, join_all, live, load, take};
use crate::id::SessionId;
use crate::store::{CommitOutcome, NewSignal, Release, SignalOutcome};
use crate::task::{SessionPhase, TaskStatus};

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
