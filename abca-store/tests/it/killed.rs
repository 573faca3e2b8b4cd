//! A process that is killed in the middle of its work: what it was told is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use abca_core::store::{CommitOutcome, TaskStore};
use abca_core::testing::fixtures::{admit, at, claim, commit, note, submit, task, task_id};

/// How the child learns that it is one, and where its store is: a folder, or a URL.
const STORE: &str = "ABCA_STORE_TEST_PLACE";
/// Enough acknowledgements to be in full swing, of several writers.
const ACKNOWLEDGED: usize = 400;

async fn open(place: &str) -> Arc<dyn TaskStore> {
    #[cfg(feature = "postgres")]
    if place.starts_with("postgres://") {
        return Arc::new(abca_store::Postgres::open(place).await.unwrap());
    }
    #[cfg(feature = "sqlite")]
    return Arc::new(abca_store::Sqlite::open(place).await.unwrap());
    #[cfg(not(feature = "sqlite"))]
    panic!("no store for `{place}`");
}

/// The child: writes and says so, for ever. As a test of its own it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(place) = std::env::var_os(STORE) else { return };
    let store = open(place.to_str().unwrap()).await;
    let writers = (0..8u64).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (0..).map(|k| 1 + w + 8 * k) {
                store.submit(&[submit(task(n))]).await.unwrap();
                println!("submitted {n} 1");
                let query = abca_core::store::ClaimQuery { task: Some(task_id(n)), ..claim(w, at(n), 1) };
                let mut s = store.claim(&query).await.unwrap().pop().unwrap();
                for step in 2..5 {
                    let change = if step == 2 { admit(&s, at(n)) } else { note(&s, at(n)) };
                    match store.commit(&[commit(&s, change, 0)]).await.unwrap().pop() {
                        Some(CommitOutcome::Applied(now)) => s = *now,
                        other => panic!("{other:?}"),
                    }
                    println!("committed {n} {}", s.revision);
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

async fn what_was_acknowledged_survives(place: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--nocapture"])
        .env(STORE, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut revisions = std::collections::BTreeMap::new();
    let mut count = 0;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        // The harness may write its own words in front of ours.
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., "submitted" | "committed", n, revision] = words.as_slice() {
            let (n, revision): (u64, u64) = (n.parse().unwrap(), revision.parse().unwrap());
            let known = revisions.entry(n).or_insert(0);
            *known = revision.max(*known);
            count += 1;
        }
        if count == ACKNOWLEDGED {
            // SIGKILL; what it still writes into the pipe until then is read and counted too.
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(count >= ACKNOWLEDGED);

    let store = open(place).await;
    for (n, revision) in &revisions {
        let s = store.load(&[task_id(*n)]).await.unwrap().pop().flatten();
        let s = s.unwrap_or_else(|| panic!("task {n} was acknowledged and is gone"));
        assert!(s.revision >= *revision, "task {n} is at {}, {revision} was acknowledged", s.revision);
    }
    // It goes on from there.
    store.submit(&[submit(task(1_000_000))]).await.unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_sqlite_acknowledged_survives_sigkill() {
    let folder = tempfile::TempDir::new().unwrap();
    what_was_acknowledged_survives(folder.path().to_str().unwrap()).await;
    let conn = rusqlite::Connection::open(folder.path().join("abca.db")).unwrap();
    let check = conn.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(check, "ok");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_postgres_acknowledged_survives_sigkill() {
    let schema = crate::postgres::Schema::new().await;
    what_was_acknowledged_survives(schema.url()).await;
}
