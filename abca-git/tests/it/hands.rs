use std::path::Path;

use abca_core::git::GitErrorKind;
use abca_git::HandsRepo;

use crate::support::{BRANCH, Stage, git, photo, sh, stage, without};

const SAVE: &str = "chore(agent): save uncommitted work from session end";

/// The files of a commit in the hands' repository.
fn files(s: &Stage, sha: &str) -> Vec<String> {
    sh(s.hands.dir(), &format!("git ls-tree -r --name-only {sha}")).lines().map(str::to_owned).collect()
}

/// The agent's index, HEAD and refs, without our own.
fn agents(dir: &Path) -> std::collections::BTreeMap<String, String> {
    without(photo(dir), &[".git/objects", ".git/refs/abca"])
}

#[tokio::test]
async fn a_snapshot_holds_everything_but_ignored_files_and_touches_nothing() {
    let s = stage().await;
    sh(
        s.hands.dir(),
        "echo two > a.txt; mkdir d; echo new > d/new; echo x > x.log; echo s > staged; git add staged; ln -s /etc/passwd link
         printf 'x' > 'with
newline'; printf x > \"$(printf 'bad\\377')\"",
    );
    let before = agents(s.hands.dir());
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    assert_eq!(agents(s.hands.dir()), before);
    assert_eq!(snapshot.head.as_ref(), Some(&s.base));
    assert!(!snapshot.repaired && !snapshot.incomplete && !snapshot.unmerged);
    let want = [".gitignore", "a.txt", r#""bad\377""#, "d/new", "link", "staged", r#""with\nnewline""#];
    assert_eq!(files(&s, &snapshot.sha), want);
    assert_eq!(s.hands.snapshot(&s.exec).await.unwrap(), snapshot, "an unchanged tree is the same commit");
    s.hands.hand_over(&s.exec, &s.bare, &[(&snapshot.sha, "refs/abca/wip")]).await.unwrap();
    assert_eq!(s.bare.diff_stat(&s.base, &snapshot.sha).await.unwrap().files.len(), 6);

    // Another machine goes on from it.
    let dir = s.temp.path().join("resumed");
    let resumed = HandsRepo::resume(&git(), &s.bare, &dir, BRANCH, &snapshot.sha).await.unwrap();
    let want = format!(" M a.txt\n?? bad\n?? d/\n?? link\n?? staged\n{}\nrefs/heads/{BRANCH}", s.base);
    sh(resumed.dir(), "mv bad* bad; rm with*");
    assert_eq!(sh(resumed.dir(), "git status --porcelain; git rev-parse HEAD; git symbolic-ref HEAD"), want);
    assert_eq!(sh(&dir, "cat a.txt d/new; readlink link"), "two\nnew\n/etc/passwd");
}

#[tokio::test]
async fn the_safety_net_saves_untracked_files_and_only_when_there_is_something() {
    let s = stage().await;
    let nothing = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!((nothing.saved, nothing.head.as_ref()), (None, Some(&s.base)));
    sh(s.hands.dir(), "echo new > new; echo x > x.log; git rm -q a.txt");
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!(net.saved, net.head);
    let sha = net.head.unwrap();
    assert_eq!(files(&s, &sha), [".gitignore", "new"]);
    assert_eq!(
        sh(s.hands.dir(), "git status --porcelain; git log -1 --format='%s|%an|%ae|%P'"),
        format!("{SAVE}|bgagent|bgagent@noreply.github.com|{}", s.base)
    );
    assert_eq!(s.hands.safety_net(&s.exec, SAVE).await.unwrap().saved, None);
}

#[tokio::test]
async fn the_branch_is_put_where_the_work_is() {
    // On another branch, detached: the task branch goes to HEAD.
    for leave in ["git checkout -q -b elsewhere", "git checkout -q --detach"] {
        let s = stage().await;
        sh(s.hands.dir(), &format!("{leave} && git commit -q --allow-empty -m work"));
        let head = s.hands.head(&s.exec).await.unwrap();
        let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
        assert_eq!((&net.head, net.displaced), (&head, None));
        assert_eq!(
            sh(s.hands.dir(), "git symbolic-ref HEAD; git rev-parse HEAD"),
            format!("refs/heads/{BRANCH}\n{}", head.unwrap())
        );
    }
    // HEAD left behind on the base: the work stays, and is checked out.
    let s = stage().await;
    sh(s.hands.dir(), "echo w > w && git add w && git commit -q -m work && git checkout -q --detach HEAD^");
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!(net.head.unwrap(), sh(s.hands.dir(), &format!("git rev-parse {BRANCH}")));
    assert_eq!(
        sh(s.hands.dir(), "cat w; git status --porcelain; git symbolic-ref --short HEAD"),
        format!("w\n{BRANCH}")
    );
    // Parted ways: HEAD wins, the other is kept.
    let s = stage().await;
    sh(
        s.hands.dir(),
        "git commit -q --allow-empty -m old && git checkout -q --detach HEAD^ && git commit -q --allow-empty -m new",
    );
    let old = sh(s.hands.dir(), &format!("git rev-parse {BRANCH}"));
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!(net.displaced.as_ref(), Some(&old));
    assert_eq!(
        sh(s.hands.dir(), &format!("git log -1 --format=%s {BRANCH}; git rev-parse refs/abca/displaced")),
        format!("new\n{old}")
    );
}

#[tokio::test]
async fn a_merge_under_way_is_kept_and_a_rebase_undone() {
    let conflict = "git checkout -q -b other && echo o > a.txt && git commit -qam other
        git checkout -q bgagent/01J/fix && echo m > a.txt && git commit -qam mine; echo extra > extra";
    let s = stage().await;
    sh(s.hands.dir(), &format!("{conflict}; git merge other || true"));
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    assert!(snapshot.unmerged);
    assert!(sh(s.hands.dir(), &format!("git show {}:a.txt", snapshot.sha)).contains("<<<<<<<"));
    assert!(sh(s.hands.dir(), "git status --porcelain").contains("UU a.txt"), "the merge is still under way");
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!(sh(s.hands.dir(), "git log -1 --format=%P").split(' ').count(), 2);
    assert_eq!(sh(s.hands.dir(), "git status --porcelain"), "");
    assert!(net.snapshot.unmerged && !net.rebase_undone);

    let s = stage().await;
    sh(s.hands.dir(), &format!("{conflict}; git rebase other || true"));
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert!(net.rebase_undone);
    assert_eq!(sh(s.hands.dir(), "git log --format=%s -2"), format!("{SAVE}\nmine"));
    assert_eq!(sh(s.hands.dir(), "cat a.txt extra; git symbolic-ref --short HEAD"), format!("m\nextra\n{BRANCH}"));
}

#[tokio::test]
async fn a_repository_that_the_agent_broke_is_made_anew() {
    let breaks = [
        "rm -rf .git",
        "rm -rf .git && echo garbage > .git",
        "echo garbage > .git/HEAD",
        "echo '[broken' > .git/config",
        "rm -rf .git/refs .git/objects",
        "rm -rf .git && ln -s ../outside .git",
        "git config core.bare true; git config core.worktree /nowhere",
        "echo garbage > .git/index; echo garbage > .git/refs/heads/x",
        "touch .git/index.lock .git/HEAD.lock",
        "echo garbage > .git/refs/heads/bgagent/01J/fix",
    ];
    for how in breaks {
        let s = stage().await;
        sh(s.hands.dir(), &format!("echo precious > precious; {how}"));
        let snapshot = s.hands.snapshot(&s.exec).await.unwrap_or_else(|e| panic!("{how}: {e}"));
        assert!(files(&s, &snapshot.sha).contains(&"precious".to_owned()), "{how}");
        let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap_or_else(|e| panic!("{how}: {e}"));
        let head = net.head.unwrap_or_else(|| panic!("{how}"));
        s.hands
            .hand_over(&s.exec, &s.bare, &[(&head, "refs/abca/work")])
            .await
            .unwrap_or_else(|e| panic!("{how}: {e}"));
        // Whatever became of its history, the work can be proposed.
        let sha = s.bare.regraft(&head, &s.base, "work").await.unwrap();
        let paths: Vec<_> = s.bare.diff_stat(&s.base, &sha).await.unwrap().files.into_iter().map(|f| f.path).collect();
        assert_eq!(paths, [b"precious".to_vec()], "{how}");
        assert!(!s.temp.path().join("outside").exists(), "{how}");
    }
}

#[tokio::test]
async fn files_of_nested_repositories_are_saved_and_declared_submodules_left() {
    let s = stage().await;
    sh(
        s.hands.dir(),
        "mkdir dep unborn && (cd dep && git init -q && echo d > d && echo '*.o' > .gitignore && touch x.o && git add . && git commit -qm d && echo u > u)
         (cd unborn && git init -q && echo n > 'n n')",
    );
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    assert!(!snapshot.incomplete);
    assert_eq!(files(&s, &snapshot.sha), [".gitignore", "a.txt", "dep/.gitignore", "dep/d", "dep/u", "unborn/n n"]);
    sh(
        s.hands.dir(),
        "printf '[submodule \"dep\"]\\n\\tpath = dep\\n\\turl = https://example.com/dep\\n' > .gitmodules",
    );
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    assert_eq!(files(&s, &snapshot.sha), [".gitignore", ".gitmodules", "a.txt", "dep", "unborn/n n"]);
}

#[tokio::test]
async fn the_agents_configuration_does_not_bend_a_checkpoint() {
    let s = stage().await;
    sh(
        s.hands.dir(),
        "printf '#!/bin/sh\\ntouch hook-ran\\nexit 1\\n' > .git/hook; chmod +x .git/hook; mkdir .git/h
         for h in pre-commit reference-transaction post-index-change; do cp .git/hook .git/h/$h; done
         git config core.hooksPath .git/h; git config core.fsmonitor .git/hook; git config core.excludesFile \"$PWD/.git/all\"; echo '*' > .git/all
         git config commit.gpgSign true; echo new > new",
    );
    let net = s.hands.safety_net(&s.exec, SAVE).await.unwrap();
    assert_eq!(files(&s, &net.head.unwrap()), [".gitignore", "a.txt", "new"]);
    assert!(!s.hands.dir().join("hook-ran").exists());
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let s = stage().await;
    let error = HandsRepo::create(&git(), &s.bare, s.hands.dir(), BRANCH, &s.base).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Conflict);
    let nowhere = "0".repeat(40);
    let error = HandsRepo::create(&git(), &s.bare, &s.temp.path().join("x"), BRANCH, &nowhere).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::NotFound);
}

#[tokio::test]
async fn a_repository_further_up_is_not_taken_for_the_agents() {
    let s = stage().await;
    sh(s.temp.path(), "git init -q . && git commit -q --allow-empty -m upper");
    sh(s.hands.dir(), "rm -rf .git");
    assert_eq!(s.hands.head(&s.exec).await.unwrap(), None);
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    assert!(snapshot.repaired);
    assert_eq!((files(&s, &snapshot.sha), snapshot.head), (vec![".gitignore".to_owned(), "a.txt".to_owned()], None));
}
