//! The four verbs. `cargo run --example embed -- REPO MODEL "what to do"`, e.g. with `replay:FILE` as the model, or with
//! `--features anthropic` and `anthropic:claude-sonnet-4-6`.

use abca::{Abca, ModelSettings, NewTask};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    abca::init(); // First: sessions and their tools are processes of this very program.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [repo, model, what] = args.as_slice() else { return Err("usage: embed REPO MODEL \"what to do\"".into()) };
    let mut models = ModelSettings::from_variables(|name| std::env::var(name).ok());
    models.model = Some(model.clone());
    let repo = std::fs::canonicalize(repo)?.to_string_lossy().into_owned();

    tokio::runtime::Runtime::new()?.block_on(async {
        let abca = Abca::builder().state_dir("./.abca").models(models).build().await?;
        let task = abca.submit(NewTask::new(repo, what)).await?;
        let mut events = task.events();
        while let Some(event) = events.next().await {
            println!("{}", event?);
        }
        let outcome = task.outcome().await?;
        println!("{} for {}: {:?}", outcome.status, outcome.cost, outcome.pull_request);
        abca.shutdown().await;
        Ok(())
    })
}
