//! Claims, leases, due times.

use std::collections::BTreeSet;

use super::super::fixtures::{at, claim, commit as make, note, nudge, submit, task, task_id, worker};
use super::{Store, StoreHarness, add, applied, commit, join_all, live, load, submitted, take};
use crate::id::TaskId;
use crate::store::{ClaimQuery, CommitOutcome, FARTHEST, LeaseChange, Release, Renewal};
use crate::task::Snapshot;
use crate::time::{Millis, Timestamp};

/// Beyond every lease of the fixtures.
const LATER: u64 = 10_000_000;

async fn due(store: &Store, now: Timestamp, limit: usize) -> Vec<TaskId> {
    store.claim(&claim(9, now, limit)).await.unwrap().iter().map(Snapshot::id).collect()
}

fn release(s: &Snapshot, due: Option<Timestamp>) -> Release {
    Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due }
}

fn renewal(s: &Snapshot, until: Timestamp) -> Renewal {
    Renewal { task: s.id(), epoch: s.epoch, lease_until: until }
}

pub(super) async fn claims_take_the_oldest_due_first_up_to_the_limit(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for (n, due_at) in [(1, 30), (2, 10), (3, 20), (4, 500), (5, 10)] {
        submitted(&store, crate::store::Submit { due_at: at(due_at), ..submit(task(n)) }).await;
    }
    assert_eq!(due(&store, at(5), 10).await, []);
    assert_eq!(due(&store, at(100), 2).await, [task_id(2), task_id(5)]);
    assert_eq!(due(&store, at(100), 10).await, [task_id(3), task_id(1)]);
    assert_eq!(due(&store, at(500), 10).await, [task_id(4)]);
    assert_eq!(due(&store, at(500), 0).await, []);
}

pub(super) async fn a_claimed_task_is_not_claimed_twice(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let before = add(&store, task(1)).await;
    let claimed = store.claim(&claim(1, at(1), 5)).await.unwrap();
    assert_eq!(claimed, [Snapshot { epoch: before.epoch + 1, ..before }]);
    assert_eq!(load(&store, task_id(1)).await, claimed[0]);
    assert_eq!(due(&store, at(2), 5).await, []);
    let named = ClaimQuery { task: Some(task_id(1)), ..claim(2, at(2), 1) };
    assert_eq!(store.claim(&named).await.unwrap(), []);
}

pub(super) async fn racing_claims_share_the_work(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in 1..=40 {
        add(&store, task(n)).await;
    }
    let claims: Vec<ClaimQuery> = (0..16).map(|n| claim(n, at(100), 5)).collect();
    let all = join_all(claims.iter().map(|q| store.claim(q))).await;
    let ids: Vec<TaskId> = all.into_iter().flat_map(|c| c.unwrap()).map(|s| s.id()).collect();
    assert_eq!(ids.len(), 40);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 40);
}

pub(super) async fn an_expired_lease_is_taken_over(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let first = take(&store, task_id(1), 1, at(1)).await;
    let until = claim(1, at(1), 1).lease_until;
    assert_eq!(due(&store, Timestamp::from_millis(until.as_millis() - 1), 5).await, []);
    let second = store.claim(&claim(2, until, 5)).await.unwrap();
    assert_eq!(second, [Snapshot { epoch: first.epoch + 1, ..first }]);
}

pub(super) async fn a_renewed_lease_lasts(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    assert_eq!(store.renew(&[renewal(&s, at(LATER))]).await.unwrap(), [true]);
    assert_eq!(due(&store, at(LATER - 1), 5).await, []);
    assert_eq!(due(&store, at(LATER), 5).await, [task_id(1)]);
    assert_eq!(load(&store, task_id(1)).await.revision, s.revision);
}

pub(super) async fn a_lost_lease_cannot_be_renewed_or_released(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let old = take(&store, task_id(1), 1, at(1)).await;
    let new = take(&store, task_id(1), 2, at(LATER)).await;
    assert_eq!(
        store.renew(&[renewal(&old, at(LATER * 9)), renewal(&new, at(LATER * 2))]).await.unwrap(),
        [false, true]
    );
    assert_eq!(store.release(&[release(&old, None)]).await.unwrap(), [false]);
    assert_eq!(due(&store, at(LATER * 2), 5).await, [task_id(1)]);
    let unknown = Renewal { task: task_id(7), epoch: 1, lease_until: at(1) };
    assert_eq!(store.renew(&[unknown]).await.unwrap(), [false]);
}

