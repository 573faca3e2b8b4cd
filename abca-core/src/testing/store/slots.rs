//! Concurrency slots: rows, never counters.

use super::super::fixtures::{
    admit, at, cancelled, claim, commit as make, limit, note, start_intent, step, task_id, task_with_slots, user,
};
use super::{Store, StoreHarness, add, applied, commit, join_all, load, take};
use crate::store::{CommitOutcome, Release, SlotUsage, StoreErrorKind};
use crate::task::{Cause, SlotChange, SlotLimit, SlotScope, Snapshot, TaskStatus};

fn scope(name: &str) -> SlotScope {
    SlotScope(name.to_owned())
}

async fn waiting(store: &Store, n: u64, slots: &[SlotLimit]) -> Snapshot {
    add(store, task_with_slots(n, slots.to_vec())).await;
    take(store, task_id(n), n, at(n)).await
}

async fn try_admit(store: &Store, s: &Snapshot) -> CommitOutcome {
    commit(store, make(s, admit(s, at(100)), 1)).await
}

async fn admitted(store: &Store, s: &Snapshot) -> Snapshot {
    match try_admit(store, s).await {
        CommitOutcome::Applied(s) => *s,
        other => panic!("want task {} admitted, got {other:?}", s.id()),
    }
}

/// Denied, written down as queued, and put away without a due time.
async fn parked(store: &Store, s: &Snapshot) -> Snapshot {
    assert!(matches!(try_admit(store, s).await, CommitOutcome::SlotDenied(_)), "task {} must be denied", s.id());
    let s = applied(store, s, step(s, TaskStatus::Queued, Cause::SlotDenied, at(100))).await;
    let away = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
    s
}

async fn woken(store: &Store) -> Vec<u64> {
    let due = store.claim(&claim(99, at(1_000), 100)).await.unwrap();
    due.iter().map(|s| (1..100).find(|n| task_id(*n) == s.id()).unwrap()).collect()
}

async fn usage(store: &Store) -> Vec<(String, usize)> {
    store.slots().await.unwrap().into_iter().map(|u| (u.scope.0, u.holders.len())).collect()
}

pub(super) async fn all_are_taken_or_none(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let a = waiting(&store, 1, &[limit("b", 1, false)]).await;
    let b = waiting(&store, 2, &[limit("a", 1, false), limit("b", 1, false), limit("c", 1, false)]).await;
    let a = admitted(&store, &a).await;
    assert_eq!(a.held, [scope("b")]);
    assert_eq!(try_admit(&store, &b).await, CommitOutcome::SlotDenied(scope("b")));
    assert_eq!(load(&store, task_id(2)).await, b, "a denied commit changes nothing");
    assert_eq!(usage(&store).await, [("b".to_owned(), 1)]);
    applied(&store, &a, cancelled(&a, at(200))).await;
    let b = admitted(&store, &b).await;
    assert_eq!(b.held, [scope("a"), scope("b"), scope("c")]);
}

pub(super) async fn held_is_held(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = waiting(&store, 1, &[limit("a", 1, true)]).await;
    let s = admitted(&store, &s).await;
    let mut again = note(&s, at(101));
    again.slots = SlotChange::Acquire(vec![limit("a", 1, true), limit("backend", 1, false)]);
    let s = applied(&store, &s, again).await;
    assert_eq!(s.held, [scope("a"), scope("backend")]);
    assert_eq!(usage(&store).await, [("a".to_owned(), 1), ("backend".to_owned(), 1)]);
}

/// An operator has lowered a cap since the tasks were accepted.
pub(super) async fn a_commit_may_ask_under_a_lower_cap_than_the_task_has(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let (slots, lowered) = ([limit("user:ann", 5, true)], [limit("user:ann", 1, true)]);
    let narrow = |s: &Snapshot| {
        let mut change = admit(s, at(100));
        change.slots = SlotChange::Acquire(lowered.to_vec());
        make(s, change, 1)
    };
    let (a, b) = (waiting(&store, 1, &slots).await, waiting(&store, 2, &slots).await);
    let (c, d) = (waiting(&store, 3, &slots).await, waiting(&store, 4, &slots).await);
    let (a, b) = (admitted(&store, &a).await, admitted(&store, &b).await);
    assert_eq!(commit(&store, narrow(&c)).await, CommitOutcome::SlotDenied(scope("user:ann")));
    let c = applied(&store, &c, step(&c, TaskStatus::Queued, Cause::SlotDenied, at(100))).await;
    let away = Release { task: c.id(), epoch: c.epoch, expect_revision: c.revision, due: None };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
    assert_eq!(woken(&store).await, [0u64; 0], "who was denied waits until room is made");
    // One still holds: more than the lowered cap allows to be joined.
    applied(&store, &a, cancelled(&a, at(500))).await;
    assert_eq!(woken(&store).await, [3]);
    let c = load(&store, task_id(3)).await;
    assert_eq!(commit(&store, narrow(&c)).await, CommitOutcome::SlotDenied(scope("user:ann")));
    let away = Release { task: c.id(), epoch: c.epoch, expect_revision: c.revision, due: None };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
    assert_eq!(woken(&store).await, [0u64; 0], "nobody is told twice of the same room");
    applied(&store, &b, cancelled(&b, at(600))).await;
    assert_eq!(woken(&store).await, [3]);
    let c = load(&store, task_id(3)).await;
    assert!(matches!(commit(&store, narrow(&c)).await, CommitOutcome::Applied(_)));
    // Whoever asks under the task's own cap still may.
    admitted(&store, &d).await;
    assert_eq!(usage(&store).await, [("user:ann".to_owned(), 2)]);
}

