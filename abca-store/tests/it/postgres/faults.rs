//! What goes wrong with a server, and what the caller is told.

use abca_core::store::{CommitOutcome, StoreErrorKind, SubmitOutcome, TaskStore};
use abca_core::testing::fixtures::{admit, at, claim, commit, limit, note, submit, task, task_id, task_with_slots};
use abca_core::testing::store::join_all;
use abca_store::{Postgres, PostgresConfig};
use sqlx::Row;

use super::{Schema, server};

async fn refused(url: &str) -> (StoreErrorKind, String) {
    let error = Postgres::open(url).await.expect_err("this must not open");
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_being_shown() {
    for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:x/d", "postgres://u:hunter2@h/d?schema=A-b"] {
        let error = PostgresConfig::new(url).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{url}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let config = PostgresConfig::new("postgres://u:hunter2@h:1/d?schema=mine").unwrap();
    assert_eq!(config.schema, "mine");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    // Nobody listens on port 1.
    let (kind, message) = refused("postgres://me:hunter2@127.0.0.1:1/mine").await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(message.contains("`127.0.0.1:1/mine`: the server cannot be reached"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let url = server().replace("/postgres?", "/nowhere?");
    let url = url.strip_suffix("/postgres").map_or(url.clone(), |base| format!("{base}/nowhere"));
    let (kind, message) = refused(&url).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(message.contains("there is no such database; create it"), "{message}");
}

#[tokio::test]
async fn tables_are_made_once_and_by_name_only() {
    let schema = Schema::unmade();
    let (kind, message) = refused(schema.url()).await;
    assert_eq!(kind, StoreErrorKind::Incompatible);
    assert!(message.contains("it has no tables yet; run `abca store init --store URL`"), "{message}");
    let config = schema.config();
    let racing = join_all((0..3).map(|_| Postgres::init(&config))).await;
    let mut before: Vec<i32> = racing.into_iter().map(Result::unwrap).collect();
    before.sort();
    assert_eq!(before, [0, Postgres::version(), Postgres::version()], "one makes them, two find them");
    Postgres::verify(&schema.config()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_somebody_elses_are_refused() {
    let schema = Schema::new().await;
    schema.raw("INSERT INTO version (version) VALUES (99)").await;
    let (kind, message) = refused(schema.url()).await;
    assert_eq!(kind, StoreErrorKind::Incompatible);
    let known = format!("it has version 99, this program knows versions up to {}", Postgres::version());
    assert!(message.contains(&known), "{message}");
    assert_eq!(Postgres::init(&schema.config()).await.unwrap_err().kind(), StoreErrorKind::Incompatible);

    let schema = Schema::unmade();
    schema.raw(&format!("CREATE SCHEMA {0}; CREATE TABLE {0}.theirs (x int)", schema.name())).await;
    let error = Postgres::init(&schema.config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Incompatible);
    assert!(error.message().contains("it holds tables of another program"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_needs_no_more_than_the_least_privileges() {
    let schema = Schema::new().await;
    let role = format!("worker_{}", schema.name());
    schema.raw(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")).await;
    let (_, place) = schema.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:hunter2@{place}");
    assert_eq!(refused(&url).await.0, StoreErrorKind::Unavailable);
    schema.raw(&Postgres::grants(&schema.config(), &role)).await;
    let store = Postgres::open(&url).await.unwrap();
    let slots = vec![limit("system", 1, false)];
    store.submit(&[submit(task_with_slots(1, slots))]).await.unwrap();
    let s = store.claim(&claim(1, at(1_000), 1)).await.unwrap().remove(0);
    let admitted = store.commit(&[commit(&s, admit(&s, at(1_001)), 0)]).await.unwrap().remove(0);
    assert!(matches!(admitted, CommitOutcome::Applied(_)), "{admitted:?}");
    assert_eq!(store.operator().purge(at(5_000), 9).await.unwrap(), 0);
    store.close().await.unwrap();
    schema.raw(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_made_anew() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    for n in 1..=20u64 {
        // Every connection to this schema's store but our own, also in the middle of something.
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND \
                   application_name = 'abca' AND query LIKE '%' || current_schema() || '%'";
        let batch = [submit(task(n))];
        let (submitted, ()) = tokio::join!(store.submit(&batch), schema.raw(cut));
        match submitted {
            Ok(outcomes) => assert!(matches!(outcomes[..], [SubmitOutcome::Created(_)]), "{outcomes:?}"),
            Err(e) => {
                assert!(e.is_retryable(), "{e}");
                store.submit(&batch).await.unwrap();
            }
        }
    }
    let ids: Vec<_> = (1..=20).map(task_id).collect();
    assert!(store.load(&ids).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn a_server_that_becomes_read_only_is_unavailable_and_then_works_on() {
    let schema = Schema::new().await;
    let role = format!("reader_{}", schema.name());
    schema.raw(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
    schema.raw(&Postgres::grants(&schema.config(), &role)).await;
    let (_, place) = schema.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:x@{place}");
    let store = Postgres::open(&url).await.unwrap();
    store.submit(&[submit(task(1))]).await.unwrap();
    schema.raw(&format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await;
    let (kind, message) = refused(&url).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(message.contains("read-only"), "{message}");
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    schema.raw(&cut).await;
    let error = store.submit(&[submit(task(2))]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("the server is read-only; connect to the primary"), "{error}");
    schema.raw(&format!("ALTER ROLE {role} SET default_transaction_read_only = off; {cut}")).await;
    store.submit(&[submit(task(2))]).await.unwrap();
    store.close().await.unwrap();
    schema.raw(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn no_connection_left_is_throttled() {
    let schema = Schema::new().await;
    let role = format!("few_{}", schema.name());
    schema.raw(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD 'x'")).await;
    let (_, place) = schema.url().split_once('@').unwrap();
    let (kind, message) = refused(&format!("postgres://{role}:x@{place}")).await;
    assert_eq!(kind, StoreErrorKind::Throttled, "{message}");
    schema.raw(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn tasks_of_a_newer_program_are_left_to_newer_workers() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    for n in 1..=3 {
        store.submit(&[submit(task(n))]).await.unwrap();
    }
    let newer = r#"jsonb_set(jsonb_set(moving::jsonb, '{format}', '2'), '{status}', '"DREAMING"')::text"#;
    schema.raw(&format!("UPDATE record SET moving = {newer} WHERE id = '{}'", task_id(1))).await;
    let store = schema.open().await;
    for n in [2, 3] {
        let mine = store.claim(&claim(n, at(1_000), 1)).await.unwrap();
        assert_eq!(mine.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(n)]);
    }
    assert_eq!(store.claim(&claim(9, at(1_000), 9)).await.unwrap(), []);
    assert_eq!(store.operator().dead_letters(9).await.unwrap(), []);
    assert_eq!(store.load(&[task_id(1)]).await.unwrap_err().kind(), StoreErrorKind::Incompatible);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_nonsense_becomes_a_dead_letter_and_its_neighbours_go_on() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.submit(&[submit(task(1)), submit(task(2))]).await.unwrap();
    schema.raw(&format!("UPDATE record SET moving = '{{}}' WHERE id = '{}'", task_id(1))).await;
    schema.raw("UPDATE state SET v = v + 1").await;
    let error = store.load(&[task_id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let mut claimed = store.claim(&claim(1, at(1_000), 1)).await.unwrap();
    claimed.extend(store.claim(&claim(1, at(1_000), 1)).await.unwrap());
    assert_eq!(claimed.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(2)]);
    let letters = store.operator().dead_letters(9).await.unwrap();
    assert_eq!(letters.iter().map(|l| l.task).collect::<Vec<_>>(), [task_id(1)]);
    assert!(letters[0].reason.contains("cannot be read"), "{letters:?}");
    let s = &claimed[0];
    let mut other = commit(s, note(s, at(1_001)), 0);
    other.task = task_id(1);
    let (bad, good) = ([other], [commit(s, note(s, at(1_001)), 0)]);
    let answers = join_all([store.commit(&bad), store.commit(&good)]).await;
    let kinds: Vec<_> = answers.iter().map(|a| a.as_ref().map(Vec::len).map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Err(StoreErrorKind::Corrupt), Ok(1)]);
    let error = store.operator().revive(task_id(1), at(1_002)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(store.operator().discard(task_id(1), at(1_003)).await.unwrap());
    assert_eq!(store.load(&[task_id(1)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn two_owners_of_one_place_are_refused_by_the_tables_themselves() {
    let schema = Schema::new().await;
    let mut conn = schema.connect().await;
    let take = "INSERT INTO slot (scope, place, cap, ord) VALUES ('s', $1, 2, $2)";
    for (place, ord, fits) in [(0_i64, 1_i64, true), (0, 2, false), (1, 2, true), (2, 3, false)] {
        let taken = sqlx::query(take).bind(place).bind(ord).execute(&mut conn).await;
        assert_eq!(taken.is_ok(), fits, "place {place} for task {ord}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_is_carried_out_and_a_closed_store_says_so() {
    let schema = Schema::new().await;
    let store = schema.open().await;
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
    let store = schema.open().await;
    assert!(store.load(&[task_id(1)]).await.unwrap()[0].is_some(), "close flushes what was asked for");
}

#[tokio::test]
async fn a_weaker_commit_of_the_server_is_not_taken_over() {
    let schema = Schema::new().await;
    let mut conn = schema.connect().await;
    // A transaction of the store says for itself how durable it must be.
    sqlx::raw_sql("SET synchronous_commit = off; BEGIN; SET LOCAL synchronous_commit = on")
        .execute(&mut conn)
        .await
        .unwrap();
    let row = sqlx::query("SELECT current_setting('synchronous_commit')").fetch_one(&mut conn).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "on");
}

#[tokio::test]
async fn a_partition_is_there_for_every_task_before_it_is_needed() {
    let schema = Schema::new().await;
    schema.raw("SELECT setval('task_ord', 5000000)").await;
    let store = schema.open().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    store.submit(&[submit(task(2))]).await.unwrap();
    assert!(store.load(&[task_id(2)]).await.unwrap()[0].is_some());
}

/// A server of a test's own, removed with it.
struct Server(tempfile::TempDir);

impl Server {
    fn run(&self, what: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres");
        // Ports of servers for other tests lie elsewhere, and so do those that the kernel gives to whoever connects.
        let port = 20_000 + std::process::id() % 12_000;
        let out = std::process::Command::new("bash")
            .args([script, what])
            .env("ABCA_POSTGRES_DIR", self.0.path().join("server"))
            .env("ABCA_POSTGRES_PORT", port.to_string())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_nothing_that_was_answered_and_is_found_again() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::TempDir::new().unwrap();
    // The server is another user's.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = std::sync::Arc::new(Server(folder));
    let url = server.run("start");
    let config = PostgresConfig::new(&url).unwrap();
    Postgres::init(&config).await.unwrap();
    let store = Postgres::open_with(config).await.unwrap();
    let (crashed, full_swing) = (std::sync::atomic::AtomicBool::new(false), tokio::sync::Notify::new());
    let write = async {
        let (mut kept, mut after) = (Vec::new(), 0);
        for n in 1..=30 {
            store.submit(&[submit(task(n))]).await.unwrap();
            kept.push(task_id(n));
        }
        full_swing.notify_one();
        for n in 31.. {
            match store.submit(&[submit(task(n))]).await {
                Ok(_) => {
                    kept.push(task_id(n));
                    after += u32::from(crashed.load(std::sync::atomic::Ordering::Relaxed));
                }
                Err(e) => assert!(e.is_retryable(), "{e}"),
            }
            if after == 20 {
                break;
            }
        }
        kept
    };
    let crash = async {
        full_swing.notified().await;
        let server = server.clone();
        tokio::task::spawn_blocking(move || server.run("crash")).await.unwrap();
        crashed.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (kept, ()) = tokio::join!(write, crash);
    let there = store.load(&kept).await.unwrap();
    assert!(there.iter().all(Option::is_some), "all that was answered is there");
    store.close().await.unwrap();
}

/// Once a table has statistics plans are made anew: what is asked for often must not begin to read everybody who waits.
#[tokio::test]
async fn with_many_who_wait_a_scope_is_entered_by_reading_a_few_pages() {
    let schema = Schema::new().await;
    let mut conn = schema.connect().await;
    // In the order in which batches write them.
    let fill = "INSERT INTO waiting (scope, ord, usr, denied, cap) \
                SELECT s, i, 'ann', false, 9 FROM generate_series(1, 30000) i, unnest('{system,user:ann}'::text[]) s \
                ORDER BY i / 500, s; \
                ANALYZE waiting; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
                SET enable_mergejoin = off";
    sqlx::raw_sql(fill).execute(&mut conn).await.unwrap();
    let enter = r#"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM enter('["system", "user:bob", "repo:r"]', '{}', '{}', 3, false)"#;
    let lanes = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM lanes('system', 'ann', 0, 0, 256)";
    for text in [enter, lanes] {
        // The first time the catalogue is read as well.
        for _ in 0..2 {
            sqlx::query(text).fetch_one(&mut conn).await.unwrap();
        }
        let plan: serde_json::Value = sqlx::query_scalar(text).fetch_one(&mut conn).await.unwrap();
        let blocks = |name: &str| plan[0]["Plan"][name].as_u64().unwrap();
        let read = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
        assert!(read < 100, "{read} pages: {plan}");
    }
}