pub(super) async fn a_renewal_does_not_bring_back_a_released_lease(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    assert_eq!(store.release(&[release(&s, Some(at(50)))]).await.unwrap(), [true]);
    assert_eq!(store.renew(&[renewal(&s, at(LATER))]).await.unwrap(), [false]);
    assert_eq!(due(&store, at(50), 5).await, [task_id(1)]);
}

pub(super) async fn the_leases_of_a_dead_worker_end_at_once(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in 1..=3 {
        add(&store, task(n)).await;
    }
    let dead = [take(&store, task_id(1), 1, at(5)).await, take(&store, task_id(2), 1, at(5)).await];
    take(&store, task_id(3), 2, at(5)).await;
    assert_eq!(store.expire(&[], at(6)).await.unwrap(), 0);
    assert_eq!(store.expire(&[worker(7)], at(6)).await.unwrap(), 0);
    assert_eq!(store.expire(&[worker(7), worker(1)], at(6)).await.unwrap(), 2);
    assert_eq!(store.next_due().await.unwrap(), Some(at(6)));
    assert_eq!(due(&store, at(5), 5).await, []);
    // Revision and record are as they were; what was decided under the old lease is fenced.
    let taken = store.claim(&claim(3, at(6), 5)).await.unwrap();
    let expected = dead.clone().map(|s| Snapshot { epoch: s.epoch + 1, ..s });
    assert_eq!(taken, expected);
    let late = make(&dead[0], note(&dead[0], at(7)), 0);
    assert!(matches!(commit(&store, late).await, CommitOutcome::Fenced));
    assert_eq!(store.expire(&[worker(1)], at(8)).await.unwrap(), 0, "it holds nothing any more");
}

pub(super) async fn a_worker_that_was_taken_for_dead_may_go_on_until_another_claims(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(5)).await;
    assert_eq!(store.expire(&[worker(1)], at(6)).await.unwrap(), 1);
    let s = applied(&store, &s, note(&s, at(7))).await;
    assert_eq!(store.renew(&[renewal(&s, at(LATER))]).await.unwrap(), [true]);
    assert_eq!(due(&store, at(LATER - 1), 5).await, []);
}

pub(super) async fn a_claim_of_signalled_tasks_passes_over_the_others(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in 1..=4 {
        add(&store, task(n)).await;
    }
    let held = take(&store, task_id(3), 1, at(5)).await;
    let signalled = |limit| ClaimQuery { signalled: true, ..claim(2, at(20), limit) };
    assert_eq!(store.claim(&signalled(9)).await.unwrap(), []);
    store.signal(&[nudge(task_id(3), "a", at(10)), nudge(task_id(4), "b", at(9))]).await.unwrap();
    let first = store.claim(&signalled(1)).await.unwrap();
    assert_eq!(first.iter().map(Snapshot::id).collect::<Vec<_>>(), [task_id(4)], "oldest due first");
    let second = store.claim(&signalled(9)).await.unwrap();
    assert_eq!(second.iter().map(|s| (s.id(), s.epoch)).collect::<Vec<_>>(), [(task_id(3), held.epoch + 1)]);
    // What was read does not count.
    let mut read = note(&first[0], at(21));
    read.consumed = first[0].signals.iter().map(|s| s.id.clone()).collect();
    let s = applied(&store, &first[0], read).await;
    assert_eq!(store.release(&[release(&s, Some(at(22)))]).await.unwrap(), [true]);
    let later = ClaimQuery { signalled: true, ..claim(2, at(30), 9) };
    assert_eq!(store.claim(&later).await.unwrap(), []);
    assert_eq!(due(&store, at(30), 9).await, [task_id(1), task_id(2), task_id(4)]);
}

pub(super) async fn a_released_task_is_due_when_said(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    assert_eq!(store.release(&[release(&s, Some(at(500)))]).await.unwrap(), [true]);
    assert_eq!(due(&store, at(499), 5).await, []);
    assert_eq!(due(&store, at(500), 5).await, [task_id(1)]);
}

