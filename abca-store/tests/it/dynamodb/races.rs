//! Several processes at once, and processes that die on the way.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use abca_core::store::{CommitOutcome, Release, SubmitOutcome, TaskStore};
use abca_core::task::{Cause, SlotLimit, Snapshot, TaskStatus};
use abca_core::testing::fixtures::{
    admit, at, cancelled, claim, commit, limit, step, submit, task_id, task_with_slots, user,
};
use abca_core::testing::store::join_all;
use abca_store::{DynamoDb, DynamoDbConfig};

use super::days::{applied, parked, take};
use super::{config, fresh, in_parts, unused};

/// Polls a future at most so often, then drops it: a process that dies somewhere on the way.
pub(super) async fn dies_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Until a claim gets this task: room was made for it by somebody.
async fn woken(store: &DynamoDb, n: u64) -> Snapshot {
    for round in 0..200 {
        if let Some(s) = store.claim(&claim(n, at(5_000 + round), 1)).await.unwrap().pop() {
            assert_eq!(s.id(), task_id(n));
            return s;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("task {n} is forgotten: {:?}, {:?}", store.load(&[task_id(n)]).await, store.slots().await);
}

#[tokio::test]
async fn whoever_dies_on_the_way_leaves_nothing_that_others_cannot_finish() {
    let (table, other) = fresh().await;
    let slots = vec![limit("user:ann", 1, true), limit("system", 1, false)];
    let mut ended = Vec::new();
    for polls in 0..30 {
        let (first, second) = (1 + 2 * polls, 2 + 2 * polls);
        // A process of its own, whose locks and memory die with it.
        let store = DynamoDb::open(config(&table)).await.unwrap();
        let batch = [submit(task_with_slots(first, slots.clone()))];
        dies_after(polls as usize, store.submit(&batch)).await;
        let again = other.submit(&batch).await.unwrap();
        assert!(matches!(again[..], [SubmitOutcome::Created(_) | SubmitOutcome::Existing(_)]), "{again:?}");
        other.submit(&[submit(task_with_slots(second, slots.clone()))]).await.unwrap();

        let s = take(&other, first).await;
        let batch = [commit(&s, admit(&s, at(50)), 7)];
        dies_after(polls as usize, store.commit(&batch)).await;
        let s = match other.commit(&batch).await.unwrap().pop() {
            Some(CommitOutcome::Applied(s) | CommitOutcome::AlreadyApplied(s)) => *s,
            outcome => panic!("after {polls} polls: {outcome:?}"),
        };
        for usage in other.slots().await.unwrap() {
            assert_eq!(usage.holders, [s.id()], "{}", usage.scope);
        }
        let next = take(&other, second).await;
        parked(&other, next).await;

        let batch = [commit(&s, cancelled(&s, at(60)), 8)];
        dies_after(polls as usize, store.commit(&batch)).await;
        let outcome = other.commit(&batch).await.unwrap().pop();
        assert!(matches!(outcome, Some(CommitOutcome::Applied(_) | CommitOutcome::AlreadyApplied(_))), "{outcome:?}");
        let s = woken(&other, second).await;
        let s = applied(&other, &s, admit(&s, at(70))).await;
        applied(&other, &s, cancelled(&s, at(80))).await;
        assert_eq!(other.slots().await.unwrap(), []);
        ended.extend([task_id(first), task_id(second)]);
    }
    for s in other.load(&ended).await.unwrap() {
        let s = s.expect("it was accepted");
        let query = abca_core::store::EventQuery { task: s.id(), after: abca_core::EventSeq::ZERO, limit: 99 };
        let numbers: Vec<u64> = other.events(&query).await.unwrap().iter().map(|e| e.seq.0).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(s.task.status, TaskStatus::Cancelled);
    }
}

/// Polls a future so often, then lets another thing happen, then finishes it: whatever it read before may be old.
async fn interrupted<T>(polls: usize, future: impl Future<Output = T>, meanwhile: impl Future<Output = ()>) -> T {
    let mut future = Box::pin(future);
    let mut left = polls;
    let early = std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await;
    meanwhile.await;
    match early {
        Some(value) => value,
        None => future.await,
    }
}

const POINTS: u64 = 24;

#[tokio::test]
async fn a_denial_and_room_that_is_made_meanwhile_do_not_miss_each_other() {
    denial_and_room(config).await;
}

#[tokio::test]
async fn a_denial_and_room_in_a_part_do_not_miss_each_other() {
    denial_and_room(in_parts).await;
}

async fn denial_and_room(config: fn(&str) -> DynamoDbConfig) {
    let table = unused();
    let one = DynamoDb::init(config(&table)).await.unwrap();
    let two = DynamoDb::open(config(&table)).await.unwrap();
    let slots = vec![limit("system", 1, false)];
    for polls in 0..POINTS {
        let (first, second) = (1 + 2 * polls, 2 + 2 * polls);
        for n in [first, second] {
            one.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
        }
        let s = take(&one, first).await;
        let holder = applied(&one, &s, admit(&s, at(50))).await;
        let s = take(&two, second).await;
        let batch = [commit(&s, admit(&s, at(60)), 1)];
        let end = async {
            applied(&two, &holder, cancelled(&holder, at(61))).await;
        };
        let outcome = interrupted(polls as usize, one.commit(&batch), end).await.unwrap().pop();
        let s = match outcome {
            Some(CommitOutcome::Applied(s)) => *s,
            Some(CommitOutcome::SlotDenied(_)) => {
                let away = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None };
                one.release(&[away]).await.unwrap();
                let s = woken(&two, second).await;
                applied(&two, &s, admit(&s, at(70))).await
            }
            other => panic!("after {polls} polls: {other:?}"),
        };
        applied(&one, &s, cancelled(&s, at(80))).await;
        assert_eq!(one.slots().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_release_and_a_denial_that_comes_meanwhile_do_not_miss_each_other() {
    release_and_denial(config).await;
}

#[tokio::test]
async fn a_release_in_a_part_and_a_denial_do_not_miss_each_other() {
    release_and_denial(in_parts).await;
}

async fn release_and_denial(config: fn(&str) -> DynamoDbConfig) {
    let table = unused();
    let one = DynamoDb::init(config(&table)).await.unwrap();
    let two = DynamoDb::open(config(&table)).await.unwrap();
    for polls in 0..POINTS {
        let slots = vec![limit(&format!("repo:{polls}"), 1, false)];
        let (first, second) = (1 + 2 * polls, 2 + 2 * polls);
        for n in [first, second] {
            one.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
        }
        let s = take(&one, first).await;
        let holder = applied(&one, &s, admit(&s, at(50))).await;
        let waiting = take(&two, second).await;
        let end = [commit(&holder, cancelled(&holder, at(60)), 1)];
        let deny = async {
            let admission = two.commit(&[commit(&waiting, admit(&waiting, at(61)), 1)]).await.unwrap().pop();
            if let Some(CommitOutcome::SlotDenied(_)) = admission {
                let away =
                    Release { task: waiting.id(), epoch: waiting.epoch, expect_revision: waiting.revision, due: None };
                two.release(&[away]).await.unwrap();
            }
        };
        let ended = interrupted(polls as usize, one.commit(&end), deny).await.unwrap();
        assert!(matches!(ended[..], [CommitOutcome::Applied(_)]), "after {polls} polls: {ended:?}");
        let mut s = one.load(&[task_id(second)]).await.unwrap().pop().flatten().unwrap();
        if s.task.status.is_waiting() {
            s = woken(&two, second).await;
            s = applied(&two, &s, admit(&s, at(70))).await;
        }
        applied(&one, &s, cancelled(&s, at(80))).await;
    }
}

#[tokio::test]
async fn of_two_admissions_one_into_the_other_only_one_gets_the_last_slot() {
    two_admissions(config).await;
}

#[tokio::test]
async fn of_two_admissions_to_parts_only_one_gets_the_last_slot() {
    two_admissions(in_parts).await;
}

async fn two_admissions(config: fn(&str) -> DynamoDbConfig) {
    let table = unused();
    let one = DynamoDb::init(config(&table)).await.unwrap();
    let two = DynamoDb::open(config(&table)).await.unwrap();
    for polls in 0..POINTS {
        let slots = vec![limit(&format!("repo:{polls}"), 1, false)];
        let mut both = Vec::new();
        for n in [1 + 2 * polls, 2 + 2 * polls] {
            one.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
            let s = take(&one, n).await;
            both.push([commit(&s, admit(&s, at(50)), 1)]);
        }
        let mut other = Vec::new();
        let meanwhile = async { other = two.commit(&both[1]).await.unwrap() };
        let outcome = interrupted(polls as usize, one.commit(&both[0]), meanwhile).await.unwrap();
        let inside = outcome.iter().chain(&other).filter(|o| matches!(o, CommitOutcome::Applied(_))).count();
        assert_eq!(inside, 1, "after {polls} polls: {outcome:?}, {other:?}");
        let usage = one.slots().await.unwrap();
        assert!(usage.iter().all(|u| u.holders.len() == 1), "after {polls} polls: {usage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_that_admit_at_once_stay_below_the_cap() {
    let (table, store) = fresh().await;
    let slots = vec![limit("system", 3, false)];
    let mut processes = Vec::new();
    for n in 1..=8 {
        store.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
        let process = DynamoDb::open(config(&table)).await.unwrap();
        let s = take(&process, n).await;
        processes.push((process, [commit(&s, admit(&s, at(100)), 1)]));
    }
    let outcomes = join_all(processes.iter().map(|(process, batch)| process.commit(batch))).await;
    let inside = outcomes.iter().filter(|o| matches!(o.as_deref(), Ok([CommitOutcome::Applied(_)]))).count();
    assert_eq!(inside, 3, "{outcomes:?}");
    assert_eq!(store.slots().await.unwrap()[0].holders.len(), 3);
}

const RACERS: u64 = 18;

/// Three processes with a few workers each admit and end tasks until none is left; who is denied waits for nothing but to be
/// woken. Answers how many it ended.
async fn work(store: Arc<DynamoDb>, worker: u64) -> u64 {
    let mut ended = 0;
    let mut now = 10_000 + worker;
    for _ in 0..4_000 {
        now += 1;
        let Some(s) = store.claim(&claim(worker, at(now), 1)).await.unwrap().pop() else {
            let counts = store.operator().counts(at(now)).await.unwrap();
            if counts.by_status.keys().all(|status| status.is_terminal()) {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let outcome = store.commit(&[commit(&s, admit(&s, at(now)), now)]).await.unwrap().pop().unwrap();
        match outcome {
            CommitOutcome::Applied(s) => {
                let usage = store.slots().await.unwrap();
                let full =
                    |name: &str, cap: usize| usage.iter().any(|u| u.scope.0.starts_with(name) && u.holders.len() > cap);
                assert!(!full("system", 3) && !full("user:", 2), "{usage:?}");
                let end = commit(&s, cancelled(&s, at(now)), now);
                let ends = store.commit(&[end]).await.unwrap();
                assert!(matches!(ends[..], [CommitOutcome::Applied(_)]), "{ends:?}");
                ended += 1;
            }
            CommitOutcome::SlotDenied(_) => {
                let mut s = s;
                if s.task.status == TaskStatus::Submitted {
                    let queued = commit(&s, step(&s, TaskStatus::Queued, Cause::SlotDenied, at(now)), now + 1);
                    match store.commit(&[queued]).await.unwrap().pop().unwrap() {
                        CommitOutcome::Applied(now) => s = *now,
                        other => panic!("want it queued, got {other:?}"),
                    }
                }
                let away = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None };
                store.release(&[away]).await.unwrap();
            }
            other => panic!("want it admitted or denied, got {other:?}"),
        }
    }
    panic!("worker {worker} found no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_processes_none_exceeds_a_cap_and_no_task_is_forgotten() {
    none_exceeds(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_processes_none_exceeds_a_cap_that_is_cut_and_no_task_is_forgotten() {
    none_exceeds(in_parts).await;
}

async fn none_exceeds(config: fn(&str) -> DynamoDbConfig) {
    let table = unused();
    let store = DynamoDb::init(config(&table)).await.unwrap();
    for n in 1..=RACERS {
        let name = if n % 3 == 0 { "bob" } else { "ann" };
        let slots: Vec<SlotLimit> = vec![limit(&format!("user:{name}"), 2, true), limit("system", 3, false)];
        let mut task = task_with_slots(n, slots);
        task.user = user(name);
        assert!(matches!(store.submit(&[submit(task)]).await.unwrap()[..], [SubmitOutcome::Created(_)]));
    }
    let mut workers = Vec::new();
    for process in 0..3 {
        let store = Arc::new(DynamoDb::open(config(&table)).await.unwrap());
        workers.extend((0..3).map(|n| tokio::spawn(work(store.clone(), process * 3 + n))));
    }
    let mut ended = 0;
    for worker in workers {
        ended += worker.await.unwrap();
    }
    assert_eq!(ended, RACERS);
    assert_eq!(store.slots().await.unwrap(), []);
}
