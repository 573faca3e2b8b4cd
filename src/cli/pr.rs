//! `pr show`, `pr list`: the local forge, readable.

use abca_core::TaskId;
use abca_core::git::{GitProvider, ListPullRequests, Numbered, RepoRef};

use super::args::PrCommand;
use super::common::{Failed, Output, Place, chain, find, looking, repo_name};
use super::{is_json, print_json, show};

pub(super) async fn pr(state: Place, output: Output, command: PrCommand) -> Result<u8, Failed> {
    match command {
        PrCommand::Show { which, repo } => {
            let (number, repo) = match which.trim_start_matches('#').parse::<u64>() {
                Ok(number) => (number, reference(&repo_name(&repo)?)?),
                Err(_) if which.parse::<TaskId>().is_ok() => of_task(state, &which).await?,
                Err(_) => return Err(Failed::new(2, format!("`{which}` is neither a number nor a task's id"))),
            };
            let pr = forge()?.pull_request(&Numbered { repo, number }).await.map_err(|e| Failed::new(1, chain(&e)))?;
            if is_json(output) {
                print_json(&pr)?;
            } else {
                show::pull_request(&pr);
            }
        }
        PrCommand::List { repo } => {
            let query = ListPullRequests { repo: reference(&repo_name(&repo)?)?, head: None, state: None, limit: 100 };
            let all = forge()?.pull_requests(&query).await.map_err(|e| Failed::new(1, chain(&e)))?;
            if is_json(output) {
                print_json(&all)?;
            } else {
                show::pull_requests(&all);
            }
        }
    }
    Ok(0)
}

/// The local forge of this machine.
pub(super) fn forge() -> Result<std::sync::Arc<dyn GitProvider>, Failed> {
    let clock = std::sync::Arc::new(crate::clock::SystemClock);
    crate::forge::ForgeSettings::default().connect(clock).map_err(|e| Failed::new(1, chain(&e)))
}

fn reference(repo: &str) -> Result<RepoRef, Failed> {
    repo.parse().map_err(|e| Failed::new(2, format!("{e}")))
}

async fn of_task(state: Place, task: &str) -> Result<(u64, RepoRef), Failed> {
    let abca = looking(state).await?;
    let record = find(&abca, task).await?.record().await?;
    let pr = record.report.and_then(|r| r.into_inner().pull_request);
    match (pr, record.spec.into_inner().repo) {
        (Some(pr), Some(repo)) => Ok((pr.number, repo)),
        _ => Err(Failed::new(1, format!("task {task} is {} and has no pull request", record.status))),
    }
}
