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
