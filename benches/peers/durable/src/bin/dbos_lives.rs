//! DBOS on PostgreSQL: `dbos_lives SECONDS IN_FLIGHT URL`.

use std::sync::Arc;

use abca_durable_peers::{STEPS, kilobyte, lives, number};
use dbos::{Config, DBOS};

async fn one(step: &'static str) -> dbos::Result<String> {
    Ok(if matches!(step, "hydrate" | "finalize") { kilobyte() } else { "1".to_owned() })
}

async fn task(i: u64) -> dbos::Result<u64> {
    let mut size = 0;
    for step in STEPS {
        size += dbos::step(step, || one(step)).await?.len() as u64;
    }
    Ok(size + i - i)
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(3).expect("an URL");
    let config = Config { app_version: Some("1".into()), ..Config::new("bench", url) };
    let dbos = Arc::new(DBOS::new(config));
    let workflow = Arc::new(dbos.register_workflow("task", task).unwrap());
    dbos.launch().await.unwrap();
    lives("dbos (rust)", number(1, 5), number(2, 16), move |i| {
        let workflow = workflow.clone();
        async move {
            workflow.run(i).await.unwrap();
        }
    })
    .await;
    std::process::exit(0);
}
