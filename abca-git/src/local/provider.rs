//! The `GitProvider` of the local forge.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use abca_core::git::{
    Branch, Check, Comment, GitCapabilities, GitError, GitErrorKind, GitProvider, Issue, ListBranches,
    ListPullRequests, MergePullRequest, NewComment, NewIssue, NewReview, Numbered, OpenPullRequest, PullRequest,
    PullRequestState, Remote, RepoRef, Repository, Review, SetCheck, UpdatePullRequest,
};
use async_trait::async_trait;

use super::LocalForge;
use super::locate::Place;
use super::records::{Keyed, KeyedComment, KeyedIssue, KeyedReview, Lock, Records, hash};
use crate::refs::{check_branch, check_sha};

/// Runs file work beside the runtime. It goes on when the caller is dropped, so a write is never cut in two.
pub(super) async fn blocking<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(GitError::new(GitErrorKind::Unavailable, op, "the runtime stopped in the middle of the call")
            .with_source(e))
    })
}

/// An open pull request's head is its branch as it is now; of a branch that is gone, the last that was seen.
pub(super) fn live(pull: &mut PullRequest, branches: &BTreeMap<String, String>) {
    if pull.state == PullRequestState::Open
        && let Some(sha) = branches.get(&pull.head)
    {
        pull.head_sha.clone_from(sha);
    }
}

impl LocalForge {
    /// Reads records.
    async fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        repo: &RepoRef,
        work: impl FnOnce(&Records) -> Result<T, GitError> + Send + 'static,
    ) -> Result<(Place, T), GitError> {
        let place = self.locate(op, repo).await?;
        let records = Records::new(op, &place.common);
        let value = blocking(op, move || records.check_format().and_then(|()| work(&records))).await?;
        Ok((place, value))
    }

    /// Changes records, alone.
    async fn write<T: Send + 'static>(
        &self,
        op: &'static str,
        place: &Place,
        work: impl FnOnce(&Records, &Lock) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let records = Records::new(op, &place.common);
        blocking(op, move || {
            let lock = records.lock()?;
            work(&records, &lock)
        })
        .await
    }

    async fn require_branch(
        &self,
        op: &'static str,
        place: &Place,
        name: &str,
        role: &str,
    ) -> Result<String, GitError> {
        check_branch(op, name)?;
        place.branch(op, name).await?.ok_or_else(|| {
            let message = format!("`{}` has no branch `{name}` for the {role}: push it first", place.path.display());
            GitError::new(GitErrorKind::Invalid, op, message)
        })
    }
}

#[async_trait]
impl GitProvider for LocalForge {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capabilities(&self) -> GitCapabilities {
        GitCapabilities::all()
    }

    async fn repository(&self, repo: &RepoRef) -> Result<Repository, GitError> {
        let place = self.locate("repository", repo).await?;
        let (default_branch, empty) = place.head("repository").await?;
        Ok(Repository { repo: repo.clone(), default_branch, permission: place.permission(), empty })
    }

