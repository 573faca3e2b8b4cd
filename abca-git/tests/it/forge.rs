//! The local forge, by the suite and by what is its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::git::{
    GitErrorKind, GitProvider, ListPullRequests, MergePullRequest, NewComment, Numbered, OpenPullRequest, Permission,
    PullRequestState, RepoRef,
};
use abca_core::testing::VirtualClock;
use abca_core::testing::forge::{ForgeHarness, cases, run};
use abca_git::{LocalForge, LocalForgeConfig};
use async_trait::async_trait;
use tempfile::TempDir;

use crate::support::{photo, sh, user_repo, without};

fn forge() -> LocalForge {
    LocalForge::new(LocalForgeConfig::new(Arc::new(VirtualClock::new())))
}

fn local(path: &std::path::Path) -> RepoRef {
    RepoRef::Local(path.to_str().unwrap().to_owned())
}

struct Harness {
    temp: TempDir,
    next: AtomicU64,
}

impl Harness {
    fn new() -> Self {
        Self { temp: TempDir::new().unwrap(), next: AtomicU64::new(0) }
    }
}

#[async_trait]
impl ForgeHarness for Harness {
    fn forge(&self) -> Arc<dyn GitProvider> {
        Arc::new(forge())
    }

    async fn repository(&self) -> RepoRef {
        let repo = self.empty_repository().await;
        self.commit(&repo, "main", "README", "hello").await;
        repo
    }

