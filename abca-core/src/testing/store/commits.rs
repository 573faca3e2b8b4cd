//! The one atomic commit.

use super::super::fixtures::{
    admit, at, cancelled, commit as make, complete, note, nudge, running, start_intent, task, task_id, user,
};
use super::{Store, StoreHarness, add, applied, commit, events, join_all, live, load, take};
use crate::event::{EventType, NewEvent};
use crate::id::{EffectKey, SignalId};
use crate::store::{CommitOutcome, StoreErrorKind};
use crate::task::{Cause, Change, SlotChange, Snapshot, TaskStatus, Transition};

async fn claimed(store: &Store, n: u64) -> Snapshot {
    add(store, task(n)).await;
    take(store, task_id(n), 1, at(n)).await
}

pub(super) async fn a_commit_changes_record_revision_and_events(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let change = admit(&s, at(5));
    let after = applied(&store, &s, change.clone()).await;
    assert_eq!(after, Snapshot { task: change.task, revision: s.revision + 1, ..s });
    assert_eq!(load(&store, task_id(1)).await, after);
    assert_eq!(events(&store, task_id(1)).await, [(1, EventType::TaskCreated), (2, EventType::TaskAdmitted)]);
}

pub(super) async fn of_sixteen_racing_commits_one_wins(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let outcomes = join_all((0..16).map(|salt| commit(&store, make(&s, note(&s, at(salt)), salt)))).await;
    let won: Vec<_> = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Applied(_))).collect();
    let [CommitOutcome::Applied(winner)] = won.as_slice() else { panic!("want one winner, got {won:?}") };
    let lost = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Stale(now) if now == winner)).count();
    assert_eq!(lost, 15);
    assert_eq!(load(&store, task_id(1)).await, **winner);
    assert_eq!(events(&store, task_id(1)).await.len(), 2);
}

pub(super) async fn a_stale_commit_is_answered_with_the_task_as_it_is(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    store.signal(&[nudge(task_id(1), "n", at(2))]).await.unwrap();
    let outcome = commit(&store, make(&s, admit(&s, at(3)), 0)).await;
    let now = load(&store, task_id(1)).await;
    assert_eq!(now.revision, s.revision + 1);
    assert_eq!(outcome, CommitOutcome::Stale(Box::new(now)));
}

pub(super) async fn a_repeated_commit_is_known(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let first = make(&s, note(&s, at(2)), 0);
    let after = applied(&store, &s, first.change.clone()).await;
    assert_eq!(commit(&store, first.clone()).await, CommitOutcome::AlreadyApplied(Box::new(after.clone())));
    let later = applied(&store, &after, note(&after, at(3))).await;
    assert_eq!(commit(&store, first.clone()).await, CommitOutcome::AlreadyApplied(Box::new(later)));
    // Both at once, as after a lost answer.
    let racing = join_all([commit(&store, first.clone()), commit(&store, first)]).await;
    assert!(racing.iter().all(|o| matches!(o, CommitOutcome::AlreadyApplied(_))), "{racing:?}");
    assert_eq!(events(&store, task_id(1)).await.len(), 3);
}

pub(super) async fn an_older_lease_is_fenced(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let old = claimed(&store, 1).await;
    let new = take(&store, task_id(1), 2, at(1_000_000)).await;
    assert_eq!((new.epoch, new.revision), (old.epoch + 1, old.revision));
    assert_eq!(commit(&store, make(&old, note(&old, at(2)), 0)).await, CommitOutcome::Fenced);
    assert_eq!(load(&store, task_id(1)).await, new);
    applied(&store, &new, note(&new, at(3))).await;
}

pub(super) async fn an_unknown_task_is_not_found(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let mut other = make(&s, note(&s, at(2)), 0);
    other.task = task_id(2);
    other.change.task.id = task_id(2);
    assert_eq!(commit(&store, other).await, CommitOutcome::NotFound);
}

async fn refused(store: &Store, from: &Snapshot, change: Change, why: &str) {
    let error = store.commit(&[make(from, change, 99)]).await.expect_err(why);
    assert_eq!((error.kind(), error.op()), (StoreErrorKind::Invalid, "commit"), "{why}: {error}");
    assert_eq!(load(store, from.id()).await, *from, "{why}: nothing may have changed");
}

pub(super) async fn steps_outside_the_table_are_refused(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let mut silent = note(&s, at(2));
    silent.task.status = TaskStatus::Hydrating;
    refused(&store, &s, silent, "a status moved without a transition").await;
    let mut jump = admit(&s, at(2));
    jump.task.status = TaskStatus::Running;
    refused(&store, &s, jump, "a record that is elsewhere than its transition says").await;
    let mut forged = admit(&s, at(2));
    forged.transition = Some(Transition {
        from: TaskStatus::Submitted,
        to: TaskStatus::Hydrating,
        cause: Cause::SessionEnded,
        event: EventType::TaskAdmitted,
    });
    refused(&store, &s, forged, "a cause that the table does not know").await;
    let mut mute = admit(&s, at(2));
    mute.events.clear();
    refused(&store, &s, mute, "a step that does not tell its event").await;
    let mut early = note(&s, at(2));
    early.events.push(NewEvent::new(EventType::TaskCompleted, at(2)));
    refused(&store, &s, early, "a terminal event without an end").await;
}

