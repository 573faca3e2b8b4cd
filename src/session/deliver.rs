//! Delivery: trailers, push, pull request. Each is found rather than repeated when it was done before.

use abca_core::event::{EventType, NewEvent};
use abca_core::git::{GitError, GitErrorKind, OpenPullRequest};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::prompt::{PullRequestText, pull_request_text, title_of_task};
use abca_core::session::{LogEntry, SessionState};
use abca_core::task::{DiffStat, Failure, FailureReason, Prepared, PullRequestRef, Task};
use abca_core::text::{Finding, Screen, preview, summary};
use abca_core::time::Timestamp;
use abca_git::{BinaryFiles, Trailer};

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
    let read = match bare.patches(&work.base, &head_sha, BinaryFiles::AsText).await {
        // Large binary files are delivered all the same; that they were not read is said.
        Err(error) if error.kind() == GitErrorKind::Invalid => {
            journal.write(Vec::new(), vec![unread(&work, journal.now())]).await?;
            bare.patches(&work.base, &head_sha, BinaryFiles::Named).await
        }
        read => read,
    };
    match read {
        Ok(patches) => {
            let leaks = leaks(work.screen, &patches);
            if let Some(event) = told(&leaks, &work.prepared.branch, work.screen, journal.now()) {
                journal.write(Vec::new(), vec![event]).await?;
            }
            if let Some(leak) = leaks.iter().find(|leak| leak.finding.is_certain()) {
                let message = format!(
                    "{} has a secret (`{}`), so nothing was pushed: it must leave the history of the branch, not only its end",
                    leak.place, leak.finding.rule
                );
                return Ok(Err(Undelivered::Failed(Failure::new(FailureReason::Guardrail, message))));
            }
        }
        Err(error) => return Ok(Err(fail(&error))),
    }
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
        body: work.screen.scrub(&text.body).text,
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

/// A secret in what is to be pushed.
#[derive(Debug)]
struct Leak {
    /// The message or the file that has it, in words.
    place: String,
    finding: Finding,
}

/// The secrets in messages and added lines.
fn leaks(screen: &Screen, patches: &[u8]) -> Vec<Leak> {
    let mut stream = screen.stream();
    let mut places: Vec<(usize, String)> = Vec::new();
    let (mut fed, mut commit) = (0usize, String::new());
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(patches).split_inclusive('\n') {
        if let Some(sha) = line.strip_prefix("commit ") {
            commit = sha.trim_end().chars().take(12).collect();
            places.push((fed, format!("the message of commit {commit}")));
        } else if let Some(path) = line.strip_prefix("+++ b/") {
            places.push((fed, format!("`{}` in commit {commit}", preview(path, 200))));
        }
        // What is taken away was there before.
        if line.starts_with('-') {
            continue;
        }
        let line = line.strip_prefix(['+', ' ']).unwrap_or(line);
        found.extend(stream.push(line).findings);
        fed += line.len();
    }
    found.extend(stream.finish().findings);
    let place = |at: usize| {
        let after = places.partition_point(|(from, _)| *from <= at);
        after.checked_sub(1).map_or_else(|| "the work".to_owned(), |n| places[n].1.clone())
    };
    found.into_iter().map(|finding| Leak { place: place(finding.range.start), finding }).collect()
}

/// That binary files were not screened: with them there is more than can be read.
fn unread(work: &Work<'_>, at: Timestamp) -> NewEvent {
    let what = "the commits are too large to be read whole: binary files in them were not screened for secrets";
    PolicyDecisionEvent::new(GuardStage::Push, "screen", GuardOutcome::Warned, &work.prepared.branch, what)
        .into_event(work.screen, at)
}

/// What the screen says of what is to be pushed; nothing when there is nothing in it.
fn told(leaks: &[Leak], branch: &str, screen: &Screen, at: Timestamp) -> Option<NewEvent> {
    let first = leaks.iter().find(|leak| leak.finding.is_certain()).or(leaks.first())?;
    let outcome = if first.finding.is_certain() { GuardOutcome::Denied } else { GuardOutcome::Warned };
    let findings: Vec<Finding> = leaks.iter().map(|leak| leak.finding.clone()).collect();
    let what = format!("the commits hold what looks like secrets: {}", summary(&findings));
    let mut event = PolicyDecisionEvent::new(GuardStage::Push, "screen", outcome, branch, what);
    event.detail = Some(first.place.clone());
    Some(event.into_event(screen, at))
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

    #[test]
    fn secrets_are_found_in_messages_and_in_what_is_added() {
        let known = "hunter2-hunter2";
        let screen = Screen::default().with_known([known.to_owned().into()]);
        let patches = format!(
            "commit 0123456789abcdef\n Add it\n \n - {known}\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-old {known}\n+new\n\
             commit fedcba9876543210\n More\n\ndiff --git a/src/y b/src/y\n--- /dev/null\n+++ b/src/y\n@@ -0,0 +1 @@\n+k = \"{known}\"\n"
        );
        let found = leaks(&screen, patches.as_bytes());
        let places: Vec<(&str, bool)> = found.iter().map(|l| (l.place.as_str(), l.finding.is_certain())).collect();
        assert_eq!(places, [("the message of commit 0123456789ab", true), ("`src/y` in commit fedcba987654", true)]);
        let event = told(&found, "b", &screen, Timestamp::from_millis(0)).unwrap();
        let json = serde_json::to_string(&event.metadata).unwrap();
        assert!(json.contains("2 known-secret") && json.contains("denied") && !json.contains(known), "{json}");
        assert!(told(&leaks(&screen, b"commit 0\n fine\n"), "b", &screen, Timestamp::from_millis(0)).is_none());
    }
}
