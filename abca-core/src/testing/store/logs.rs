//! Session logs, heartbeats and events.

use super::super::fixtures::{at, commit as make, complete, note, nudge, record, task, task_id};
use super::{Store, StoreHarness, applied, commit, events, join_all, live, load};
use crate::event::{EventType, NewEvent};
use crate::id::{EventSeq, SessionId};
use crate::store::{Append, AppendOutcome, EventQuery, LogQuery, StoreErrorKind};
use crate::task::{CancelRequest, SessionPhase};

fn append(from: u64, to: u64) -> Append {
    let session = SessionId::of(task_id(1), 1);
    Append {
        task: task_id(1),
        expect_seq: from,
        records: (from..=to).map(|n| record(&session, n)).collect(),
        events: vec![NewEvent::new(EventType::AgentMilestone, at(from)).with("from", from)],
        now: at(1_000 + from),
        session,
    }
}

async fn write(store: &Store, append: Append) -> AppendOutcome {
    store.append(&[append]).await.unwrap().pop().unwrap()
}

const fn appended(len: u64) -> AppendOutcome {
    AppendOutcome::Appended { len, quiet: true }
}

async fn log(store: &Store, after: u64, limit: usize) -> Vec<u64> {
    let session = SessionId::of(task_id(1), 1);
    let records = store.log(&LogQuery { task: task_id(1), after, limit }).await.unwrap();
    records.iter().for_each(|(n, r)| assert_eq!(*r, record(&session, *n), "record {n}"));
    records.iter().map(|(n, _)| *n).collect()
}

pub(super) async fn records_are_numbered_on(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    assert_eq!(write(&store, append(1, 3)).await, appended(3));
    assert_eq!(write(&store, append(4, 4)).await, appended(4));
    assert_eq!(log(&store, 0, 100).await, [1, 2, 3, 4]);
    let now = load(&store, task_id(1)).await;
    assert_eq!((now.revision, now.heartbeat_at), (s.revision, Some(at(1_004))), "no commit, but a heartbeat");
    let mut nobody = append(1, 1);
    nobody.task = task_id(9);
    assert_eq!(write(&store, nobody).await, AppendOutcome::NotFound);
}

pub(super) async fn an_append_says_whether_there_is_something_to_hear(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    assert_eq!(write(&store, append(1, 1)).await, appended(1));
    store.signal(&[nudge(task_id(1), "n", at(7))]).await.unwrap();
    assert_eq!(write(&store, append(2, 2)).await, AppendOutcome::Appended { len: 2, quiet: false }, "a nudge waits");
    let mut cancelled = load(&store, task_id(1)).await;
    cancelled.epoch = s.epoch;
    let mut change = note(&cancelled, at(9));
    change.consumed = cancelled.signals.iter().map(|s| s.id.clone()).collect();
    change.task.cancel = Some(CancelRequest { by: "ann".to_owned(), at: at(8) });
    applied(&store, &cancelled, change).await;
    assert_eq!(write(&store, append(3, 3)).await, AppendOutcome::Appended { len: 3, quiet: false }, "a cancel holds");
}

pub(super) async fn a_repeated_append_is_recognised(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    write(&store, append(1, 3)).await;
    let told = events(&store, task_id(1)).await;
    assert_eq!(write(&store, append(1, 3)).await, AppendOutcome::Exists { len: 3, same: true });
    assert_eq!(write(&store, append(2, 3)).await, AppendOutcome::Exists { len: 3, same: true });
    let mut other = append(3, 3);
    other.records = vec![record(&other.session, 77)];
    assert_eq!(write(&store, other).await, AppendOutcome::Exists { len: 3, same: false });
    assert_eq!(write(&store, append(3, 4)).await, AppendOutcome::Exists { len: 3, same: false });
    assert_eq!(log(&store, 0, 100).await, [1, 2, 3]);
    assert_eq!(events(&store, task_id(1)).await, told, "a repeat tells nothing again");
    let batch = [append(4, 5), append(4, 5)];
    let want = [appended(5), AppendOutcome::Exists { len: 5, same: true }];
    assert_eq!(store.append(&batch).await.unwrap(), want);
}

pub(super) async fn of_two_writers_one_is_told(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    let writers = (0..16).map(|n| {
        let mut a = append(1, 1);
        a.records = vec![record(&a.session, 100 + n)];
        write(&store, a)
    });
    let outcomes = join_all(writers).await;
    assert_eq!(outcomes.iter().filter(|o| **o == appended(1)).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| **o == AppendOutcome::Exists { len: 1, same: false }).count(), 15);
}

