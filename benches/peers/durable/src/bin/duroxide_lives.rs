//! duroxide on SQLite: `duroxide_lives SECONDS IN_FLIGHT FOLDER`.

use std::sync::Arc;
use std::time::Duration;

use abca_durable_peers::{STEPS, lives, number};
use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{self, RuntimeOptions};
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry};

#[tokio::main]
async fn main() {
    let file = format!("{}/duroxide.db", std::env::args().nth(3).expect("a folder"));
    std::fs::File::create(&file).unwrap();
    let store = Arc::new(SqliteProvider::new(&format!("sqlite:{file}"), None).await.unwrap());
    let mut activities = ActivityRegistry::builder();
    for step in STEPS {
        activities = activities.register(step, |_: ActivityContext, text: String| async move { Ok(text) });
    }
    let task = |ctx: OrchestrationContext, text: String| async move {
        let mut text = text;
        for step in STEPS {
            text = ctx.schedule_activity(step, text).await?;
        }
        Ok::<_, String>(text)
    };
    let orchestrations = OrchestrationRegistry::builder().register("task", task).build();
    let mut options = RuntimeOptions::default();
    options.orchestration_concurrency = 4;
    options.worker_concurrency = 4;
    let running = runtime::Runtime::start_with_options(store.clone(), activities.build(), orchestrations, options).await;
    lives("duroxide (sqlite)", number(1, 5), number(2, 16), move |i| {
        let client = Client::new(store.clone());
        async move {
            let id = format!("t{i}");
            if client.start_orchestration(&id, "task", "x").await.is_ok() {
                let _ = client.wait_for_orchestration(&id, Duration::from_secs(60)).await;
            }
        }
    })
    .await;
    running.shutdown(Some(100)).await;
    std::process::exit(0);
}