pub(super) async fn what_a_task_is_may_not_change(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let mut other_user = note(&s, at(2));
    other_user.task.user = user("mallory");
    refused(&store, &s, other_user, "another user").await;
    let mut other_spec = note(&s, at(2));
    other_spec.task.spec.limits.max_turns += 1;
    refused(&store, &s, other_spec, "another specification").await;
    let mut other_id = note(&s, at(2));
    other_id.task.id = task_id(2);
    refused(&store, &s, other_id, "another id").await;
}

pub(super) async fn an_end_is_final(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let end = applied(&store, &s, complete(&s, at(9))).await;
    assert_eq!(end.task.status, TaskStatus::Completed);
    let told = events(&store, task_id(1)).await;
    assert_eq!(told.iter().filter(|(_, t)| t.is_terminal()).count(), 1);
    assert_eq!(told.last().map(|(_, t)| *t), Some(EventType::TaskCompleted));
    refused(&store, &end, note(&end, at(10)), "a note after the end").await;
    let mut again = complete(&s, at(10));
    again.task = end.task.clone();
    refused(&store, &end, again, "a second end").await;
    assert_eq!(events(&store, task_id(1)).await, told);
    // Two ends at once: one.
    let s = live(&store, task(2)).await;
    let ends = [make(&s, complete(&s, at(9)), 1), make(&s, cancelled(&s, at(9)), 2)];
    let outcomes = join_all(ends.map(|c| commit(&store, c))).await;
    assert_eq!(outcomes.iter().filter(|o| matches!(o, CommitOutcome::Applied(_))).count(), 1);
    assert_eq!(events(&store, task_id(2)).await.iter().filter(|(_, t)| t.is_terminal()).count(), 1);
}

pub(super) async fn an_end_leaves_nothing_owed(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let s = applied(&store, &s, start_intent(&s, at(3))).await;
    let mut end = cancelled(&s, at(4));
    end.settled.clear();
    refused(&store, &s, end, "an end with an effect owed").await;
    let end = applied(&store, &s, cancelled(&s, at(4))).await;
    assert_eq!((end.owed, end.held), (vec![], vec![]));
}

pub(super) async fn effects_are_owed_until_settled(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let s = applied(&store, &s, start_intent(&s, at(3))).await;
    let key = EffectKey::of(task_id(1), 1, "start");
    assert_eq!(s.owed.iter().map(|o| (&o.effect.key, o.since)).collect::<Vec<_>>(), [(&key, at(3))]);
    assert_eq!(take(&store, task_id(1), 2, at(1_000_000)).await.owed, s.owed);
    let s = load(&store, task_id(1)).await;
    let mut twice = note(&s, at(4));
    twice.effects = vec![s.owed[0].effect.clone()];
    refused(&store, &s, twice, "the same effect owed twice").await;
    let mut unknown = note(&s, at(4));
    unknown.settled = vec![EffectKey::new("another").unwrap()];
    refused(&store, &s, unknown, "a settlement of what is not owed").await;
    let mut unread = note(&s, at(4));
    unread.consumed = vec![SignalId::new("never-came").unwrap()];
    refused(&store, &s, unread, "a signal consumed that never came").await;
    let s = applied(&store, &s, running(&s, at(5))).await;
    assert_eq!(s.owed, []);
}

pub(super) async fn an_invalid_entry_undoes_its_call_alone(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let (a, b, c) = (claimed(&store, 1).await, claimed(&store, 2).await, claimed(&store, 3).await);
    let mut bad = note(&b, at(5));
    bad.slots = SlotChange::Acquire(vec![super::super::fixtures::limit("user:ann", 1, false)]);
    let batch = [make(&a, note(&a, at(5)), 0), make(&b, bad, 0)];
    let neighbour = [make(&c, note(&c, at(5)), 0)];
    let (call, beside) = {
        let mut answers = join_all([store.commit(&batch), store.commit(&neighbour)]).await;
        let beside = answers.pop().unwrap();
        (answers.pop().unwrap(), beside)
    };
    assert_eq!(call.unwrap_err().kind(), StoreErrorKind::Invalid);
    assert!(matches!(beside.unwrap().as_slice(), [CommitOutcome::Applied(_)]));
    assert_eq!(load(&store, task_id(1)).await, a);
    assert_eq!(events(&store, task_id(1)).await.len(), 1);
}

pub(super) async fn a_chain_of_commits_may_share_a_batch(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = claimed(&store, 1).await;
    let first = make(&s, admit(&s, at(2)), 0);
    let mut admitted = s.clone();
    admitted.task = first.change.task.clone();
    admitted.revision += 1;
    let second = make(&admitted, start_intent(&admitted, at(3)), 0);
    let outcomes = store.commit(&[first, second]).await.unwrap();
    assert!(matches!(outcomes.as_slice(), [CommitOutcome::Applied(_), CommitOutcome::Applied(_)]), "{outcomes:?}");
    assert_eq!(load(&store, task_id(1)).await.revision, s.revision + 2);
    let told: Vec<u64> = events(&store, task_id(1)).await.into_iter().map(|(n, _)| n).collect();
    assert_eq!(told, [1, 2, 3]);
}