pub(super) async fn sixty_four_racers_never_exceed_the_cap(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let mut racers = Vec::new();
    for n in 1..=64 {
        racers
            .push(waiting(&store, n, &[limit("system", 5, false), limit(&format!("repo:{}", n % 2), 4, false)]).await);
    }
    let outcomes = join_all(racers.iter().map(|s| try_admit(&store, s))).await;
    let inside = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Applied(_))).count();
    let denied = outcomes.iter().filter(|o| matches!(o, CommitOutcome::SlotDenied(_))).count();
    assert_eq!((inside, denied), (5, 59));
    let system = store.slots().await.unwrap().into_iter().find(|u| u.scope == scope("system")).unwrap();
    assert_eq!(system.holders.len(), 5);
}

pub(super) async fn the_first_in_the_queue_goes_first(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 2, true)];
    let (a, b, c) =
        (waiting(&store, 1, &slots).await, waiting(&store, 2, &slots).await, waiting(&store, 3, &slots).await);
    assert_eq!(try_admit(&store, &b).await, CommitOutcome::SlotDenied(scope("user:ann")), "the first still waits");
    admitted(&store, &a).await;
    assert_eq!(try_admit(&store, &c).await, CommitOutcome::SlotDenied(scope("user:ann")), "the second still waits");
    admitted(&store, &b).await;
    assert_eq!(try_admit(&store, &c).await, CommitOutcome::SlotDenied(scope("user:ann")), "two hold");
}

pub(super) async fn order_is_per_scope_only_where_asked(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    waiting(&store, 1, &[limit("user:ann", 1, true), limit("system", 9, false)]).await;
    let b = waiting(&store, 2, &[limit("user:bob", 1, true), limit("system", 9, false)]).await;
    admitted(&store, &b).await;
}

pub(super) async fn a_release_wakes_the_first_that_was_denied(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 1, true)];
    let a = waiting(&store, 1, &slots).await;
    let (b, c) = (waiting(&store, 2, &slots).await, waiting(&store, 3, &slots).await);
    let a = admitted(&store, &a).await;
    parked(&store, &b).await;
    parked(&store, &c).await;
    assert_eq!(woken(&store).await, [0u64; 0]);
    applied(&store, &a, cancelled(&a, at(500))).await;
    assert_eq!(woken(&store).await, [2]);
    let b = load(&store, task_id(2)).await;
    admitted(&store, &b).await;
    assert_eq!(woken(&store).await, [0u64; 0]);
}

pub(super) async fn an_end_of_the_first_wakes_the_next(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 1, true)];
    let (a, b) = (waiting(&store, 1, &slots).await, waiting(&store, 2, &slots).await);
    parked(&store, &b).await;
    applied(&store, &a, cancelled(&a, at(500))).await;
    assert_eq!(woken(&store).await, [2]);
    // And so does the admission of the first, when there is room for more.
    let slots = [limit("user:bob", 2, true)];
    let (c, d) = (waiting(&store, 3, &slots).await, waiting(&store, 4, &slots).await);
    parked(&store, &d).await;
    admitted(&store, &c).await;
    assert_eq!(woken(&store).await, [4]);
}

pub(super) async fn a_wake_up_survives_the_release_of_the_lease(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 1, true)];
    let a = waiting(&store, 1, &slots).await;
    let b = waiting(&store, 2, &slots).await;
    let a = admitted(&store, &a).await;
    assert!(matches!(try_admit(&store, &b).await, CommitOutcome::SlotDenied(_)));
    let b = applied(&store, &b, step(&b, TaskStatus::Queued, Cause::SlotDenied, at(100))).await;
    // Room is made while the denied task is still in its worker's hands.
    applied(&store, &a, cancelled(&a, at(500))).await;
    let away = Release { task: b.id(), epoch: b.epoch, expect_revision: b.revision, due: Some(at(9_000_000)) };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
    assert_eq!(woken(&store).await, [2]);
}

