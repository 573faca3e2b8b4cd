//! A real PostgreSQL, and what goes wrong with one.

mod faults;
mod link;
mod races;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use abca_core::store::TaskStore;
use abca_core::testing::store::{StoreHarness, cases, run};
use abca_store::{Postgres, PostgresConfig};
use async_trait::async_trait;
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A schema of a test's own, dropped with it.
pub(crate) struct Schema {
    name: String,
    url: String,
}

/// The server's URL. There is no test without a server: nothing is skipped silently.
pub(crate) fn server() -> String {
    std::env::var("ABCA_TEST_POSTGRES").expect(
        "ABCA_TEST_POSTGRES is the URL of a PostgreSQL for tests: ABCA_TEST_POSTGRES=$(scripts/postgres start) cargo nextest run …",
    )
}

impl Schema {
    /// The name of one that is not there yet.
    pub(crate) fn unmade() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = server();
        let url = format!("{server}{}schema={name}", if server.contains('?') { '&' } else { '?' });
        Self { name, url }
    }

    pub(crate) async fn new() -> Self {
        let schema = Self::unmade();
        // A process of an earlier run may have had our number.
        schema.raw(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema.name)).await;
        Postgres::init(&schema.config()).await.unwrap();
        schema
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig::new(&self.url).unwrap()
    }

    pub(crate) async fn open(&self) -> Postgres {
        Postgres::open_with(self.config()).await.unwrap()
    }

    /// A connection beside the store's, that finds the schema's tables.
    pub(crate) async fn connect(&self) -> PgConnection {
        let mut conn = PgConnection::connect(&server()).await.unwrap();
        let path = format!("SET search_path = {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut conn).await.unwrap();
        conn
    }

    pub(crate) async fn raw(&self, sql: &str) {
        let mut conn = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        let drop = async move {
            let mut conn = PgConnection::connect(&server()).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await
        };
        // A runtime cannot wait inside another.
        let done = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(drop)
        });
        // What is left of a failed test harms no other.
        let _ = done.join();
    }
}

/// Stores in one schema, emptied for each: to make one takes longer than most cases. Handles are found again by the
/// store's address.
struct Stores {
    schema: Schema,
    open: Mutex<BTreeMap<usize, Arc<Postgres>>>,
}

impl Stores {
    async fn new() -> Self {
        Self { schema: Schema::new().await, open: Mutex::default() }
    }

    /// Second handles act as behind a pooler.
    async fn another(&self, pooled: bool) -> Arc<dyn TaskStore> {
        let mut config = self.schema.config();
        (config.bell, config.pooled) = (false, pooled);
        let store = Arc::new(Postgres::open_with(config).await.unwrap());
        self.open.lock().unwrap().insert(Arc::as_ptr(&store) as usize, store.clone());
        store
    }

    async fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        for store in open.into_values() {
            // A case may have closed it.
            let _ = store.close().await;
        }
    }
}

#[async_trait]
impl StoreHarness for Stores {
    async fn fresh(&self) -> Arc<dyn TaskStore> {
        self.close().await;
        let tables = ["task", "record", "state", "woken", "signal", "slot", "waiting", "dead", "event", "log"];
        self.schema.raw(&tables.map(|t| format!("DELETE FROM {t}")).join("; ")).await;
        self.another(false).await
    }

    async fn reopen(&self, store: Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        let known = self.open.lock().unwrap().remove(&(Arc::as_ptr(&store).cast::<()>() as usize));
        known.expect("a store of this harness").close().await.unwrap();
        self.another(false).await
    }

    async fn second(&self, _: &Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        self.another(true).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let report = run(&Stores::new().await, &[]).await;
    assert_eq!(report.passed.len(), cases().len());
}

#[test]
fn postgres_answers_as_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stores = runtime.block_on(Stores::new());
    let config = ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() };
    proptest!(config, |(ops in prop::collection::vec(crate::differential::op_of_operators(), 1..70))| {
        crate::differential::compare_with_operators(&stores, &ops);
    });
}
