//! Reading back.

use super::super::fixtures::{admit, at, limit, note, submit, task, task_id, task_with_slots, user};
use super::{StoreHarness, add, applied, events, live, load, submitted, take};
use crate::event::{EventType, NewEvent};
use crate::id::{IdempotencyKey, TaskId};
use crate::session::{LogEntry, LogRecord};
use crate::store::{Append, EventQuery, ListQuery, LogQuery};
use crate::task::{Task, TaskStatus};
use crate::time::Timestamp;

pub(super) async fn tasks_are_listed_newest_first_in_pages(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in [3, 1, 5, 2, 4] {
        add(&store, task(n)).await;
    }
    let page = async |before, limit| {
        let query = ListQuery { before, limit, ..ListQuery::default() };
        store.list(&query).await.unwrap().into_iter().map(|t| t.id).collect::<Vec<_>>()
    };
    let ids = |ns: &[u64]| ns.iter().map(|n| task_id(*n)).collect::<Vec<_>>();
    assert_eq!(page(None, 2).await, ids(&[5, 4]));
    assert_eq!(page(Some(task_id(4)), 2).await, ids(&[3, 2]));
    assert_eq!(page(Some(task_id(2)), 2).await, ids(&[1]));
    assert_eq!(page(Some(task_id(1)), 2).await, ids(&[]));
    assert_eq!(page(None, 0).await, ids(&[]));
}