pub(super) async fn a_released_task_without_due_waits_for_a_signal(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    store.release(&[release(&s, None)]).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), None);
    assert_eq!(due(&store, at(LATER * 1_000), 5).await, []);
    store.signal(&[nudge(task_id(1), "n", at(600))]).await.unwrap();
    assert_eq!(due(&store, at(600), 5).await, [task_id(1)]);
}

pub(super) async fn a_release_on_an_old_revision_stays_due(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    store.signal(&[nudge(task_id(1), "n", at(2))]).await.unwrap();
    assert_eq!(store.release(&[release(&s, Some(at(LATER)))]).await.unwrap(), [true]);
    assert_eq!(due(&store, at(2), 5).await, [task_id(1)]);
}

pub(super) async fn a_named_task_is_claimed_before_it_is_due(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    submitted(&store, crate::store::Submit { due_at: at(LATER), ..submit(task(1)) }).await;
    add(&store, task(2)).await;
    let named = ClaimQuery { task: Some(task_id(1)), ..claim(1, at(1), 9) };
    let ids: Vec<_> = store.claim(&named).await.unwrap().iter().map(Snapshot::id).collect();
    assert_eq!(ids, [task_id(1)]);
    let unknown = ClaimQuery { task: Some(task_id(7)), ..claim(1, at(1), 9) };
    assert_eq!(store.claim(&unknown).await.unwrap(), []);
}

pub(super) async fn a_commit_can_give_the_lease_back(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let s = take(&store, task_id(1), 1, at(1)).await;
    let mut last = make(&s, note(&s, at(2)), 0);
    last.lease = LeaseChange::Release { due: Some(at(70)) };
    assert!(matches!(commit(&store, last).await, CommitOutcome::Applied(_)));
    assert_eq!(due(&store, at(69), 5).await, []);
    assert_eq!(due(&store, at(70), 5).await, [task_id(1)]);
}

pub(super) async fn an_ended_task_is_never_claimed(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let mut end = make(&s, super::super::fixtures::complete(&s, at(9)), 0);
    end.lease = LeaseChange::Release { due: Some(at(10)) };
    assert!(matches!(commit(&store, end).await, CommitOutcome::Applied(_)));
    assert_eq!(due(&store, at(LATER), 5).await, []);
    let named = ClaimQuery { task: Some(task_id(1)), ..claim(1, at(LATER), 9) };
    assert_eq!(store.claim(&named).await.unwrap(), []);
    assert_eq!(store.renew(&[renewal(&s, at(LATER))]).await.unwrap(), [false]);
    assert_eq!(store.next_due().await.unwrap(), None);
}

pub(super) async fn next_due_is_the_earliest_of_due_and_lease(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    assert_eq!(store.next_due().await.unwrap(), None);
    submitted(&store, crate::store::Submit { due_at: at(300), ..submit(task(1)) }).await;
    submitted(&store, crate::store::Submit { due_at: at(200), ..submit(task(2)) }).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(200)));
    let query = ClaimQuery { lease_until: at(900), ..claim(1, at(200), 1) };
    let s = store.claim(&query).await.unwrap().pop().unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(300)));
    take(&store, task_id(1), 1, at(300)).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(900)));
    let s = applied(&store, &s, note(&s, at(201))).await;
    store.release(&[release(&s, Some(at(400)))]).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(400)));
}

pub(super) async fn what_a_clock_that_was_ahead_left_is_due(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let (now, year) = (at(LATER), Millis::secs(365 * 24 * 3_600));
    let farthest = now.after(FARTHEST);
    for (n, due_at) in [(1, farthest), (2, farthest.after(Millis(1))), (3, now.after(year)), (4, now)] {
        submitted(&store, crate::store::Submit { due_at, ..submit(task(n)) }).await;
    }
    assert_eq!(due(&store, now, 2).await, [task_id(4), task_id(2)], "what is due comes first");
    assert_eq!(due(&store, now, 9).await, [task_id(3)], "the first is in time, the others are leased");
    // The clock was ahead when its lease was granted.
    let ahead = ClaimQuery { task: Some(task_id(1)), lease_until: now.after(year), ..claim(1, now, 1) };
    assert_eq!(store.claim(&ahead).await.unwrap().len(), 1);
    assert_eq!(due(&store, now.after(Millis(1)), 9).await, [task_id(1)]);
    assert_eq!(due(&store, now.after(Millis(2)), 9).await, []);
}
