//! duroxide on SQLite: `duroxide_lives SECONDS IN_FLIGHT FOLDER`, or `duroxide_lives serve PORT FOLDER` for `crash`.

use std::sync::Arc;
use std::time::Duration;

use abca_durable_peers::{STEPS, door, lives, number};
use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{self, OrchestrationStatus, RuntimeOptions};
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry};

#[tokio::main]
async fn main() {
    let file = format!("{}/duroxide.db", std::env::args().nth(3).expect("a folder"));
    std::fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
    let store = Arc::new(SqliteProvider::new(&format!("sqlite:{file}"), None).await.unwrap());
    let mut activities = ActivityRegistry::builder();
    for step in STEPS {
        activities = activities.register(step, move |_: ActivityContext, text: String| async move {
            door::mark(&text, step);
            Ok(text)
        });
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
    let running =
        runtime::Runtime::start_with_options(store.clone(), activities.build(), orchestrations, options).await;
    if let Some(port) = door::asked() {
        return door::serve(port, move |i| one(Client::new(store.clone()), i)).await;
    }
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

/// A task that may have been begun before.
async fn one(client: Client, i: u64) -> Result<String, String> {
    let id = format!("t{i}");
    let known = client.get_orchestration_status(&id).await.map_err(|e| e.to_string())?;
    if matches!(known, OrchestrationStatus::NotFound) {
        client.start_orchestration(&id, "task", i.to_string()).await.map_err(|e| e.to_string())?;
    }
    match client.wait_for_orchestration(&id, Duration::from_secs(60)).await {
        Ok(OrchestrationStatus::Completed { .. }) => Ok(i.to_string()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}