pub(super) async fn lists_are_filtered(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in 1..=6 {
        let mut t = task(n);
        t.user = user(if n % 2 == 0 { "bob" } else { "ann" });
        if n > 4 {
            t.spec.repo = Some("acme/other".parse().unwrap());
        }
        add(&store, t).await;
    }
    let s = take(&store, task_id(2), 1, at(9)).await;
    applied(&store, &s, admit(&s, at(9))).await;
    let s = live(&store, task(7)).await;
    applied(&store, &s, super::super::fixtures::complete(&s, at(20))).await;
    let list = async |user_name: Option<&str>, statuses: &[TaskStatus], repo: Option<&str>| {
        let query = ListQuery {
            user: user_name.map(user),
            statuses: statuses.to_vec(),
            repo: repo.map(str::to_owned),
            limit: 100,
            ..ListQuery::default()
        };
        let tasks = store.list(&query).await.unwrap();
        tasks.into_iter().map(|t| (1..10).find(|n| task_id(*n) == t.id).unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(list(None, &[], None).await, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(list(Some("bob"), &[], None).await, [6, 4, 2]);
    assert_eq!(list(None, &[TaskStatus::Hydrating, TaskStatus::Completed], None).await, [7, 2]);
    assert_eq!(list(None, &[TaskStatus::Submitted], Some("acme/other")).await, [6, 5]);
    assert_eq!(list(Some("ann"), &[TaskStatus::Submitted], Some("acme/app")).await, [3, 1]);
    assert_eq!(list(Some("nobody"), &[], None).await, [0u64; 0]);
}

pub(super) async fn lists_are_cut_by_time(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let id = |ms| TaskId::from_parts(Timestamp::from_millis(ms), 7);
    for ms in [1_000, 2_000, 2_001, 3_000] {
        add(&store, Task { id: id(ms), ..task(1) }).await;
    }
    let list = async |since: Option<i64>, until: Option<i64>, before: Option<i64>| {
        let (since, until) = (since.map(Timestamp::from_millis), until.map(Timestamp::from_millis));
        let query = ListQuery { since, until, before: before.map(id), limit: 9, ..ListQuery::default() };
        store.list(&query).await.unwrap().into_iter().map(|t| t.id.minted_at().as_millis()).collect::<Vec<_>>()
    };
    assert_eq!(list(Some(2_000), None, None).await, [3_000, 2_001, 2_000]);
    assert_eq!(list(None, Some(2_001), None).await, [2_000, 1_000]);
    assert_eq!(list(Some(1_001), Some(3_000), Some(2_001)).await, [2_000]);
    assert_eq!(list(Some(3_001), None, None).await, [0i64; 0]);
}

pub(super) async fn a_task_is_found_by_its_key(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let key = IdempotencyKey::new("k-1").unwrap();
    let mut t = task(1);
    t.idempotency_key = Some(key.clone());
    add(&store, t).await;
    assert_eq!(store.find(&user("ann"), &key).await.unwrap(), Some(task_id(1)));
    assert_eq!(store.find(&user("bob"), &key).await.unwrap(), None);
    assert_eq!(store.find(&user("ann"), &IdempotencyKey::new("k-2").unwrap()).await.unwrap(), None);
}

pub(super) async fn loads_answer_in_order(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let (a, b) = (add(&store, task(1)).await, add(&store, task(2)).await);
    let ids = [task_id(2), task_id(9), task_id(1), task_id(2)];
    assert_eq!(store.load(&ids).await.unwrap(), [Some(b.clone()), None, Some(a), Some(b)]);
    assert_eq!(store.load(&[]).await.unwrap(), []);
}

pub(super) async fn any_text_survives(h: &dyn StoreHarness) {
    const TEXTS: [&str; 6] = [
        "naïve — Ωμέγα 日本語 🦀🏳️‍🌈",
        "quotes ' \" ` \\ and \u{0} \u{1} \u{7f} control",
        "lines\r\n\ttabs\u{2028}\u{2029}\u{feff}",
        "{\"json\": [1, 2.50, null]}",
        "'); DROP TABLE task; --",
        "1e3 0x10 %s $1 ?1 {}",
    ];
    let store = h.fresh().await;
    let mut t = task_with_slots(1, vec![limit("user:Ω'\"\\", 1, true)]);
    t.user = user("Ω'\"\\ann");
    t.spec.task_description = Some(TEXTS.concat());
    for text in TEXTS {
        t.spec.channel_metadata.insert(text.to_owned(), text.to_owned());
    }
    let event = TEXTS.iter().fold(NewEvent::new(EventType::TaskCreated, at(1)), |e, t| e.with(t, *t));
    let event = event.with("numbers", serde_json::json!([0, -1, 18_446_744_073_709_551_615_u64, 0.1, 1e300, [[{}]]]));
    let made = submitted(&store, crate::store::Submit { events: vec![event.clone()], ..submit(t.clone()) }).await;
    assert_eq!(made.task, t);
    assert_eq!(load(&store, t.id).await, made);
    let query = EventQuery { task: t.id, after: crate::id::EventSeq::ZERO, limit: 9 };
    assert_eq!(store.events(&query).await.unwrap()[0].metadata, event.metadata);
    let s = take(&store, t.id, 1, at(2)).await;
    applied(&store, &s, admit(&s, at(3))).await;
    assert_eq!(store.slots().await.unwrap()[0].scope.0, "user:Ω'\"\\");
    let listed = store.list(&ListQuery { user: Some(t.user), limit: 9, ..ListQuery::default() }).await.unwrap();
    assert_eq!(listed.len(), 1);
}

pub(super) async fn large_values_survive(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let mib = "0123456789abcde\n".repeat(65_536);
    let mut t = task(1);
    t.spec.task_description = Some(mib.clone());
    let s = live(&store, t).await;
    assert_eq!(s.task.spec.task_description.as_deref(), Some(mib.as_str()));
    let mut change = note(&s, at(5));
    change.events = vec![NewEvent::new(EventType::AgentToolOutput, at(5)).with("chunk", mib.clone())];
    applied(&store, &s, change).await;
    let session = s.task.session.unwrap().id;
    let entry = LogEntry::Injected { signal: None, origin: "nudge".to_owned(), text: mib };
    let record = LogRecord { session: session.clone(), at: at(6), entry };
    let append =
        Append { task: task_id(1), session, expect_seq: 1, records: vec![record.clone()], events: vec![], now: at(6) };
    store.append(&[append]).await.unwrap();
    let log = store.log(&LogQuery { task: task_id(1), after: 0, limit: 1 }).await.unwrap();
    assert!(log == [(1, record)], "the log's record is another one than was written");
    assert_eq!(events(&store, task_id(1)).await.len(), 5);
}

pub(super) async fn slots_are_reported(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in [2, 1, 3] {
        add(&store, task_with_slots(n, vec![limit("system", 9, false)])).await;
        let s = take(&store, task_id(n), n, at(n)).await;
        applied(&store, &s, admit(&s, at(10))).await;
    }
    let usage = store.slots().await.unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(usage[0].holders, [task_id(2), task_id(1), task_id(3)]);
}