    async fn branches(&self, query: &ListBranches) -> Result<Vec<Branch>, GitError> {
        const OP: &str = "branches";
        let place = self.locate(OP, &query.repo).await?;
        let found = if query.names.is_empty() {
            place.first_branches(OP, query.limit).await?
        } else {
            place.branches_named(OP, &query.names).await?
        };
        Ok(found.into_iter().take(query.limit).map(|(name, sha)| Branch { name, sha }).collect())
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, GitError> {
        let place = self.locate("remote", repo).await?;
        match place.path.to_str() {
            Some(path) => Ok(Remote { url: path.to_owned(), credential: None }),
            None => {
                let message = format!("the path `{}` is not UTF-8: move or link the repository", place.path.display());
                Err(GitError::new(GitErrorKind::Invalid, "remote", message))
            }
        }
    }

    async fn open_pull_request(&self, request: &OpenPullRequest) -> Result<PullRequest, GitError> {
        const OP: &str = "open_pull_request";
        let place = self.locate(OP, &request.repo).await?;
        check_title(OP, &request.title)?;
        check_body(OP, &request.body)?;
        if request.head == request.base {
            return Err(GitError::new(GitErrorKind::Invalid, OP, format!("`{}` cannot go to itself", request.head)));
        }
        let head_sha = self.require_branch(OP, &place, &request.head, "head").await?;
        let base_sha = self.require_branch(OP, &place, &request.base, "base").await?;
        let nothing = place.is_ancestor(OP, &head_sha, &base_sha).await?;
        let (request, author, now) = (request.clone(), self.config.author.clone(), self.config.clock.now());
        let work = move |records: &Records, lock: &Lock| {
            if let Some(mut pull) = records.open_of(&request.head)? {
                pull.head_sha = head_sha;
                return Ok(pull);
            }
            if nothing {
                let message = format!("`{}` has no commits that `{}` has not", request.head, request.base);
                return Err(GitError::new(GitErrorKind::Invalid, OP, message));
            }
            let number = records.next_number(lock)?;
            let pull = PullRequest {
                number,
                url: file_url(&records.path("pulls", &number.to_string())),
                state: PullRequestState::Open,
                title: request.title,
                body: request.body,
                head: request.head,
                head_sha,
                base: request.base,
                author,
                created_at: now,
                updated_at: now,
            };
            records.index(lock, "head", &pull.head, number)?;
            records.put(lock, "pulls", &number.to_string(), &pull)?;
            Ok(pull)
        };
        self.write(OP, &place, work).await
    }

    async fn pull_request(&self, which: &Numbered) -> Result<PullRequest, GitError> {
        const OP: &str = "pull_request";
        let number = which.number;
        let (place, mut pull) = self.read(OP, &which.repo, move |records| records.pull(number)).await?;
        live(&mut pull, &place.branches(OP).await?);
        Ok(pull)
    }

    async fn pull_requests(&self, query: &ListPullRequests) -> Result<Vec<PullRequest>, GitError> {
        const OP: &str = "pull_requests";
        let wanted = query.clone();
        let read = self.read(OP, &query.repo, move |records| {
            let mut pulls: Vec<PullRequest> = Vec::new();
            for number in records.numbers("pulls")?.into_iter().rev() {
                if pulls.len() >= wanted.limit {
                    break;
                }
                let pull = records.pull(number)?;
                if wanted.head.as_ref().is_none_or(|h| *h == pull.head) && wanted.state.is_none_or(|s| s == pull.state)
                {
                    pulls.push(pull);
                }
            }
            Ok(pulls)
        });
        let (place, mut pulls) = read.await?;
        if !pulls.is_empty() {
            let branches = place.branches(OP).await?;
            pulls.iter_mut().for_each(|pull| live(pull, &branches));
        }
        Ok(pulls)
    }

    async fn update_pull_request(&self, request: &UpdatePullRequest) -> Result<PullRequest, GitError> {
        const OP: &str = "update_pull_request";
        let place = self.locate(OP, &request.repo).await?;
        request.title.as_ref().map_or(Ok(()), |title| check_title(OP, title))?;
        request.body.as_ref().map_or(Ok(()), |body| check_body(OP, body))?;
        if let Some(base) = &request.base {
            self.require_branch(OP, &place, base, "base").await?;
        }
        let branches = place.branches(OP).await?;
        let (request, now) = (request.clone(), self.config.clock.now());
        let work = move |records: &Records, lock: &Lock| {
            let mut pull = records.pull(request.number)?;
            live(&mut pull, &branches);
            let (before, mut reopened) = (pull.clone(), false);
            let error = |kind, message: String| Err(GitError::new(kind, OP, message));
            match (pull.state, request.state) {
                (_, Some(PullRequestState::Merged)) => {
                    return error(GitErrorKind::Invalid, "a pull request is merged by `merge` only".to_owned());
                }
                (PullRequestState::Merged, Some(_)) => {
                    return error(GitErrorKind::Conflict, format!("pull request {} is merged", request.number));
                }
                (PullRequestState::Closed, Some(PullRequestState::Open)) => {
                    if let Some(other) = records.open_of(&pull.head)? {
                        let message = format!("pull request {} of `{}` is open already", other.number, pull.head);
                        return error(GitErrorKind::Conflict, message);
                    }
                    reopened = true;
                }
                (_, Some(_) | None) => {}
            }
            if request.base.as_ref() == Some(&pull.head) {
                return error(GitErrorKind::Invalid, format!("`{}` cannot go to itself", pull.head));
            }
            pull.title = request.title.unwrap_or(pull.title);
            pull.body = request.body.unwrap_or(pull.body);
            pull.base = request.base.unwrap_or(pull.base);
            pull.state = request.state.unwrap_or(pull.state);
            if pull != before {
                pull.updated_at = now;
                if reopened {
                    records.index(lock, "head", &pull.head, pull.number)?;
                }
                records.put(lock, "pulls", &request.number.to_string(), &pull)?;
            }
            live(&mut pull, &branches);
            Ok(pull)
        };
        self.write(OP, &place, work).await
    }

    async fn merge(&self, request: &MergePullRequest) -> Result<PullRequest, GitError> {
        // A task of its own: dropped between the new base and the record, it still ends.
        let (forge, request) = (self.clone(), request.clone());
        tokio::spawn(async move { forge.merge_now(&request).await }).await.unwrap_or_else(|e| {
            Err(GitError::new(GitErrorKind::Unavailable, "merge", "the runtime stopped in the middle").with_source(e))
        })
    }

    async fn issue(&self, which: &Numbered) -> Result<Issue, GitError> {
        let number = which.number;
        let found = self.read("issue", &which.repo, move |r| {
            r.read::<KeyedIssue>(&r.path("issues", &number.to_string()))?
                .ok_or_else(|| GitError::new(GitErrorKind::NotFound, "issue", format!("there is no issue {number}")))
        });
        Ok(found.await?.1.record)
    }

    async fn open_issue(&self, request: &NewIssue) -> Result<Issue, GitError> {
        const OP: &str = "open_issue";
        let place = self.locate(OP, &request.repo).await?;
        check_title(OP, &request.title)?;
        check_body(OP, &request.body)?;
        let (request, author, now) = (request.clone(), self.config.author.clone(), self.config.clock.now());
        let work = move |records: &Records, lock: &Lock| {
            if let Some(number) = records.indexed("issue", &request.key)?
                && let Some(issue) = records.read::<KeyedIssue>(&records.path("issues", &number.to_string()))?
                && issue.key == request.key
            {
                return Ok(issue.record);
            }
            let number = records.next_number(lock)?;
            let issue = Issue {
                number,
                url: file_url(&records.path("issues", &number.to_string())),
                title: request.title,
                body: request.body,
                open: true,
                author,
                created_at: now,
            };
            records.index(lock, "issue", &request.key, number)?;
            records.put(lock, "issues", &number.to_string(), &Keyed { key: request.key, record: issue.clone() })?;
            Ok(issue)
        };
        self.write(OP, &place, work).await
    }

    async fn comments(&self, which: &Numbered) -> Result<Vec<Comment>, GitError> {
        let number = which.number;
        let read = self.read("comments", &which.repo, move |records| {
            records.numbered(number)?;
            records.all::<KeyedComment>(&format!("comments/{number}"))
        });
        Ok(read.await?.1.into_iter().map(|c| c.record).collect())
    }

    async fn comment(&self, request: &NewComment) -> Result<Comment, GitError> {
        const OP: &str = "comment";
        let place = self.locate(OP, &request.repo).await?;
        check_body(OP, &request.body)?;
        let (request, author, now) = (request.clone(), self.config.author.clone(), self.config.clock.now());
        let work = move |records: &Records, lock: &Lock| {
            records.numbered(request.number)?;
            let kind = format!("comments/{}", request.number);
            let same = |c: &KeyedComment| c.key == request.key;
            let comment = match records.all::<KeyedComment>(&kind)?.into_iter().find(same) {
                Some(old) if old.record.body == request.body => return Ok(old.record),
                Some(old) => Comment { body: request.body, ..old.record },
                None => Comment {
                    id: records.next_id(lock, &kind)?,
                    number: request.number,
                    body: request.body,
                    author,
                    created_at: now,
                },
            };
            let keyed = Keyed { key: request.key, record: comment.clone() };
            records.put(lock, &kind, &comment.id.to_string(), &keyed)?;
            Ok(comment)
        };
        self.write(OP, &place, work).await
    }

    async fn reviews(&self, which: &Numbered) -> Result<Vec<Review>, GitError> {
        let number = which.number;
        let read = self.read("reviews", &which.repo, move |records| {
            records.pull(number)?;
            records.all::<KeyedReview>(&format!("reviews/{number}"))
        });
        Ok(read.await?.1.into_iter().map(|r| r.record).collect())
    }

    async fn review(&self, request: &NewReview) -> Result<Review, GitError> {
        const OP: &str = "review";
        let place = self.locate(OP, &request.repo).await?;
        check_body(OP, &request.body)?;
        check_sha(OP, &request.commit_sha)?;
        let (request, author, now) = (request.clone(), self.config.author.clone(), self.config.clock.now());
        let work = move |records: &Records, lock: &Lock| {
            records.pull(request.number)?;
            let kind = format!("reviews/{}", request.number);
            let same = |r: &KeyedReview| r.key == request.key;
            if let Some(review) = records.all::<KeyedReview>(&kind)?.into_iter().find(same) {
                return Ok(review.record);
            }
            let review = Review {
                id: records.next_id(lock, &kind)?,
                number: request.number,
                event: request.event,
                body: request.body,
                comments: request.comments,
                commit_sha: request.commit_sha,
                author,
                created_at: now,
            };
            let keyed = Keyed { key: request.key, record: review.clone() };
            records.put(lock, &kind, &review.id.to_string(), &keyed)?;
            Ok(review)
        };
        self.write(OP, &place, work).await
    }

    async fn checks(&self, repo: &RepoRef, sha: &str) -> Result<Vec<Check>, GitError> {
        check_sha("checks", sha)?;
        let kind = format!("checks/{sha}");
        let read = self.read("checks", repo, move |records| {
            let mut checks: Vec<Check> = Vec::new();
            for name in records.names(&kind)? {
                if let Some(name) = name.strip_suffix(".json") {
                    checks.extend(records.read(&records.path(&kind, name))?);
                }
            }
            checks.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(checks)
        });
        Ok(read.await?.1)
    }

    async fn set_check(&self, request: &SetCheck) -> Result<(), GitError> {
        const OP: &str = "set_check";
        let place = self.locate(OP, &request.repo).await?;
        check_sha(OP, &request.check.sha)?;
        check_title(OP, &request.check.name)?;
        let check = request.check.clone();
        let work = move |records: &Records, lock: &Lock| {
            // A name is any text, a file's name is not.
            let file = hash("check", &check.name);
            records.put(lock, &format!("checks/{}", check.sha), &file, &check)
        };
        self.write(OP, &place, work).await
    }
}

fn check_title(op: &'static str, title: &str) -> Result<(), GitError> {
    if title.trim().is_empty() || title.chars().count() > 256 || title.contains(['\n', '\r']) {
        return Err(GitError::new(GitErrorKind::Invalid, op, "a title or name is one line of 1 to 256 characters"));
    }
    Ok(())
}

fn check_body(op: &'static str, body: &str) -> Result<(), GitError> {
    let length = body.chars().count();
    if length > 65_536 {
        return Err(GitError::new(
            GitErrorKind::Invalid,
            op,
            format!("the text has {length} characters, more than 65536"),
        ));
    }
    Ok(())
}

/// A `file:` address, percent-encoded.
fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
