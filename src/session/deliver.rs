//! Delivery: trailers, push, pull request. Each is found rather than repeated when it was done before.

use abca_core::event::{EventType, NewEvent};
use abca_core::git::{GitError, GitErrorKind, OpenPullRequest};
use abca_core::prompt::{PullRequestText, pull_request_text, title_of_task};
use abca_core::session::{LogEntry, SessionState};
use abca_core::task::{DiffStat, Failure, FailureReason, Prepared, PullRequestRef, Task};
use abca_core::text::Screen;
use abca_git::Trailer;

use super::journal::{Abort, Journal};
use super::runtime::SessionParts;
use super::workspace::{SAFETY_NET, Workspace, git_failure};

/// The finished work, in the brain's repository.
pub(crate) struct Work<'a> {
    pub(crate) task: &'a Task,
    pub(crate) prepared: &'a Prepared,
    pub(crate) attempt: u32,
    /// The commit that the work starts from.
    pub(crate) base: String,
    /// The commit at its end.
    pub(crate) head: String,
    pub(crate) diff: DiffStat,
    pub(crate) answer: &'a str,
    pub(crate) screen: &'a Screen,
}

/// What was delivered.
pub(crate) struct Delivered {
    pub(crate) branch: String,
    pub(crate) head_sha: String,
    pub(crate) pull_request: PullRequestRef,
    pub(crate) diff: DiffStat,
}

/// Why nothing was delivered.
pub(crate) enum Undelivered {
    /// The session was told to stop before the push.
    Stopped,
    /// It did not work.
    Failed(Failure),
}

/// What an earlier session delivered, as the log tells; it died before it could report.
pub(crate) async fn delivered_before(state: &SessionState, workspace: &Workspace) -> Option<Delivered> {
    let (branch, head_sha) = state.pushed.clone()?;
    let pull_request = state.pull_request.clone()?;
    let diff = match workspace.diff_of_branch(&branch, &head_sha, &state.base.as_ref()?.1).await {
        Ok(diff) => DiffStat { files: diff.files.len() as u64, insertions: diff.added(), deletions: diff.removed() },
        // Gone since, or moved on: what was delivered stays delivered.
        Err(error) => {
            tracing::warn!(%error, "the delivered branch cannot be read");
            DiffStat::default()
        }
    };
    Some(Delivered { branch, head_sha, pull_request, diff })
}

