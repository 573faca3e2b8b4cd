//! The stores against the suite that every store must pass.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use abca_core::store::TaskStore;
use abca_core::testing::store::{StoreHarness, cases, run};
use abca_store::InProcess;
use async_trait::async_trait;

struct Memory;

#[async_trait]
impl StoreHarness for Memory {
    async fn fresh(&self) -> Arc<dyn TaskStore> {
        Arc::new(InProcess::new())
    }
}

#[tokio::test]
async fn in_process_keeps_the_contract() {
    let skips = [
        "keeping::everything_survives_reopening",
        "keeping::order_survives_reopening",
        "keeping::two_handles_see_each_other",
        "keeping::two_handles_race_for_claims_and_commits",
    ];
    let report = run(&Memory, &skips).await;
    assert_eq!(report.passed.len() + skips.len(), cases().len());
}

#[cfg(feature = "sqlite")]
pub(super) mod sqlite {
    use abca_store::Sqlite;
    use tempfile::TempDir;

    use super::*;

    type Opened = (Arc<TempDir>, Arc<Sqlite>);

    /// Stores in folders of their own, found again by the store's address.
    #[derive(Default)]
    pub(crate) struct Folders(Mutex<BTreeMap<usize, Opened>>);

    impl Folders {
        async fn open(&self, folder: Arc<TempDir>) -> Arc<dyn TaskStore> {
            let store = Arc::new(Sqlite::open(folder.path()).await.unwrap());
            let address = Arc::as_ptr(&store) as usize;
            self.0.lock().unwrap().insert(address, (folder, store.clone()));
            store
        }

        fn known(&self, store: &Arc<dyn TaskStore>) -> Opened {
            let address = Arc::as_ptr(store).cast::<()>() as usize;
            self.0.lock().unwrap().get(&address).expect("a store of this harness").clone()
        }
    }

    #[async_trait]
    impl StoreHarness for Folders {
        async fn fresh(&self) -> Arc<dyn TaskStore> {
            self.open(Arc::new(TempDir::new().unwrap())).await
        }

        async fn reopen(&self, store: Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
            let (folder, sqlite) = self.known(&store);
            sqlite.close().await.unwrap();
            self.open(folder).await
        }

        async fn second(&self, store: &Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
            self.open(self.known(store).0).await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite_keeps_the_contract() {
        let report = run(&Folders::default(), &[]).await;
        assert_eq!(report.passed.len(), cases().len());
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use abca_store::Postgres;

    use super::*;
    use crate::postgres::Schema;

    type Opened = (Arc<Schema>, Arc<Postgres>);

    /// Stores in schemas of their own, found again by the store's address.
    #[derive(Default)]
    struct Schemas(Mutex<BTreeMap<usize, Opened>>);

    impl Schemas {
        async fn open(&self, schema: Arc<Schema>) -> Arc<dyn TaskStore> {
            let store = Arc::new(schema.open().await);
            let address = Arc::as_ptr(&store) as usize;
            self.0.lock().unwrap().insert(address, (schema, store.clone()));
            store
        }

        fn known(&self, store: &Arc<dyn TaskStore>) -> Opened {
            let address = Arc::as_ptr(store).cast::<()>() as usize;
            self.0.lock().unwrap().get(&address).expect("a store of this harness").clone()
        }
    }

    #[async_trait]
    impl StoreHarness for Schemas {
        async fn fresh(&self) -> Arc<dyn TaskStore> {
            // What the last case used is not asked for any more.
            let before = std::mem::take(&mut *self.0.lock().unwrap());
            for (_, store) in before.into_values() {
                // Its harness may have closed it.
                let _ = store.close().await;
            }
            self.open(Arc::new(Schema::new().await)).await
        }

        async fn reopen(&self, store: Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
            let (schema, postgres) = self.known(&store);
            postgres.close().await.unwrap();
            self.open(schema).await
        }

        async fn second(&self, store: &Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
            self.open(self.known(store).0).await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres_keeps_the_contract() {
        let report = run(&Schemas::default(), &[]).await;
        assert_eq!(report.passed.len(), cases().len());
    }
}
