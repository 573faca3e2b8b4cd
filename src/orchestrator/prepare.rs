//! Prepares a task through its forge: pre-flight checks, then the context.

use std::sync::Arc;

use abca_core::git::{
    Branch, Comment, GitError, GitErrorKind, GitProvider, Issue, ListBranches, Numbered, Permission, PullRequest,
    PullRequestState, RepoRef, Repository,
};
use abca_core::names;
use abca_core::prompt::{HydrationInput, PROMPT_BUDGET_TOKENS, hydrate_with};
use abca_core::task::{Failure, FailureReason, Prepared, Task};
use abca_core::text::sanitize;
use async_trait::async_trait;

use super::delivery;
use super::nearest::nearest;
use super::seams::{OnForge, PrepareFailure, Preparer};

/// Most branches that are looked through for a name like a mistyped one.
const MOST_BRANCHES: usize = 2_000;
/// So many names an error message tells at most.
const NAMES_TOLD: usize = 5;

/// Pre-flight and hydration over a [`GitProvider`].
///
/// Checked are: the forge answers, the repository is visible and not empty, the platform may do in it what the workflow
/// needs, there is a branch to start from, nothing is in the way of the task's own branch, the pull request is open, the
/// issue exists. What a forge cannot be asked for now is asked again later, until the task's hydration deadline.
#[derive(Debug)]
pub struct ForgePreparer {
    git: Arc<dyn GitProvider>,
}

impl ForgePreparer {
    /// Over a forge.
    pub fn new(git: Arc<dyn GitProvider>) -> Self {
        Self { git }
    }

    /// Where the work starts from, and which branch it goes to.
    async fn branches(&self, task: &Task, repo: &RepoRef) -> Result<(String, String), PrepareFailure> {
        let slug = names::slug(task.spec.task_description.as_deref(), &repo.to_string());
        let branch = names::branch(task.id, &slug);
        let mut names: Vec<String> = task.spec.base_branch.iter().cloned().collect();
        names.extend(in_the_way(&branch).map(str::to_owned));
        let query = ListBranches { repo: repo.clone(), limit: names.len(), names };
        // Side by side: of a forge on the network each is a round trip.
        let (found, there) = tokio::join!(self.git.repository(repo), self.git.branches(&query));
        let found = found.map_err(|e| repository_error(repo, e))?;
        check_permission(task, &found)?;
        if let Some(number) = task.spec.pr_number {
            let pull = self.pull_request(repo, number).await?;
            return Ok((pull.base, pull.head));
        }
        let default = found.default_branch.clone();
        let base = base_branch(task, found)?;
        let there = there.map_err(forge_error)?;
        let is_there = |name: &str| there.iter().any(|b| b.name == name);
        if default.as_ref() != Some(&base) && !is_there(&base) {
            return Err(self.no_base(repo, &base).await);
        }
        if let Some(name) = in_the_way(&branch).find(|name| is_there(name)) {
            return Err(blocked(repo, name, &branch));
        }
        Ok((base, branch))
    }

    /// Says which branches there are instead.
    async fn no_base(&self, repo: &RepoRef, base: &str) -> PrepareFailure {
        let all = ListBranches { repo: repo.clone(), names: Vec::new(), limit: MOST_BRANCHES };
        let there: Vec<Branch> = self.git.branches(&all).await.unwrap_or_default();
        let near = nearest(base, there.iter().map(|b| b.name.as_str()), NAMES_TOLD);
        let told: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
        let which = match (told.is_empty(), there.len() > near.len()) {
            (true, _) => ": name another".to_owned(),
            (false, true) => format!("; the names most like it are {}: name one", told.join(", ")),
            (false, false) => format!("; it has {}: name one", told.join(", ")),
        };
        let detail =
            format!("`{repo}` has no branch `{base}`{which} as `base_branch`, on the command line with `--base`");
        preflight("BASE_BRANCH_NOT_FOUND", &detail)
    }

    async fn pull_request(&self, repo: &RepoRef, number: u64) -> Result<PullRequest, PrepareFailure> {
        let closed = |detail: String| preflight("PR_NOT_FOUND_OR_CLOSED", &detail);
        match self.git.pull_request(&Numbered { repo: repo.clone(), number }).await {
            Ok(pull) if pull.state == PullRequestState::Open => Ok(pull),
            Ok(_) => Err(closed(format!("pull request #{number} of `{repo}` is not open"))),
            Err(e) if e.kind() == GitErrorKind::NotFound => {
                Err(closed(format!("there is no pull request #{number} in `{repo}`")))
            }
            Err(e) => Err(forge_error(e)),
        }
    }

