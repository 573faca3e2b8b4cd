//! What came of a session that is over: its log first, and the forge where the log leaves a doubt.
//!
//! A session writes down which commit it is about to push before it pushes, so a log without that says that nothing was
//! delivered, and costs no question to a forge. Between that and its report lies the doubt.

use std::sync::Arc;

use abca_core::git::{Branch, GitError, GitProvider, ListBranches, ListPullRequests, RepoRef};
use abca_core::prompt::task_of;
use abca_core::session::SessionState;
use abca_core::store::{LogQuery, StoreError, TaskStore};
use abca_core::task::{Delivery, PullRequestRef, Task};
use abca_core::{Millis, TaskId};

use super::seams::{OnForge, Preparer};
use crate::session::delivered_report;

/// Records of a session's log read at once.
const LOG_PAGE: usize = 500;
/// Pull requests of one branch that are looked at, newest first: as a rule there is one.
const PULLS: usize = 20;

/// The state of a task's session, as its log tells.
pub(crate) async fn session_state(store: &dyn TaskStore, task: TaskId) -> Result<SessionState, StoreError> {
    let mut state = SessionState::default();
    let mut after = 0;
    loop {
        let page = store.log(&LogQuery { task, after, limit: LOG_PAGE }).await?;
        page.iter().for_each(|(_, record)| state.apply(&record.entry));
        match page.last() {
            Some((last, _)) if page.len() >= LOG_PAGE => after = *last,
            Some(_) | None => return Ok(state),
        }
    }
}

/// Finds out whether the work of a task whose session is over is delivered.
pub(super) async fn delivery(store: &dyn TaskStore, preparer: &dyn Preparer, limit: Millis, task: &Task) -> Delivery {
    let state = match session_state(store, task.id).await {
        Ok(state) => state,
        Err(error) if error.is_retryable() => return Delivery::NoAnswer { message: error.to_string() },
        Err(error) => {
            tracing::warn!(task = %task.id, %error, "the log does not tell whether the work is delivered");
            return Delivery::Unknowable;
        }
    };
    // What was delivered stays delivered, whatever people have done with it since.
    if let (Some((branch, sha)), Some(pull_request)) = (&state.pushed, &state.pull_request) {
        return Delivery::Proposed(Box::new(delivered_report(task.id, &state, branch, sha, pull_request)));
    }
    let heads: Vec<String> = state.pushed.iter().map(|(_, sha)| sha).chain(&state.push_intended).cloned().collect();
    let Some(branch) = task.prepared.as_ref().map(|p| &p.branch).filter(|_| !heads.is_empty()) else {
        return Delivery::Nothing;
    };
    match tokio::time::timeout(limit.to_std(), preparer.on_forge(task, &heads)).await {
        Ok(OnForge::Proposed { pull_request, head_sha }) => {
            Delivery::Proposed(Box::new(delivered_report(task.id, &state, branch, &head_sha, &pull_request)))
        }
        Ok(OnForge::Pushed { sha }) => Delivery::Pushed { branch: branch.clone(), sha },
        Ok(OnForge::Nothing) => Delivery::Nothing,
        Ok(OnForge::NoAnswer { message }) => Delivery::NoAnswer { message },
        Ok(OnForge::Unknowable) => Delivery::Unknowable,
        Err(_) => Delivery::NoAnswer { message: format!("the forge gave no answer within {limit}") },
    }
}

/// Looks for a task's pull request, else for its commits.
///
/// A pull request counts that carries the task's mark as its last line, comes from the task's branch, and has a commit at
/// its head that a session of this task meant to push: what somebody else opens, from a fork with a branch of the same name
/// or with a copied mark, is none.
pub(super) async fn look(git: &Arc<dyn GitProvider>, task: &Task, repo: &RepoRef, heads: &[String]) -> OnForge {
    let Some(branch) = task.prepared.as_ref().map(|p| p.branch.clone()) else { return OnForge::Nothing };
    let pulls = ListPullRequests { repo: repo.clone(), head: Some(branch.clone()), state: None, limit: PULLS };
    let pulls = match git.pull_requests(&pulls).await {
        Ok(pulls) => pulls,
        Err(error) => return unanswered(&error),
    };
    let ours = |body: &str| task_of(body).is_some_and(|(id, _)| id == task.id);
    if let Some(pull) = pulls.into_iter().find(|p| heads.contains(&p.head_sha) && ours(&p.body)) {
        let pull_request = PullRequestRef { number: pull.number, url: pull.url };
        return OnForge::Proposed { pull_request, head_sha: pull.head_sha };
    }
    match git.branches(&ListBranches { repo: repo.clone(), names: vec![branch], limit: 1 }).await {
        Ok(found) => match found.into_iter().find(|b: &Branch| heads.contains(&b.sha)) {
            Some(branch) => OnForge::Pushed { sha: branch.sha },
            None => OnForge::Nothing,
        },
        Err(error) => unanswered(&error),
    }
}

fn unanswered(error: &GitError) -> OnForge {
    if error.is_retryable() { OnForge::NoAnswer { message: error.to_string() } } else { OnForge::Unknowable }
}
