//! Bad days: rows edited into nonsense, what is left over, values that do not fit, the same word a hundred times.

use abca_core::store::{CommitOutcome, ListQuery, NewSignal, Release, SignalOutcome, StoreErrorKind, TaskStore};
use abca_core::task::{Cause, Snapshot, TaskStatus, Verdict};
use abca_core::testing::fixtures::{
    admit, at, claim, commit, complete, limit, note, nudge, report, step, submit, task, task_id, task_with_slots,
};
use abca_core::testing::store::join_all;
use abca_core::{SessionId, TaskId};
use abca_store::DynamoDb;

use super::{config, fresh, raw};

pub(super) async fn take(store: &DynamoDb, n: u64) -> Snapshot {
    let query = abca_core::store::ClaimQuery { task: Some(task_id(n)), ..claim(n, at(n), 1) };
    store.claim(&query).await.unwrap().pop().expect("the task is free")
}

pub(super) async fn applied(store: &DynamoDb, s: &Snapshot, change: abca_core::task::Change) -> Snapshot {
    match store.commit(&[commit(s, change, 0)]).await.unwrap().pop() {
        Some(CommitOutcome::Applied(s)) => *s,
        other => panic!("want the commit applied, got {other:?}"),
    }
}

fn update(table: &str, pk: &str, expression: &str, values: &str) {
    let key = format!(r#""Key":{{"pk":{{"S":"{pk}"}},"sk":{{"S":"0"}}}}"#);
    let values =
        if values.is_empty() { String::new() } else { format!(r#","ExpressionAttributeValues":{{{values}}}"#) };
    raw("UpdateItem", &format!(r#"{{"TableName":"{table}",{key},"UpdateExpression":"{expression}"{values}}}"#));
}

pub(super) fn spoil(table: &str, id: TaskId) {
    update(table, &format!("T#{id}"), "SET b = :b", r#"":b":{"S":"{\"n\": nonsense"}"#);
}

#[tokio::test]
async fn a_row_edited_into_nonsense_becomes_a_dead_letter_and_the_rest_goes_on() {
    let (table, store) = fresh().await;
    let slots = vec![limit("system", 1, false)];
    for n in 1..=3 {
        store.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
    }
    let s = take(&store, 1).await;
    let s = applied(&store, &s, admit(&s, at(5))).await;
    let away = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: Some(at(6)) };
    store.release(&[away]).await.unwrap();
    spoil(&table, task_id(1));
    let error = store.load(&[task_id(1)]).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.message().contains(&task_id(1).to_string()), "{error}");
    let claimed = store.claim(&claim(7, at(100), 9)).await.unwrap();
    assert_eq!(claimed.iter().map(Snapshot::id).collect::<Vec<_>>(), [task_id(2), task_id(3)]);
    let letters = store.operator().dead_letters(9).await.unwrap();
    assert_eq!(letters.iter().map(|l| (l.task, l.since)).collect::<Vec<_>>(), [(task_id(1), at(100))]);
    assert!(letters[0].reason.contains("cannot be read"), "{letters:?}");
    assert_eq!(store.claim(&claim(7, at(9_000_000), 9)).await.unwrap().len(), 2, "never again");
    assert_eq!(store.list(&ListQuery { limit: 9, ..ListQuery::default() }).await.unwrap().len(), 2);
    let still = store.operator().revive(task_id(1), at(200)).await.expect_err("it still cannot be read");
    assert_eq!(still.kind(), StoreErrorKind::Corrupt);
    // Its slot is still held; discarding it makes room, although nobody can read who it was.
    let s = take_again(&store, 2).await;
    let denied = store.commit(&[commit(&s, admit(&s, at(300)), 1)]).await.unwrap();
    assert!(matches!(denied[..], [CommitOutcome::SlotDenied(_)]), "{denied:?}");
    assert!(store.operator().discard(task_id(1), at(301)).await.unwrap());
    assert_eq!(store.slots().await.unwrap(), []);
    assert_eq!(store.load(&[task_id(1)]).await.unwrap(), [None]);
    let s = take_again(&store, 2).await;
    applied(&store, &s, admit(&s, at(302))).await;
}

#[tokio::test]
async fn a_task_of_a_newer_program_is_left_to_newer_workers() {
    let (table, store) = fresh().await;
    for n in 1..=2 {
        store.submit(&[submit(task_with_slots(n, Vec::new()))]).await.unwrap();
    }
    let pk = format!("T#{}", task_id(1));
    update(&table, &pk, "SET b = :b", r#"":b":{"S":"{\"m\":{\"format\":2}}"}"#);
    let error = store.load(&[task_id(1)]).await.expect_err("it is of another program");
    assert_eq!(error.kind(), StoreErrorKind::Incompatible, "{error}");
    let claimed = store.claim(&claim(7, at(100), 9)).await.unwrap();
    assert_eq!(claimed.iter().map(Snapshot::id).collect::<Vec<_>>(), [task_id(2)]);
    assert_eq!(store.operator().dead_letters(9).await.unwrap(), []);
}

/// Whatever lease there is has run out.
async fn take_again(store: &DynamoDb, n: u64) -> Snapshot {
    let query = abca_core::store::ClaimQuery { task: Some(task_id(n)), ..claim(9, at(90_000_000), 1) };
    store.claim(&query).await.unwrap().pop().expect("the task is free")
}

#[tokio::test]
async fn what_can_never_fit_is_refused_when_it_is_submitted() {
    let (_, store) = fresh().await;
    let mut wide = task(1);
    wide.spec.task_description = Some("x".repeat(17 << 20));
    let error = store.submit(&[submit(wide)]).await.expect_err("it is too large");
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.message().contains("at most 16777216 are kept"), "{error}");
    let error = store.submit(&[submit(task_with_slots(2, vec![limit("user:ann", 100_000, true)]))]).await;
    let error = error.expect_err("one item cannot hold so many holders");
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.message().contains("slot `user:ann` has a cap of 100000"), "{error}");
    assert_eq!(store.load(&[task_id(1), task_id(2)]).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn a_signal_sent_a_hundred_times_by_two_processes_is_one() {
    let (table, one) = fresh().await;
    let two = DynamoDb::open(config(&table)).await.unwrap();
    one.submit(&[submit(task(1))]).await.unwrap();
    let new: Vec<NewSignal> = vec![nudge(task_id(1), "same", at(5))];
    let sent = join_all((0..100).map(|n| if n % 2 == 0 { &one } else { &two }.signal(&new))).await;
    let accepted = sent.into_iter().flat_map(Result::unwrap).filter(|o| *o == SignalOutcome::Accepted).count();
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn a_task_that_heard_much_stays_small_and_knows_it_all() {
    let (table, store) = fresh().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    let mut s = take(&store, 1).await;
    let ids: Vec<String> = (0..40).map(|n| format!("signal-{n}")).collect();
    for (n, id) in (10..).zip(&ids) {
        store.signal(&[nudge(task_id(1), id, at(n))]).await.unwrap();
        s = store.load(&[s.id()]).await.unwrap().pop().flatten().unwrap();
        let mut read = note(&s, at(n));
        read.consumed = s.signals.iter().map(|s| s.id.clone()).collect();
        s = applied(&store, &s, read).await;
    }
    for id in &ids {
        let again = store.signal(&[nudge(task_id(1), id, at(500))]).await.unwrap();
        assert_eq!(again, [SignalOutcome::Duplicate], "{id}");
    }
    let key = format!(r#""Key":{{"pk":{{"S":"T#{}"}},"sk":{{"S":"0"}}}}"#, task_id(1));
    let item = raw("GetItem", &format!(r#"{{"TableName":"{table}",{key}}}"#));
    assert!(item.len() < 4_096, "the main item has {} bytes", item.len());
}

#[tokio::test]
async fn heartbeats_and_commits_at_once_lose_neither() {
    let (_, store) = fresh().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    let s = take(&store, 1).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let mut s = applied(&store, &s, abca_core::testing::fixtures::start_intent(&s, at(3))).await;
    let session = SessionId::of(s.id(), 1);
    for n in 10..30 {
        let (change, id) = (commit(&s, note(&s, at(n)), n), s.id());
        let batch = [change];
        let (committed, heard) = tokio::join!(store.commit(&batch), store.heartbeat(id, &session, at(n)));
        assert!(heard.unwrap());
        assert!(matches!(committed.unwrap()[..], [CommitOutcome::Applied(_)]));
        s = store.load(&[id]).await.unwrap().pop().flatten().unwrap();
        assert_eq!((s.heartbeat_at, s.task.updated_at), (Some(at(n)), at(n)));
    }
}

#[tokio::test]
async fn wide_reports_and_signals_survive() {
    let (_, store) = fresh().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    let s = take(&store, 1).await;
    let mut wide = report(Verdict::Succeeded);
    wide.answer_text = Some("done ".repeat(100_000));
    let session = SessionId::of(s.id(), 1);
    let kind = abca_core::task::SignalKind::SessionResult { session, report: Box::new(wide.clone()) };
    let new = abca_core::testing::fixtures::signal(s.id(), "result", kind, at(5));
    assert_eq!(store.signal(std::slice::from_ref(&new)).await.unwrap(), [SignalOutcome::Accepted]);
    let s = store.load(&[s.id()]).await.unwrap().pop().flatten().unwrap();
    assert!(s.signals == [new.signal]);
    let mut change = note(&s, at(6));
    change.task.report = Some(wide.into());
    change.consumed = s.signals.iter().map(|s| s.id.clone()).collect();
    let after = applied(&store, &s, change).await;
    assert!(store.load(&[s.id()]).await.unwrap() == [Some(after)]);
}

#[tokio::test]
async fn a_wake_up_that_was_begun_is_finished_by_whoever_looks_for_work() {
    let (table, store) = fresh().await;
    let slots = vec![limit("user:ann", 1, true)];
    for n in 1..=2 {
        store.submit(&[submit(task_with_slots(n, slots.clone()))]).await.unwrap();
    }
    let s = take(&store, 1).await;
    applied(&store, &s, admit(&s, at(5))).await;
    parked(&store, take(&store, 2).await).await;
    assert_eq!(store.claim(&claim(7, at(100), 9)).await.unwrap(), []);
    // What a process leaves that gave its slot back and died before it looked for those who wait.
    let note = format!(r#"{{\"user\":\"ann\",\"now\":{},\"mark\":1}}"#, at(60).as_millis());
    let values = format!(r#"":wk":{{"S":"{note}"}},":dk":{{"S":"d0"}},":da":{{"N":"{}"}}"#, at(60).as_millis());
    update(&table, "S#user:ann", "SET wk = :wk, dk = :dk, da = :da REMOVE h", &values);
    assert_eq!(store.next_due().await.unwrap(), Some(at(60)));
    let mut claimed = store.claim(&claim(7, at(100), 9)).await.unwrap();
    claimed.extend(store.claim(&claim(7, at(100), 9)).await.unwrap());
    assert_eq!(claimed.iter().map(Snapshot::id).collect::<Vec<_>>(), [task_id(2)]);
    assert_eq!(store.claim(&claim(7, at(101), 9)).await.unwrap(), []);
}

/// Denied, written down as queued, and put away without a due time: only a wake-up brings it back.
pub(super) async fn parked(store: &DynamoDb, s: Snapshot) {
    let outcome = store.commit(&[commit(&s, admit(&s, at(50)), 1)]).await.unwrap().pop();
    assert!(matches!(outcome, Some(CommitOutcome::SlotDenied(_))), "{outcome:?}");
    let s = applied(store, &s, step(&s, TaskStatus::Queued, Cause::SlotDenied, at(50))).await;
    let away = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
}

#[tokio::test]
async fn places_that_were_left_over_hold_nobody_up() {
    let (table, store) = fresh().await;
    let place = |id: TaskId, made: u64| {
        let sk = format!("{:020}#{id}", 5);
        let item = format!(
            r#"{{"pk":{{"S":"W#user:ann"}},"sk":{{"S":"{sk}"}},"t":{{"N":"{made}"}},"f":{{"N":"1"}},"o":{{"N":"1"}}}}"#
        );
        raw("PutItem", &format!(r#"{{"TableName":"{table}","Item":{item}}}"#));
    };
    place(task_id(77), 1);
    place(task_id(78), 9_000_000_000_000_000);
    store.submit(&[submit(task_with_slots(1, vec![limit("user:ann", 1, true)]))]).await.unwrap();
    assert_eq!(store.operator().place(task_id(1)).await.unwrap(), Some(0));
    let s = take(&store, 1).await;
    applied(&store, &s, admit(&s, at(5))).await;
    let values = r#"":pk":{"S":"W#user:ann"}"#;
    let left = format!(
        r#"{{"TableName":"{table}","KeyConditionExpression":"pk = :pk","ExpressionAttributeValues":{{{values}}}}}"#
    );
    let left = raw("Query", &left);
    assert!(!left.contains(&task_id(77).to_string()), "the old one is swept away: {left}");
    assert!(left.contains(&task_id(78).to_string()), "one in the making is not: {left}");
}

#[tokio::test]
async fn an_ended_task_leaves_nothing_behind_when_it_is_removed() {
    let (table, store) = fresh().await;
    let mut t = task_with_slots(1, vec![limit("user:ann", 1, true)]);
    t.idempotency_key = Some(abca_core::id::IdempotencyKey::new("k").unwrap());
    t.spec.task_description = Some("long ".repeat(200_000));
    store.submit(&[submit(t)]).await.unwrap();
    let s = take(&store, 1).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let s = applied(&store, &s, abca_core::testing::fixtures::start_intent(&s, at(3))).await;
    let s = applied(&store, &s, abca_core::testing::fixtures::running(&s, at(4))).await;
    applied(&store, &s, complete(&s, at(5))).await;
    assert_eq!(store.operator().purge(at(6), 9).await.unwrap(), 1);
    let left = raw("Scan", &format!(r#"{{"TableName":"{table}","ProjectionExpression":"pk"}}"#));
    for kind in ["T#", "I#", "W#", "D#"] {
        assert!(!left.contains(kind), "{kind}: {left}");
    }
}
