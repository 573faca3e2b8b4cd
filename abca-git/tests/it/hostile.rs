//! What a repository may carry: nothing of it runs in the brain, and all of it passes through unharmed.

use std::io::Write;
use std::sync::Arc;

use abca_core::git::{GitProvider, MergePullRequest, OpenPullRequest, RepoRef};
use abca_core::testing::VirtualClock;
use abca_git::{LocalForge, LocalForgeConfig};
use tempfile::TempDir;

use crate::support::{BRANCH, local, sh, stage, stage_on, user_repo};

/// A user's repository in which everything that git might run leaves a mark.
fn trapped(temp: &TempDir) -> std::path::PathBuf {
    let user = user_repo(temp);
    sh(
        &user,
        r#"mark="$PWD/../marks"; mkdir "$mark" ../h
        printf '#!/bin/sh\ntouch "%s/hook-$(basename $0)"\ncat\n' "$mark" > ../h/trap; chmod +x ../h/trap
        for hook in pre-receive update post-receive post-update reference-transaction pre-push post-checkout proc-receive \
            push-to-checkout post-index-change pre-auto-gc post-merge pre-merge-commit post-commit; do
            cp ../h/trap .git/hooks/$hook; cp ../h/trap ../h/$hook; done
        printf '* filter=evil diff=evil merge=evil\n' > .gitattributes
        printf 'evil' > payload.txt; git add .; git commit -qm attributes
        rm -f "$mark"/*
        run() { printf '%s/../h/trap' "$PWD"; }
        git config core.fsmonitor "touch $mark/fsmonitor;"
        git config core.sshCommand "touch $mark/ssh;"
        git config core.alternateRefsCommand "touch $mark/alternate;"
        git config core.editor "touch $mark/editor;"; git config core.pager "touch $mark/pager;"
        git config credential.helper "!touch $mark/credential;"
        git config filter.evil.clean "touch $mark/clean; cat"; git config filter.evil.smudge "touch $mark/smudge; cat"
        git config filter.evil.required true
        git config diff.evil.textconv "touch $mark/textconv; cat"; git config diff.external "touch $mark/external;"
        git config merge.evil.driver "touch $mark/driver;"
        git config uploadpack.packObjectsHook "touch $mark/pack;"
        git config gc.auto 1; git config receive.autogc true
        printf '[core]\n\thooksPath = "%s/../h"\n[alias]\n\tfetch = "!touch %s/alias"\n' "$PWD" "$mark" > .git/evil
        git config include.path evil"#,
    );
    user
}

fn marks(temp: &TempDir) -> String {
    sh(temp.path(), "ls marks")
}

#[tokio::test]
async fn nothing_that_the_repository_configures_runs() {
    let temp = TempDir::new().unwrap();
    let user = trapped(&temp);
    // The trap works: a plain commit there sets marks.
    sh(&user, "git commit -q --allow-empty -m trap || true");
    assert_ne!(marks(&temp), "");
    sh(&user, "rm -f ../marks/*");

    let s = stage_on(temp, user).await;
    let remote = local(&s.user);
    std::fs::write(s.hands.dir().join("new"), "x").unwrap();
    let net = s.hands.safety_net(&s.exec, "save").await.unwrap();
    let head = net.head.unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&head, "refs/abca/work")]).await.unwrap();
    s.bare.diff_stat(&s.base, &head).await.unwrap();
    s.bare.push(&remote, BRANCH, &head, None).await.unwrap();
    s.bare.push_wip(&remote, "refs/abca/wip/x", &head).await.unwrap();
    s.bare.delete_ref(&remote, "refs/abca/wip/x").await.unwrap();
    let forge = LocalForge::new(LocalForgeConfig::new(Arc::new(VirtualClock::new())));
    let repo = RepoRef::Local(s.user.to_str().unwrap().to_owned());
    forge.repository(&repo).await.unwrap();
    let (head_branch, base, title, body) = (BRANCH.into(), "main".into(), "t".into(), String::new());
    let open = OpenPullRequest { repo: repo.clone(), head: head_branch, base, title, body };
    let pull = forge.open_pull_request(&open).await.unwrap();
    // Both sides change a file, so that a merge driver would be asked.
    std::fs::write(s.user.join(".git/HEAD"), "ref: refs/heads/aside\n").unwrap();
    let merge = MergePullRequest { repo, number: pull.number, expect_head_sha: pull.head_sha };
    forge.merge(&merge).await.unwrap();
    assert_eq!(marks(&s.temp), "");
}

#[tokio::test]
async fn a_configured_merge_driver_is_not_asked() {
    let temp = TempDir::new().unwrap();
    let user = trapped(&temp);
    let plumb = |branch: &str, text: &str| {
        let script = format!(
            "export GIT_INDEX_FILE=$PWD/.git/other; git read-tree main; blob=$(printf '{text}' | git hash-object -w --no-filters --stdin)
             git update-index --cacheinfo 100644,$blob,payload.txt
             git commit-tree -p main -m {branch} $(git write-tree)"
        );
        let sha = sh(&user, &script);
        sh(&user, &format!("git -c core.hooksPath=/dev/null update-ref refs/heads/{branch} {sha}"));
        sha
    };
    let sha = plumb("work", "theirs");
    plumb("base2", "ours");
    sh(&user, "rm -f ../marks/*");
    let forge = LocalForge::new(LocalForgeConfig::new(Arc::new(VirtualClock::new())));
    let repo = RepoRef::Local(user.to_str().unwrap().to_owned());
    let (title, body) = ("t".into(), String::new());
    let open = OpenPullRequest { repo: repo.clone(), head: "work".into(), base: "base2".into(), title, body };
    let pull = forge.open_pull_request(&open).await.unwrap();
    let error = forge.merge(&MergePullRequest { repo, number: pull.number, expect_head_sha: sha }).await.unwrap_err();
    assert!(error.message().contains("both changed `payload.txt`"), "{error}");
    assert_eq!(marks(&temp), "");
}

#[tokio::test]
async fn links_pointers_submodules_and_strange_names_pass_through() {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    sh(
        &user,
        r#"ln -s /etc/passwd out; ln -s ../../.. up; ln -s nowhere dangling; mkdir d; ln -s ../d d/loop; mkdir s
        printf x > 'new
line'; printf x > "$(printf 'bad\377name')"; printf x > '-rf'; printf x > 'tab	"quote'
        printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 5\n' 0 > big.bin
        printf '*.bin filter=lfs diff=lfs merge=lfs -text\n' > .gitattributes
        printf '[submodule "s"]\n\tpath = s\n\turl = ext::sh -c touch%% /tmp/abca-pwned\n' > .gitmodules
        git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),s
        git add . ; git commit -qm strange"#,
    );
    let tree = sh(&user, "git rev-parse HEAD^{tree}");
    let s = stage_on(temp, user).await;
    let link = |name: &str| std::fs::read_link(s.hands.dir().join(name)).unwrap();
    assert_eq!(link("out"), std::path::Path::new("/etc/passwd"));
    assert_eq!(link("up"), std::path::Path::new("../../.."));
    assert!(std::fs::read_to_string(s.hands.dir().join("big.bin")).unwrap().starts_with("version https://git-lfs"));
    assert_eq!(std::fs::read_dir(s.hands.dir().join("s")).unwrap().count(), 0);
    assert_eq!(sh(s.hands.dir(), "git status --porcelain"), "");

    let same = s.hands.snapshot(&s.exec).await.unwrap();
    assert_eq!(sh(s.hands.dir(), &format!("git rev-parse {}^{{tree}}", same.sha)), tree, "untouched, nothing changes");
    sh(s.hands.dir(), "printf y > 'new\nline'; printf y > \"$(printf 'bad\\377name')\"; printf y > ./-rf");
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&snapshot.sha, "refs/abca/wip")]).await.unwrap();
    let stat = s.bare.diff_stat(&s.base, &snapshot.sha).await.unwrap();
    let paths: Vec<&[u8]> = stat.files.iter().map(|f| f.path.as_slice()).collect();
    assert_eq!(paths, [b"-rf".as_slice(), b"bad\xffname", b"new\nline"]);
    s.bare.push_wip(&local(&s.user), "refs/abca/wip/x", &snapshot.sha).await.unwrap();
}

#[tokio::test]
async fn a_file_of_200_mb_passes_through() {
    let s = stage().await;
    // Blocks that do not compress and differ from one another.
    let mut block: Vec<u8> = Vec::with_capacity(1 << 20);
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    while block.len() < 1 << 20 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        block.extend_from_slice(&x.to_le_bytes());
    }
    let mut file = std::fs::File::create(s.hands.dir().join("huge")).unwrap();
    for i in 0..200u8 {
        block[..8].copy_from_slice(&[i; 8]);
        file.write_all(&block).unwrap();
    }
    drop(file);
    let snapshot = s.hands.snapshot(&s.exec).await.unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&snapshot.sha, "refs/abca/wip")]).await.unwrap();
    assert_eq!(sh(s.bare.dir(), &format!("git cat-file -s {}:huge", snapshot.sha)), (200u64 << 20).to_string());
    let stat = s.bare.diff_stat(&s.base, &snapshot.sha).await.unwrap();
    assert_eq!((stat.files.len(), stat.files[0].added), (1, None));
}

#[tokio::test]
async fn borrowed_objects_of_the_source_are_copied_not_borrowed_again() {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    sh(&user, "mv ../user ../origin && cd .. && git clone -q --shared origin user");
    let s = stage_on(temp, user).await;
    for dir in [s.bare.dir().to_owned(), s.hands.dir().join(".git")] {
        assert!(!dir.join("objects/info/alternates").exists());
    }
    std::fs::remove_dir_all(s.temp.path().join("origin")).unwrap();
    std::fs::remove_dir_all(&s.user).unwrap();
    sh(s.bare.dir(), "git fsck --strict");
    std::fs::remove_dir_all(s.bare.dir()).unwrap();
    sh(s.hands.dir(), "git fsck --strict && git log -1");
}