    async fn empty_repository(&self) -> RepoRef {
        let dir = self.temp.path().join(format!("r {}", self.next.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).unwrap();
        sh(&dir, "git init -q --bare -b main .");
        local(&dir)
    }

    fn missing(&self) -> RepoRef {
        local(&self.temp.path().join("none"))
    }

    async fn commit(&self, repo: &RepoRef, branch: &str, path: &str, text: &str) -> String {
        let dir = PathBuf::from(repo.to_string());
        // Plumbing only: there is no work tree.
        let script = format!(
            "export GIT_INDEX_FILE=$PWD/abca-test-index; rm -f $GIT_INDEX_FILE
             parent=$(git rev-parse -q --verify refs/heads/{branch} || git rev-parse -q --verify refs/heads/main || true)
             [ -z \"$parent\" ] || git read-tree $parent
             blob=$(printf %s '{text}' | git hash-object -w --stdin); git update-index --add --cacheinfo 100644,$blob,'{path}'
             sha=$(git commit-tree ${{parent:+-p $parent}} -m '{text}' $(git write-tree))
             git update-ref refs/heads/{branch} $sha; rm -f $GIT_INDEX_FILE; echo $sha"
        );
        sh(&dir, &script)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    assert_eq!(run(&Harness::new(), &[]).await.passed, cases());
}

/// A user's work tree at its usual: `main` checked out. A pull request `work` is open.
async fn proposed() -> (TempDir, PathBuf, Numbered, String) {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    sh(
        &user,
        "git branch work && git commit-tree -p HEAD -m work $(git rev-parse HEAD^{tree}) | xargs git update-ref refs/heads/work",
    );
    let request = OpenPullRequest {
        repo: local(&user),
        head: "work".into(),
        base: "main".into(),
        title: "t".into(),
        body: "b".into(),
    };
    let pull = forge().open_pull_request(&request).await.unwrap();
    (temp, user.clone(), Numbered { repo: local(&user), number: pull.number }, pull.head_sha)
}

#[tokio::test]
async fn merging_leaves_a_checked_out_base_alone() {
    let (_temp, user, which, sha) = proposed().await;
    let before = photo(&user);
    let merge = MergePullRequest { repo: which.repo.clone(), number: which.number, expect_head_sha: sha.clone() };
    let error = forge().merge(&merge).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Conflict);
    assert!(error.message().contains("`main` is checked out in"), "{error}");
    assert_eq!(photo(&user), before);

    // In another work tree of the same repository it is as much in the way.
    sh(&user, "git checkout -q -b mine && git worktree add -q ../second main");
    let error = forge().merge(&merge).await.unwrap_err();
    assert!(error.message().contains("/second"), "{error}");
    sh(&user, "git worktree remove ../second; echo dirty > a.txt");
    let before = photo(&user);
    let merged = forge().merge(&merge).await.unwrap();
    assert_eq!((merged.state, merged.head_sha), (PullRequestState::Merged, sha.clone()));
    let ours = [".git/objects", ".git/refs/heads/main", ".git/logs/refs/heads/main", ".git/abca"];
    assert_eq!(without(photo(&user), &ours), without(before, &ours));
    assert_eq!(
        sh(&user, "git log -1 --format='%s|%an|%P' main"),
        format!("Merge pull request #1 from work|abca|{} {sha}", sh(&user, "git rev-parse main^1"))
    );
    sh(&user, "git fsck --strict");
}

#[tokio::test]
async fn a_merge_whose_record_was_lost_is_not_done_twice() {
    let (_temp, user, which, sha) = proposed().await;
    sh(&user, "git checkout -q -b mine; cp .git/abca/pulls/1.json saved");
    let merge = MergePullRequest { repo: which.repo.clone(), number: which.number, expect_head_sha: sha };
    forge().merge(&merge).await.unwrap();
    let main = sh(&user, "git rev-parse main");
    sh(&user, "cp saved .git/abca/pulls/1.json");
    assert_eq!(forge().merge(&merge).await.unwrap().state, PullRequestState::Merged);
    assert_eq!(sh(&user, "git rev-parse main"), main);
}

#[tokio::test]
async fn all_shapes_of_a_repository_are_one_and_others_say_what_to_do() {
    let (temp, user, which, _) = proposed().await;
    sh(
        &user,
        "git worktree add -q ../second work && mkdir sub && git clone -q --bare . ../bare.git && git init -q ../empty",
    );
    let second = temp.path().join("second");
    let read = Numbered { repo: local(&second), number: which.number };
    assert_eq!(forge().pull_request(&read).await.unwrap(), forge().pull_request(&which).await.unwrap());
    let branch = async |path: &str| {
        let seen = forge().repository(&local(&temp.path().join(path))).await.unwrap();
        assert_eq!(seen.permission, Permission::Admin);
        (seen.default_branch, seen.empty)
    };
    assert_eq!(branch("user").await, (Some("main".into()), false));
    assert_eq!(branch("user/.git").await, (Some("main".into()), false));
    assert_eq!(branch("second").await, (Some("work".into()), false));
    assert_eq!(branch("bare.git").await, (Some("main".into()), false));
    assert_eq!(branch("empty").await, (None, true));
    sh(&second, "git checkout -q --detach");
    assert_eq!(branch("second").await, (None, false));

    std::fs::write(temp.path().join("file"), "x").unwrap();
    std::fs::create_dir(temp.path().join("plain")).unwrap();
    for (path, kind, hint) in [
        ("none", GitErrorKind::NotFound, "does not exist"),
        ("file", GitErrorKind::NotFound, "is not a folder"),
        ("plain", GitErrorKind::NotFound, "`git init` and commit there"),
        ("user/sub", GitErrorKind::Invalid, "is inside the repository"),
    ] {
        let error = forge().repository(&local(&temp.path().join(path))).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(hint), "{error}");
    }
    let hosted: RepoRef = "acme/web".parse().unwrap();
    assert_eq!(forge().repository(&hosted).await.unwrap_err().kind(), GitErrorKind::NotFound);
    sh(&user, "mkdir ../acme && git clone -q --bare . ../acme/web.git");
    let config = LocalForgeConfig::new(Arc::new(VirtualClock::new())).with_root(temp.path());
    assert!(LocalForge::new(config).repository(&hosted).await.is_ok());
}

#[tokio::test]
async fn records_that_cannot_be_understood_are_refused_and_kept() {
    let (_temp, user, which, _) = proposed().await;
    let say = NewComment { repo: which.repo.clone(), number: 1, body: "x".into(), key: "k".into() };
    sh(&user, "echo '{\"version\":2}' > .git/abca/format.json");
    for error in [forge().pull_request(&which).await.unwrap_err(), forge().comment(&say).await.unwrap_err()] {
        assert_eq!(error.kind(), GitErrorKind::Unsupported);
        assert!(error.message().contains("format 2, this program knows 1: use a newer one"), "{error}");
    }
    sh(&user, "rm .git/abca/format.json; echo '{\"number\":1' > .git/abca/pulls/1.json");
    let error = forge().pull_request(&which).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Corrupt);
    assert!(error.message().contains("pulls/1.json` is not a record"), "{error}");
    assert_eq!(sh(&user, "cat .git/abca/pulls/1.json"), "{\"number\":1");
}

#[tokio::test]
async fn a_head_that_is_gone_keeps_its_last_commit() {
    let (_temp, user, which, sha) = proposed().await;
    sh(&user, "git branch -D -q work");
    let pull = forge().pull_request(&which).await.unwrap();
    assert_eq!((pull.state, pull.head_sha), (PullRequestState::Open, sha));
    assert_eq!(pull.url, format!("file://{}/.git/abca/pulls/1.json", user.canonicalize().unwrap().display()));
    let list = ListPullRequests { repo: which.repo, head: None, state: None, limit: 9 };
    assert_eq!(forge().pull_requests(&list).await.unwrap().len(), 1);
}