pub(super) async fn a_gap_is_refused(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    for bad in [append(2, 2), append(0, 0)] {
        assert_eq!(store.append(&[bad]).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(log(&store, 0, 100).await, [0u64; 0]);
}

pub(super) async fn a_former_session_is_refused(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    write(&store, append(1, 1)).await;
    let mut stop = note(&s, at(50));
    stop.task.session.as_mut().unwrap().phase = SessionPhase::Stopping;
    let s = applied(&store, &s, stop).await;
    assert_eq!(
        write(&store, append(2, 2)).await,
        AppendOutcome::Appended { len: 2, quiet: false },
        "it saves its work"
    );
    let mut over = note(&s, at(51));
    over.task.session.as_mut().unwrap().phase = SessionPhase::Over;
    let s = applied(&store, &s, over).await;
    assert_eq!(write(&store, append(3, 3)).await, AppendOutcome::Refused);
    let mut zombie = append(3, 3);
    zombie.session = SessionId::of(task_id(1), 9);
    assert_eq!(write(&store, zombie).await, AppendOutcome::Refused);
    applied(&store, &s, complete(&s, at(60))).await;
    assert_eq!(write(&store, append(3, 3)).await, AppendOutcome::Refused);
    assert_eq!(log(&store, 0, 100).await, [1, 2]);
}

pub(super) async fn heartbeats_are_the_current_sessions(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let (mine, other) = (SessionId::of(task_id(1), 1), SessionId::of(task_id(1), 2));
    assert!(store.heartbeat(task_id(1), &mine, at(20)).await.unwrap());
    assert!(store.heartbeat(task_id(1), &mine, at(10)).await.unwrap(), "late, but it lives");
    assert!(!store.heartbeat(task_id(1), &other, at(30)).await.unwrap());
    assert!(!store.heartbeat(task_id(2), &mine, at(30)).await.unwrap());
    let now = load(&store, task_id(1)).await;
    assert_eq!((now.heartbeat_at, now.revision), (Some(at(20)), s.revision));
    applied(&store, &now, complete(&now, at(40))).await;
    assert!(!store.heartbeat(task_id(1), &mine, at(50)).await.unwrap());
}

pub(super) async fn events_have_no_gaps_whoever_writes(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let before = events(&store, task_id(1)).await.len() as u64;
    let commits = join_all((0..8).map(|n| commit(&store, make(&s, note(&s, at(60)), n))));
    let appends = join_all((1..=1).map(|n| write(&store, append(n, n))));
    let (mut commits, mut appends) = (std::pin::pin!(commits), std::pin::pin!(appends));
    let (mut a, mut b) = (None, None);
    std::future::poll_fn(|cx| {
        use std::future::Future;
        if a.is_none()
            && let std::task::Poll::Ready(v) = commits.as_mut().poll(cx)
        {
            a = Some(v);
        }
        if b.is_none()
            && let std::task::Poll::Ready(v) = appends.as_mut().poll(cx)
        {
            b = Some(v);
        }
        if a.is_some() && b.is_some() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let numbers: Vec<u64> = events(&store, task_id(1)).await.into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, (1..=before + 2).collect::<Vec<_>>());
}

pub(super) async fn events_are_paged(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    for n in 1..=7 {
        write(&store, append(n, n)).await;
    }
    let page = async |after, limit| {
        let query = EventQuery { task: task_id(1), after: EventSeq(after), limit };
        store.events(&query).await.unwrap().into_iter().map(|e| e.seq.0).collect::<Vec<_>>()
    };
    let all = page(0, 1_000).await;
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(page(0, 2).await, [1, 2]);
    assert_eq!(page(2, 3).await, [3, 4, 5]);
    assert_eq!(page(all.len() as u64, 9).await, [0u64; 0]);
    assert_eq!(page(u64::MAX, 9).await, [0u64; 0]);
    let nobody = EventQuery { task: task_id(9), after: EventSeq::ZERO, limit: 9 };
    assert_eq!(store.events(&nobody).await.unwrap(), []);
}

pub(super) async fn logs_are_paged(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    write(&store, append(1, 9)).await;
    assert_eq!(log(&store, 0, 4).await, [1, 2, 3, 4]);
    assert_eq!(log(&store, 4, 4).await, [5, 6, 7, 8]);
    assert_eq!(log(&store, 8, 4).await, [9]);
    assert_eq!(log(&store, 9, 4).await, [0u64; 0]);
}

pub(super) async fn only_a_commit_tells_the_end(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    live(&store, task(1)).await;
    let mut end = append(1, 1);
    end.events = vec![NewEvent::new(EventType::TaskCompleted, at(1))];
    assert_eq!(store.append(&[end]).await.unwrap_err().kind(), StoreErrorKind::Invalid);
}

pub(super) async fn a_heartbeat_of_a_clock_that_was_ahead_is_replaced(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let session = SessionId::of(task_id(1), 1);
    let silence = s.task.spec.limits.heartbeat_timeout_ms;
    let mark = async |now| {
        assert!(store.heartbeat(task_id(1), &session, now).await.unwrap());
        load(&store, task_id(1)).await.heartbeat_at.unwrap()
    };
    let ahead = at(1_000).after(silence);
    assert_eq!(mark(ahead).await, ahead);
    assert_eq!(mark(at(1_000)).await, ahead, "clocks may differ, and a mark does not move back");
    assert_eq!(mark(at(999)).await, at(999), "a session may not be silent for that long");
    assert_eq!(mark(at(2_000)).await, at(2_000));
}