    async fn issue(&self, repo: &RepoRef, number: u64) -> Result<(Issue, Vec<Comment>), PrepareFailure> {
        let which = Numbered { repo: repo.clone(), number };
        let issue = self.git.issue(&which).await.map_err(|e| match e.kind() {
            GitErrorKind::NotFound => preflight("ISSUE_NOT_FOUND", &format!("there is no issue #{number} in `{repo}`")),
            _ => forge_error(e),
        })?;
        let comments = self.git.comments(&which).await.map_err(forge_error)?;
        Ok((issue, comments))
    }
}

#[async_trait]
impl Preparer for ForgePreparer {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        let spec = &task.spec;
        let (base_branch, branch) = match &spec.repo {
            Some(repo) => self.branches(task, repo).await?,
            None => (String::new(), String::new()),
        };
        let (issue, comments) = match (&spec.repo, spec.issue_number) {
            (Some(repo), Some(number)) => {
                let (issue, comments) = self.issue(repo, number).await?;
                (Some(issue), comments)
            }
            (Some(_), None) | (None, _) => (None, Vec::new()),
        };
        let input = HydrationInput {
            task_id: task.id,
            repo: spec.repo.clone(),
            issue,
            comments,
            description: spec.task_description.clone(),
            memory: Vec::new(),
            budget_tokens: PROMPT_BUDGET_TOKENS,
        };
        let hydrated = hydrate_with(&input, sanitize);
        Ok(Prepared {
            base_branch,
            branch,
            user_prompt: hydrated.user_prompt,
            sources: hydrated.sources,
            token_estimate: hydrated.token_estimate,
            truncated: hydrated.truncated,
        })
    }

    async fn on_forge(&self, task: &Task, heads: &[String]) -> OnForge {
        match &task.spec.repo {
            Some(repo) => delivery::look(&self.git, task, repo, heads).await,
            None => OnForge::Nothing,
        }
    }
}

/// Branches beside which git cannot make this one: itself, and those where a folder of its name would have to be.
fn in_the_way(branch: &str) -> impl Iterator<Item = &str> {
    let folders = branch.match_indices('/').map(|(at, _)| &branch[..at]);
    std::iter::once(branch).chain(folders)
}

fn blocked(repo: &RepoRef, there: &str, branch: &str) -> PrepareFailure {
    let why =
        if there == branch { "that this task did not make" } else { "beside which git cannot make the task's own" };
    let detail = format!(
        "`{repo}` has a branch `{there}` {why}, `{branch}`: rename it (`git branch -m {there} another-name`) or delete it, \
         then submit again"
    );
    preflight("BRANCH_IN_THE_WAY", &detail)
}

fn check_permission(task: &Task, found: &Repository) -> Result<(), PrepareFailure> {
    let needed = if task.spec.read_only { Permission::Triage } else { Permission::Write };
    if found.permission >= needed {
        return Ok(());
    }
    let words = format!("allows `{:?}`, but the task needs `{needed:?}`", found.permission).to_lowercase();
    Err(preflight("INSUFFICIENT_GITHUB_REPO_PERMISSIONS", &format!("`{}` {words}", found.repo)))
}

fn base_branch(task: &Task, found: Repository) -> Result<String, PrepareFailure> {
    let repo = &found.repo;
    if found.empty {
        let detail = format!("`{repo}` has no commits yet: make a first commit, then submit again");
        return Err(preflight("REPO_EMPTY", &detail));
    }
    task.spec.base_branch.clone().or(found.default_branch).ok_or_else(|| {
        let detail = format!(
            "`{repo}` has no default branch, its HEAD is detached or on a branch without commits: name the branch to start from as `base_branch`, on the \
             command line with `--base`"
        );
        preflight("NO_BASE_BRANCH", &detail)
    })
}

fn preflight(reason: &str, detail: &str) -> PrepareFailure {
    let message = format!("Pre-flight check failed: {reason} — {detail}");
    PrepareFailure { failure: Failure::new(FailureReason::Preflight, message), retryable: false }
}

fn repository_error(repo: &RepoRef, error: GitError) -> PrepareFailure {
    const REASON: &str = "REPO_NOT_FOUND_OR_NO_ACCESS";
    let said = error.message();
    match error.kind() {
        // A forge that names the repository knows more than we do.
        GitErrorKind::NotFound if said.contains(&repo.to_string()) => preflight(REASON, said),
        GitErrorKind::NotFound => preflight(REASON, &format!("`{repo}` does not exist, or cannot be seen: {said}")),
        _ => forge_error(error),
    }
}

fn forge_error(error: GitError) -> PrepareFailure {
    let failure = Failure::new(FailureReason::Preflight, format!("Pre-flight check failed: {error}"));
    PrepareFailure { failure, retryable: error.is_retryable() }
}
