//! The feed of all tasks' events: once each, in the order of each task, whoever races or dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abca_core::TaskId;
use abca_core::store::{FeedCursor, FeedQuery, TaskStore};
use abca_core::testing::fixtures::{at, cancelled, note, submit, task, task_id};
use abca_store::DynamoDb;

use super::days::{applied, take};
use super::races::dies_after;
use super::{config, fresh, raw};

type Told = BTreeMap<TaskId, Vec<u64>>;

/// Reads on, to the end; answers whether there was something.
async fn read_on(store: &DynamoDb, cursor: &mut FeedCursor, told: &mut Told, limit: usize) -> bool {
    let mut some = false;
    loop {
        let page = store.operator().feed(&FeedQuery { after: cursor.clone(), limit }).await.unwrap();
        assert!(page.events.len() <= limit);
        if page.events.is_empty() {
            assert_eq!(page.next, *cursor, "the end is where it was");
            return some;
        }
        some = true;
        page.events.into_iter().for_each(|e| told.entry(e.task_id).or_default().push(e.seq.0));
        *cursor = page.next;
    }
}

const WRITERS: u64 = 3;
const NOTES: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_writers_and_readers_no_event_is_lost_or_doubled() {
    let (table, _) = fresh().await;
    let writing = Arc::new(AtomicUsize::new(WRITERS as usize));
    let mut writers = Vec::new();
    for n in 1..=WRITERS {
        let (store, writing) = (DynamoDb::open(config(&table)).await.unwrap(), writing.clone());
        writers.push(tokio::spawn(async move {
            for n in [n, n + WRITERS] {
                store.submit(&[submit(task(n))]).await.unwrap();
                let mut s = take(&store, n).await;
                for i in 0..NOTES {
                    s = applied(&store, &s, note(&s, at(100 + i))).await;
                }
            }
            writing.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    let mut readers = Vec::new();
    for limit in [1, 3, 50] {
        let (store, writing) = (DynamoDb::open(config(&table)).await.unwrap(), writing.clone());
        readers.push(tokio::spawn(async move {
            let (mut cursor, mut told) = (FeedCursor::START, Told::new());
            loop {
                let over = writing.load(Ordering::SeqCst) == 0;
                if !read_on(&store, &mut cursor, &mut told, limit).await && over {
                    return told;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let numbers: Vec<u64> = (1..=NOTES + 1).collect();
    let want: Told = (1..=2 * WRITERS).map(|n| (task_id(n), numbers.clone())).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), want);
    }
}

#[tokio::test]
async fn a_reader_that_dies_while_it_lists_leaves_the_rest_to_others() {
    let (table, store) = fresh().await;
    let (mut cursor, mut told, mut want) = (FeedCursor::START, Told::new(), Told::new());
    for polls in (0..60).step_by(3) {
        for n in [1 + 2 * polls, 2 + 2 * polls] {
            store.submit(&[submit(task(n))]).await.unwrap();
            let s = take(&store, n).await;
            applied(&store, &s, note(&s, at(100))).await;
            want.insert(task_id(n), vec![1, 2]);
        }
        let dying = DynamoDb::open(config(&table)).await.unwrap();
        let query = FeedQuery { after: cursor.clone(), limit: 100 };
        dies_after(polls as usize, dying.operator().feed(&query)).await;
        // What is told after the death goes on where it was cut.
        let s = store.load(&[task_id(1 + 2 * polls)]).await.unwrap().pop().flatten().unwrap();
        applied(&store, &s, note(&s, at(101))).await;
        want.insert(s.id(), vec![1, 2, 3]);
        assert!(read_on(&store, &mut cursor, &mut told, 100).await);
        assert_eq!(told, want, "after {polls} polls");
    }
    let (mut cursor, mut again) = (FeedCursor::START, Told::new());
    read_on(&store, &mut cursor, &mut again, 7).await;
    assert_eq!(again, want, "and whoever begins now is told the same");
}

#[tokio::test]
async fn of_removed_tasks_nothing_is_told_and_the_pages_go_with_them() {
    let (table, store) = fresh().await;
    let (mut cursor, mut told) = (FeedCursor::START, Told::new());
    for n in 1..=12 {
        store.submit(&[submit(task(n))]).await.unwrap();
        let s = take(&store, n).await;
        applied(&store, &s, cancelled(&s, at(100))).await;
        read_on(&store, &mut cursor, &mut told, 9).await;
    }
    assert_eq!(store.operator().purge(at(101), 99).await.unwrap(), 12);
    let pages = raw("Scan", &format!(r#"{{"TableName":"{table}","ProjectionExpression":"pk,sk"}}"#));
    assert!(pages.matches("\"F#").count() <= 8, "a head and a last page for each partition: {pages}");
    store.submit(&[submit(task(20))]).await.unwrap();
    let (mut from_the_start, mut late) = (FeedCursor::START, Told::new());
    read_on(&store, &mut from_the_start, &mut late, 9).await;
    assert_eq!(late, Told::from([(task_id(20), vec![1])]));
    told.clear();
    read_on(&store, &mut cursor, &mut told, 9).await;
    assert_eq!(told, late, "whoever had read on finds it too");
}

/// A task that cannot be read does not stop the feed, nor is it asked for again and again.
#[tokio::test]
async fn a_row_edited_into_nonsense_is_passed_over() {
    let (table, store) = fresh().await;
    for n in 1..=2 {
        store.submit(&[submit(task(n))]).await.unwrap();
    }
    super::days::spoil(&table, task_id(1));
    let (mut cursor, mut told) = (FeedCursor::START, Told::new());
    read_on(&store, &mut cursor, &mut told, 9).await;
    assert_eq!(told, Told::from([(task_id(2), vec![1])]));
}
