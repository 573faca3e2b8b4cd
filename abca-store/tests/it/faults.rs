//! What goes wrong with a database file, and what the caller is told.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use abca_core::event::EventType;
use abca_core::store::{CommitOutcome, EventQuery, LogQuery, StoreErrorKind, SubmitOutcome, TaskStore};
use abca_core::task::TaskStatus;
use abca_core::testing::fixtures::{admit, at, claim, commit, limit, note, submit, task, task_id, task_with_slots};
use abca_core::testing::store::join_all;
use abca_core::{EventSeq, TaskId};
use abca_store::{Sqlite, SqliteConfig};
use rusqlite::Connection;
use tempfile::TempDir;

fn raw(folder: &Path) -> Connection {
    Connection::open(folder.join("abca.db")).unwrap()
}

async fn refused(folder: &Path) -> (StoreErrorKind, String) {
    let error = Sqlite::open(folder).await.expect_err("this must not open");
    (error.kind(), error.to_string().replace(&folder.display().to_string(), "DIR"))
}

#[tokio::test]
async fn a_newer_database_is_refused_by_name_of_both_versions() {
    let folder = TempDir::new().unwrap();
    Sqlite::open(folder.path()).await.unwrap().close().await.unwrap();
    let conn = raw(folder.path());
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    conn.close().unwrap();
    let want = "open: incompatible: `DIR/abca.db` has version 99, this program knows versions up to 4; use a newer \
                abca, or another folder";
    assert_eq!(refused(folder.path()).await, (StoreErrorKind::Incompatible, want.to_owned()));
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_to_date_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let conn = raw(folder.path());
    conn.execute_batch(include_str!("fixtures/version-1.sql")).unwrap();
    conn.close().unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    let id: TaskId = "01M83NVZFGE0RFY44BJNDE8GCV".parse().unwrap();
    let found = store.load(&[id]).await.unwrap().remove(0).unwrap().task;
    assert_eq!((found.status, found.spec.test_command.as_deref()), (TaskStatus::Completed, Some("cargo test --quiet")));
    let events = store.events(&EventQuery { task: id, after: EventSeq::ZERO, limit: 100 }).await.unwrap();
    assert_eq!(events.iter().map(|e| e.seq.0).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    assert_eq!(events.first().map(|e| e.event_type), Some(EventType::TaskCreated));
    assert_eq!(events.last().map(|e| e.event_type), Some(EventType::TaskCompleted));
    assert_eq!(store.log(&LogQuery { task: id, after: 0, limit: 100 }).await.unwrap().len(), 6);
    assert!(matches!(store.submit(&[submit(task(2))]).await.unwrap()[..], [SubmitOutcome::Created(_)]));
    store.close().await.unwrap();
    let conn = raw(folder.path());
    let version = conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(version, 4);
}

#[tokio::test]
async fn somebody_elses_file_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let conn = raw(folder.path());
    conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
    conn.close().unwrap();
    let want = "open: incompatible: `DIR/abca.db` is a database of another program; choose another folder";
    assert_eq!(refused(folder.path()).await, (StoreErrorKind::Incompatible, want.to_owned()));

    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("abca.db"), "these are notes, not a database ".repeat(300)).unwrap();
    let (kind, message) = refused(folder.path()).await;
    assert_eq!(kind, StoreErrorKind::Incompatible, "{message}");
    assert!(message.contains("`DIR/abca.db`: the file is not an SQLite database"), "{message}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (kind, message) = refused(&file.join("store")).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(message.starts_with("open: unavailable: cannot make the folder `DIR`: "), "{message}");
    // `/proc` refuses new files to everybody, root too.
    let (kind, message) = refused(Path::new("/proc/self")).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(message.contains("open for writing `DIR/abca.db`"), "{message}");
}