/// Pushes the branch and opens its pull request.
pub(crate) async fn deliver(
    work: Work<'_>,
    workspace: &Workspace,
    parts: &SessionParts,
    state: &mut SessionState,
    journal: &mut Journal,
) -> Result<Result<Delivered, Undelivered>, Abort> {
    let fail = |e: &abca_core::git::GitError| Undelivered::Failed(git_failure(FailureReason::Delivery, e));
    let Some(source) = work.task.spec.repo.clone() else {
        let failure = Failure::new(FailureReason::Delivery, "the task names no repository");
        return Ok(Err(Undelivered::Failed(failure)));
    };
    let trailers = [
        Trailer { token: "Task-Id".to_owned(), value: work.task.id.to_string() },
        Trailer { token: "Prompt-Version".to_owned(), value: state.prompt_version.clone() },
    ];
    let bare = workspace.bare();
    let head_sha = match bare.add_trailers(&work.base, &work.head, &trailers).await {
        Ok(sha) => sha,
        Err(error) => return Ok(Err(fail(&error))),
    };
    let commits = match bare.log(&work.base, &head_sha).await {
        Ok(commits) => commits,
        Err(error) => return Ok(Err(fail(&error))),
    };
    let branch = work.prepared.branch.clone();
    // What the branch may be there: nothing, what was pushed, or what a session pushed that died before it could say so.
    let mut before = vec![state.pushed.as_ref().map(|(_, sha)| sha.clone())];
    before.extend(state.push_intended.iter().rev().cloned().map(Some));
    let entry = LogEntry::PushIntended { branch: branch.clone(), sha: head_sha.clone() };
    state.apply(&entry);
    journal.write(vec![entry], Vec::new()).await?;
    // A cancel may come with the answer.
    if journal.ears().stopped().is_cancelled() {
        return Ok(Err(Undelivered::Stopped));
    }
    if let Err(error) = push(workspace, &branch, &head_sha, &before).await {
        return Ok(Err(fail(&error)));
    }
    // Written with the pull request: until then the intent says where the branch may be.
    let entry = LogEntry::Pushed { branch: branch.clone(), sha: head_sha.clone() };
    state.apply(&entry);
    journal.keep([entry], Vec::new());

    let subjects: Vec<String> = commits.iter().rev().map(|c| c.subject.clone()).collect();
    let title = work.screen.scrub(&title(&subjects, work.task.spec.task_description.as_deref())).text;
    let text = pull_request_text(&PullRequestText {
        task: work.task.id,
        attempt: work.attempt,
        issue_number: work.task.spec.issue_number,
        description: work.task.spec.task_description.as_deref(),
        title: &title,
        commits: &subjects,
        verification: &state.verification,
        diff: work.diff,
        cost: state.spent,
        turns: state.turns_completed,
        model: state.model.as_deref(),
        prompt_version: &state.prompt_version,
        notes: work.answer,
    });
    let request = OpenPullRequest {
        repo: source,
        head: branch.clone(),
        base: work.prepared.base_branch.clone(),
        title: text.title,
        body: text.body,
    };
    // The push took its time: what was cancelled meanwhile proposes nothing. The branch stays, as partial work does.
    if journal.ears().stopped().is_cancelled() {
        return Ok(Err(Undelivered::Stopped));
    }
    let opened = match parts.git.open_pull_request(&request).await {
        Ok(opened) => opened,
        Err(error) => {
            let mut failure = git_failure(FailureReason::Delivery, &error);
            failure.message = format!(
                "deliverable=no_pr: the branch `{branch}` is pushed, the pull request is not: {}",
                failure.message
            );
            return Ok(Err(Undelivered::Failed(failure)));
        }
    };
    let pull_request = PullRequestRef { number: opened.number, url: opened.url };
    let entry = LogEntry::PullRequestOpened { number: pull_request.number, url: pull_request.url.clone() };
    state.apply(&entry);
    let event = NewEvent::new(EventType::AgentMilestone, journal.now())
        .with("milestone", "pr_created")
        .with("pr_url", pull_request.url.clone())
        .with("details", opened.title);
    journal.keep([entry], vec![event]);
    Ok(Ok(Delivered { branch, head_sha, pull_request, diff: work.diff }))
}

/// The first commit that says what was done; where only the safety net committed, what was asked for.
fn title(subjects: &[String], description: Option<&str>) -> String {
    let own = subjects.iter().find(|subject| *subject != SAFETY_NET);
    own.cloned().or_else(|| title_of_task(description?)).unwrap_or_default()
}

/// Pushes over any of these, and over nothing else.
async fn push(workspace: &Workspace, branch: &str, sha: &str, before: &[Option<String>]) -> Result<(), GitError> {
    let mut outcome = Ok(());
    for expect in before {
        outcome = workspace.push(branch, sha, expect.as_deref()).await;
        match &outcome {
            Err(error) if error.kind() == GitErrorKind::Conflict => {}
            Ok(()) | Err(_) => break,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_the_agents_own_or_what_was_asked_for_never_the_nets() {
        let own = "feat: add lines".to_owned();
        let asked = Some("Add lines. Then stop.");
        assert_eq!(title(&[SAFETY_NET.to_owned(), own.clone()], asked), own);
        assert_eq!(title(&[SAFETY_NET.to_owned()], asked), "chore: Add lines");
        assert_eq!(title(&[SAFETY_NET.to_owned()], None), "");
    }
}
