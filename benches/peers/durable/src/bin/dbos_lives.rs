//! DBOS on PostgreSQL: `dbos_lives SECONDS IN_FLIGHT URL`, or `dbos_lives serve PORT URL` for `crash`.

use std::sync::Arc;

use abca_durable_peers::{STEPS, door, kilobyte, lives, number};
use dbos::{Config, DBOS, RunOptions};

async fn one(i: u64, step: &'static str) -> dbos::Result<String> {
    door::mark(i, step);
    Ok(if matches!(step, "hydrate" | "finalize") { kilobyte() } else { "1".to_owned() })
}

async fn task(i: u64) -> dbos::Result<u64> {
    let mut size = 0;
    for step in STEPS {
        size += dbos::step(step, || one(i, step)).await?.len() as u64;
    }
    Ok(size + i - i)
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(3).expect("an URL");
    let config = Config { app_version: Some("1".into()), ..Config::new("bench", url) };
    let dbos = Arc::new(DBOS::new(config));
    let workflow = Arc::new(dbos.register_workflow("task", task).unwrap());
    // Puts what another process of this name and version left behind on its queue.
    dbos.launch().await.unwrap();
    if let Some(port) = door::asked() {
        let life = move |i: u64| {
            let workflow = workflow.clone();
            async move {
                let id = format!("t{i}");
                let options = RunOptions { workflow_id: Some(&id), ..RunOptions::default() };
                workflow.run_with(i, options).await.map(|_| i.to_string()).map_err(|e| e.to_string())
            }
        };
        return door::serve(port, life).await;
    }
    lives("dbos (rust)", number(1, 5), number(2, 16), move |i| {
        let workflow = workflow.clone();
        async move {
            workflow.run(i).await.unwrap();
        }
    })
    .await;
    std::process::exit(0);
}
