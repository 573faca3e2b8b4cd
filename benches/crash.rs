//! The worker that `benches/peers/crash.sh` kills: abca's orchestrator, with the submitting side in the same process, as with the peers.
//!
//! Called as `serve PORT STORE-URL STATE-FOLDER`. A line with a number is a task, submitted under that number as its idempotency key and
//! awaited. The two parts of a life that are not the store's leave a mark outside: preparation, and the session, which runs in this
//! process and dies with it.

mod common;
#[path = "peers/durable/src/door.rs"]
mod door;

use std::sync::Arc;
use std::time::{Duration, Instant};

use abca::orchestrator::{PrepareFailure, Preparer};
use abca::{Abca, NewTask, StoreUrl, UserId};
use abca_compute::{InProcess as InProcessCompute, SessionRunner};
use abca_core::blueprint::PlatformDefaults;
use abca_core::compute::StartSession;
use abca_core::link::SessionLink;
use abca_core::task::{Prepared, Task};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use common::{Ready, report};

/// Before a session says again what was not heard.
const AGAIN: Duration = Duration::from_millis(50);

fn main() {
    let Some(port) = door::asked() else {
        println!("crash: is run by benches/peers/crash.sh");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let abca = open().await;
        door::serve(port, move |n| life(abca.clone(), n)).await;
    });
}

async fn open() -> Abca {
    let mut args = std::env::args().skip(3);
    let (url, state) = (args.next().expect("a store"), args.next().expect("a state folder"));
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        let config = abca_store::PostgresConfig::new(&url).unwrap();
        abca_store::Postgres::init(&config).await.unwrap();
    }
    let url: StoreUrl = url.parse().unwrap();
    let mut platform = PlatformDefaults::default();
    platform.max_concurrent_tasks = 1_000;
    platform.max_concurrent_tasks_per_user = 3;
    let began = Instant::now();
    loop {
        let built = Abca::builder()
            .state_dir(&state)
            .store_url(url.clone())
            .compute_with(|platform| Ok(Arc::new(InProcessCompute::new(Arc::new(Brief(platform.link.clone()))))))
            .preparer(Arc::new(Marked))
            .platform(platform.clone())
            .build()
            .await;
        match built {
            Ok(abca) => return abca,
            Err(error) if error.is_retryable() && began.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn life(abca: Abca, n: u64) -> Result<String, String> {
    let user = UserId::new(format!("user-{}", n % 1_000)).unwrap();
    let task = NewTask::new("acme/web", "nothing").idempotency_key(format!("t{n}"));
    let task = abca.submit_as(&user, task).await.map_err(|e| e.to_string())?;
    let outcome = task.outcome().await.map_err(|e| e.to_string())?;
    if outcome.is_success() { Ok(task.id().to_string()) } else { Err(format!("{outcome:?}")) }
}

/// Prepares at once, and leaves a mark.
#[derive(Debug)]
struct Marked;

#[async_trait]
impl Preparer for Marked {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        door::mark(task.id, "prepare");
        Ready.prepare(task).await
    }
}

/// A session that registers, does its one piece of work, and reports. What the store could not hear it says again.
#[derive(Debug)]
struct Brief(Arc<dyn SessionLink>);

#[async_trait]
impl SessionRunner for Brief {
    async fn run(&self, request: StartSession, _stop: CancellationToken) -> i32 {
        while let Err(error) = self.0.register(request.task, &request.session).await {
            if !error.is_retryable() {
                return 1;
            }
            tokio::time::sleep(AGAIN).await;
        }
        door::mark(request.task, "session");
        while let Err(error) = self.0.report(request.task, &request.session, &report()).await {
            if !error.is_retryable() {
                return 1;
            }
            tokio::time::sleep(AGAIN).await;
        }
        0
    }
}