#[tokio::test]
async fn a_damaged_file_is_corrupt_and_its_neighbours_go_on() {
    let folder = TempDir::new().unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    store.submit(&[submit(task(1)), submit(task(2))]).await.unwrap();
    store.close().await.unwrap();
    let conn = raw(folder.path());
    conn.execute("UPDATE record SET moving = '{}' WHERE id = ?", [task_id(1).to_string()]).unwrap();
    conn.close().unwrap();

    let store = Sqlite::open(folder.path()).await.unwrap();
    let error = store.load(&[task_id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.message().starts_with(&format!("the record of task `{}` cannot be read", task_id(1))), "{error}");
    // The damaged task does not stand in the way of the others, not even where only one is asked for.
    let mut claimed = store.claim(&claim(1, at(10), 1)).await.unwrap();
    claimed.extend(store.claim(&claim(1, at(10), 1)).await.unwrap());
    assert_eq!(claimed.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(2)]);
    let s = &claimed[0];
    let mut other = commit(s, note(s, at(11)), 0);
    other.task = task_id(1);
    let (bad, good) = ([other], [commit(s, note(s, at(11)), 0)]);
    let answers = join_all([store.commit(&bad), store.commit(&good)]).await;
    let kinds: Vec<_> = answers.iter().map(|a| a.as_ref().map(Vec::len).map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Err(StoreErrorKind::Corrupt), Ok(1)]);
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("new/store");
    let store = Sqlite::open(&inner).await.unwrap();
    store.submit(&[submit(task(1))]).await.unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for name in ["abca.db", "abca.db-wal", "abca.db-shm"] {
        assert_eq!(mode(&inner.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let mut config = SqliteConfig::new(folder.path());
    config.max_pages = Some(120);
    let store = Sqlite::open_with(config).await.unwrap();
    let mut kept = Vec::new();
    let full = loop {
        let n = kept.len() as u64 + 1;
        let mut task = task(n);
        task.spec.task_description = Some("x".repeat(5_000));
        match store.submit(&[submit(task)]).await {
            Ok(outcomes) => match outcomes.as_slice() {
                [SubmitOutcome::Created(s)] => kept.push(s.as_ref().clone()),
                other => panic!("want a created task, got {other:?}"),
            },
            Err(e) => break e,
        }
        assert!(kept.len() < 1_000, "the quota does not hold");
    };
    assert_eq!((full.kind(), full.is_retryable()), (StoreErrorKind::Full, true), "{full}");
    assert!(full.message().contains("free some space"), "{full}");
    // Reads go on, and what was answered is there, now and after a restart with room.
    let ids: Vec<_> = kept.iter().map(|s| s.id()).collect();
    assert_eq!(store.load(&ids).await.unwrap(), kept.iter().cloned().map(Some).collect::<Vec<_>>());
    store.close().await.unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    assert_eq!(store.load(&ids).await.unwrap(), kept.iter().cloned().map(Some).collect::<Vec<_>>());
    let next = task_id(kept.len() as u64 + 1);
    assert_eq!(store.load(&[next]).await.unwrap(), [None]);
    store.submit(&[submit(task(kept.len() as u64 + 1))]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_share_one_folder_under_load() {
    let folder = TempDir::new().unwrap();
    let opened = join_all((0..4).map(|_| Sqlite::open(folder.path()))).await;
    let stores: Vec<Sqlite> = opened.into_iter().map(Result::unwrap).collect();
    let lives = stores.iter().enumerate().flat_map(|(i, store)| {
        (1..=25u64).map(move |k| async move {
            let n = k * 4 + i as u64;
            store.submit(&[submit(task_with_slots(n, vec![limit("system", 100, false)]))]).await.unwrap();
            let mut mine = store.claim(&claim(i as u64, at(1_000), 1)).await.unwrap();
            let Some(s) = mine.pop() else { return 0 };
            match store.commit(&[commit(&s, admit(&s, at(1_001)), 0)]).await.unwrap().as_slice() {
                [CommitOutcome::Applied(_)] => 1,
                other => panic!("nobody else has this lease, but {other:?}"),
            }
        })
    });
    let done: usize = join_all(lives).await.into_iter().sum();
    assert_eq!(done, 100, "each submitted one and claimed one");
    assert_eq!(stores[0].slots().await.unwrap()[0].holders.len(), 100);
}

#[tokio::test]
async fn tasks_of_a_newer_program_are_left_to_newer_workers() {
    let folder = TempDir::new().unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    for n in 1..=6 {
        store.submit(&[submit(task(n))]).await.unwrap();
    }
    // One has a field more, one stands in a state that is not known here, one has heard a word that is not.
    let conn = raw(folder.path());
    let word = r#"{"id":"s","at":1,"format":2,"kind":{"type":"dream"}}"#;
    for (n, sql) in [
        (1, "UPDATE record SET moving = json_set(moving, '$.format', 2, '$.dream', 1) WHERE id = ?1"),
        (2, "UPDATE record SET moving = json_set(moving, '$.format', 3, '$.status', 'DREAMING') WHERE id = ?1"),
    ] {
        assert_eq!(conn.execute(sql, [task_id(n).to_string()]), Ok(1));
    }
    let sql = "INSERT INTO signal (ord, id, n, body) SELECT ord, 's', 1, ?2 FROM task WHERE id = ?1";
    assert_eq!(conn.execute(sql, [&task_id(3).to_string(), word]), Ok(1));
    let look = || {
        let sql = "SELECT group_concat(revision || ' ' || epoch || ' ' || due) FROM (SELECT s.* FROM state s ORDER BY ord LIMIT 3) s";
        conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let before = look();
    // The others behind them are found all the same, however few are asked for.
    for n in 4..=6 {
        let mine = store.claim(&claim(n, at(1_000), 1)).await.unwrap();
        assert_eq!(mine.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(n)]);
    }
    assert_eq!(store.claim(&claim(9, at(1_000), 9)).await.unwrap(), []);
    assert_eq!(store.operator().dead_letters(9).await.unwrap(), []);
    assert_eq!(look(), before, "nothing of them is touched");
    for n in 1..=3 {
        let error = store.load(&[task_id(n)]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Incompatible, "{error}");
        assert!(
            error.to_string().contains(&task_id(n).to_string()) && error.to_string().contains("upgrade"),
            "{error}"
        );
    }
    // What is damaged and says nothing of its form is put aside as before.
    let sql = "UPDATE record SET moving = json_set(moving, '$.format', 1) WHERE id = ?1";
    for n in [1, 2] {
        assert_eq!(conn.execute(sql, [task_id(n).to_string()]), Ok(1));
    }
    let upgraded = store.claim(&claim(9, at(1_000), 9)).await.unwrap();
    assert_eq!(upgraded.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(1)]);
    let letters = store.operator().dead_letters(9).await.unwrap();
    assert_eq!(letters.iter().map(|l| l.task).collect::<Vec<_>>(), [task_id(2)]);
}

#[tokio::test]
async fn a_locked_database_is_throttled_not_wedged() {
    let folder = TempDir::new().unwrap();
    let mut config = SqliteConfig::new(folder.path());
    config.busy_timeout_ms = 50;
    let store = Sqlite::open_with(config).await.unwrap();
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.submit(&[submit(task(1))]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (StoreErrorKind::Throttled, true), "{error}");
    other.execute_batch("COMMIT").unwrap();
    store.submit(&[submit(task(1))]).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_is_carried_out_and_a_closed_store_says_so() {
    let folder = TempDir::new().unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    let batch = [submit(task(1))];
    {
        let mut call = store.submit(&batch);
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    store.close().await.unwrap();
    let error = store.submit(&batch).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (StoreErrorKind::Unavailable, "the store is closed"));
    assert_eq!(store.load(&[task_id(1)]).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let store = Sqlite::open(folder.path()).await.unwrap();
    assert!(store.load(&[task_id(1)]).await.unwrap()[0].is_some(), "close flushes what was asked for");
}

#[tokio::test]
async fn reads_take_turns_and_a_dropped_one_gives_its_connection_back() {
    let folder = TempDir::new().unwrap();
    let mut config = SqliteConfig::new(folder.path());
    config.readers = 1;
    let store = Sqlite::open_with(config).await.unwrap();
    store.submit(&[submit(task(1))]).await.unwrap();
    let ids = [task_id(1)];
    for _ in 0..3 {
        let mut read = store.load(&ids);
        // Begun, and dropped whether it has ended or not.
        std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx).is_ready())).await;
    }
    let found = join_all((0..8).map(|_| store.load(&ids))).await;
    assert!(found.into_iter().all(|read| read.unwrap()[0].is_some()));
    store.close().await.unwrap();
    assert_eq!(store.slots().await.unwrap_err().message(), "the store is closed");
}

#[tokio::test]
async fn due_work_is_found_by_its_index() {
    let folder = TempDir::new().unwrap();
    let store = Sqlite::open(folder.path()).await.unwrap();
    store.close().await.unwrap();
    let conn = raw(folder.path());
    let plan = |sql: &str| {
        let mut statement = conn.prepare(sql).unwrap();
        let details = statement.query_map([], |row| row.get::<_, String>("detail")).unwrap();
        details.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    let due = "EXPLAIN QUERY PLAN SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at <= 5 \
               ORDER BY s.look_at, s.ord LIMIT 9";
    let due = plan(due);
    assert!(due.contains("state_look") && !due.contains("SCAN") && !due.contains("TEMP B-TREE"), "{due}");
    let signalled = "EXPLAIN QUERY PLAN SELECT t.id FROM (SELECT DISTINCT ord FROM signal INDEXED BY signal_waiting WHERE body IS NOT NULL) g \
                     CROSS JOIN state s ON s.ord = g.ord JOIN task t ON t.ord = s.ord WHERE s.look_at <= 5";
    let signalled = plan(signalled);
    assert!(signalled.contains("signal_waiting") && !signalled.contains("SCAN s "), "{signalled}");
    let gone = plan("EXPLAIN QUERY PLAN DELETE FROM waiting WHERE scope = 'system' AND ord = 5");
    assert!(!gone.contains("SCAN waiting"), "{gone}");
}