pub(super) async fn users_take_turns(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let needs = |name: &str| [limit(&format!("user:{name}"), 1, true), limit("system", 2, false)];
    let submit_as = async |n: u64, name: &str| {
        let mut task = task_with_slots(n, needs(name).to_vec());
        task.user = user(name);
        add(&store, task).await;
        take(&store, task_id(n), n, at(n)).await
    };
    let (a1, b1) = (submit_as(1, "ann").await, submit_as(2, "bob").await);
    let (a2, a3, c1) = (submit_as(3, "ann").await, submit_as(4, "ann").await, submit_as(5, "cid").await);
    admitted(&store, &a1).await;
    let b1 = admitted(&store, &b1).await;
    for s in [&a2, &a3, &c1] {
        parked(&store, s).await;
    }
    // Ann's are earlier but her slot is taken: the freed one of the system goes to cid.
    applied(&store, &b1, cancelled(&b1, at(500))).await;
    assert_eq!(woken(&store).await, [5]);
}

pub(super) async fn room_that_is_not_taken_is_passed_on(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let submit_as = async |n: u64, name: &str| {
        let needs = vec![limit(&format!("user:{name}"), 1, true), limit("system", 1, false)];
        let mut task = task_with_slots(n, needs);
        task.user = user(name);
        add(&store, task).await;
        take(&store, task_id(n), n, at(n)).await
    };
    let (a, b, c) = (submit_as(1, "ann").await, submit_as(2, "bob").await, submit_as(3, "cid").await);
    let a = admitted(&store, &a).await;
    let b = parked(&store, &b).await;
    parked(&store, &c).await;
    applied(&store, &a, cancelled(&a, at(500))).await;
    // Bob's turn; but he has thought better of it, and his worker hears that before it looks at the slot.
    assert_eq!(woken(&store).await, [2]);
    let b = load(&store, b.id()).await;
    applied(&store, &b, cancelled(&b, at(600))).await;
    assert_eq!(woken(&store).await, [3]);
}

pub(super) async fn slots_and_states_go_together(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 1, true)];
    let s = waiting(&store, 1, &slots).await;
    let refused = async |s: &Snapshot, change| {
        let error = store.commit(&[make(s, change, 5)]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
        assert_eq!(load(&store, s.id()).await, *s);
    };
    let mut early = note(&s, at(2));
    early.slots = SlotChange::Acquire(slots.to_vec());
    refused(&s, early).await;
    let mut without = admit(&s, at(2));
    without.slots = SlotChange::Keep;
    refused(&s, without).await;
    let s = admitted(&store, &s).await;
    let mut dropped = note(&s, at(101));
    dropped.slots = SlotChange::Release;
    refused(&s, dropped).await;
    let mut kept = cancelled(&s, at(102));
    kept.slots = SlotChange::Keep;
    refused(&s, kept).await;
    let s = applied(&store, &s, start_intent(&s, at(103))).await;
    assert_eq!(store.slots().await.unwrap(), [SlotUsage { scope: scope("user:ann"), holders: vec![s.id()] }]);
    applied(&store, &s, cancelled(&s, at(104))).await;
    assert_eq!(store.slots().await.unwrap(), []);
}

pub(super) async fn a_batch_sees_its_own_slots(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 1, true)];
    let (a, b) = (waiting(&store, 1, &slots).await, waiting(&store, 2, &slots).await);
    let first = make(&a, admit(&a, at(100)), 1);
    let inside = Snapshot {
        task: first.change.task.clone(),
        revision: a.revision + 1,
        held: vec![scope("user:ann")],
        ..a.clone()
    };
    let end = make(&inside, cancelled(&inside, at(101)), 1);
    let outcomes = store.commit(&[first, end, make(&b, admit(&b, at(102)), 1)]).await.unwrap();
    let done = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Applied(_))).count();
    assert_eq!(done, 3, "in one out, and the next in: {outcomes:?}");
    assert_eq!(store.slots().await.unwrap(), [SlotUsage { scope: scope("user:ann"), holders: vec![b.id()] }]);
}

pub(super) async fn the_room_of_any_holder_is_room(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = [limit("user:ann", 3, true)];
    let mut inside = Vec::new();
    for n in 1..=3 {
        inside.push(admitted(&store, &waiting(&store, n, &slots).await).await);
    }
    let (d, e, f) =
        (waiting(&store, 4, &slots).await, waiting(&store, 5, &slots).await, waiting(&store, 6, &slots).await);
    assert!(matches!(try_admit(&store, &d).await, CommitOutcome::SlotDenied(_)));
    applied(&store, &inside[0], cancelled(&inside[0], at(101))).await;
    let d = admitted(&store, &d).await;
    // One goes and one comes at once, and the one that comes is the last of its turn.
    let batch = [make(&inside[1], cancelled(&inside[1], at(102)), 1), make(&e, admit(&e, at(102)), 1)];
    let outcomes = store.commit(&batch).await.unwrap();
    assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Applied(_))), "{outcomes:?}");
    assert!(matches!(try_admit(&store, &f).await, CommitOutcome::SlotDenied(_)));
    let holders = vec![inside[2].id(), d.id(), e.id()];
    assert_eq!(store.slots().await.unwrap(), [SlotUsage { scope: scope("user:ann"), holders }]);
}
