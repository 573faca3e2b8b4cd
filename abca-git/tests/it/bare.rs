use abca_core::git::GitErrorKind;
use abca_git::{Bare, CloneLimits, Trailer};
use tempfile::TempDir;

use crate::support::{BRANCH, git, local, photo, sh, stage, user_repo, without};

#[tokio::test]
async fn a_source_that_cannot_be_started_from_says_what_to_do() {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    let clone = async |dir: &str, base: Option<&str>| {
        let error =
            Bare::clone(&git(), &local(&temp.path().join(dir)), &temp.path().join("b.git"), base).await.unwrap_err();
        (error.kind(), error.message().to_owned())
    };
    sh(temp.path(), "mkdir plain && git init -q empty");
    let (kind, _) = clone("plain", None).await;
    assert_eq!(kind, GitErrorKind::NotFound);
    let (kind, message) = clone("empty", None).await;
    assert_eq!(kind, GitErrorKind::Invalid);
    assert!(message.contains("no commits yet: make a first commit"), "{message}");
    let (kind, message) = clone("user", Some("nope")).await;
    assert_eq!(kind, GitErrorKind::NotFound);
    assert!(message.contains("no branch `nope`; it has `main`"), "{message}");
    sh(&user, "git checkout -q --detach");
    let (kind, message) = clone("user", None).await;
    assert_eq!(kind, GitErrorKind::Invalid);
    assert!(message.contains("is detached at") && message.contains("name the branch"), "{message}");
    sh(&user, "git symbolic-ref HEAD refs/heads/void");
    let (kind, message) = clone("user", None).await;
    assert_eq!(kind, GitErrorKind::Invalid);
    assert!(message.contains("branch without commits"), "{message}");
    assert_eq!(clone("user", Some("--upload-pack=x")).await.0, GitErrorKind::Invalid);
    assert!(!temp.path().join("b.git").exists());
    Bare::clone(&git(), &local(&user), &temp.path().join("b.git"), Some("main")).await.unwrap();
    assert_eq!(clone("user", Some("main")).await.0, GitErrorKind::Conflict);
}

#[tokio::test]
async fn a_dirty_work_tree_is_left_and_its_commit_is_what_work_starts_from() {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    sh(&user, "echo changed > a.txt; echo new > b.txt; echo staged > c.txt; git add c.txt");
    let before = photo(&user);
    let s = crate::support::stage_on(temp, user).await;
    assert_eq!(photo(&s.user), before);
    assert_eq!(std::fs::read_to_string(s.hands.dir().join("a.txt")).unwrap(), "one\n");
    assert!(!s.hands.dir().join("b.txt").exists());
    assert!(!s.hands.dir().join("c.txt").exists());
}

#[tokio::test]
async fn pushes_its_own_branch_only_and_nothing_else_of_the_user_changes() {
    let s = stage().await;
    let remote = local(&s.user);
    sh(s.hands.dir(), "echo two > a.txt && git commit -qam 'fix: two'");
    let head = s.hands.head(&s.exec).await.unwrap().unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&head, "refs/abca/work")]).await.unwrap();
    let before = photo(&s.user);

    s.bare.push(&remote, BRANCH, &head, None).await.unwrap();
    s.bare.push(&remote, BRANCH, &head, None).await.unwrap();
    let wip = "refs/abca/wip/01J";
    s.bare.push_wip(&remote, wip, &s.base).await.unwrap();
    s.bare.push_wip(&remote, wip, &head).await.unwrap();
    assert_eq!(sh(&s.user, &format!("git rev-parse {BRANCH} {wip}")), format!("{head}\n{head}"));
    assert_eq!(s.bare.fetch_ref(&remote, wip).await.unwrap().as_deref(), Some(head.as_str()));
    s.bare.delete_ref(&remote, wip).await.unwrap();
    s.bare.delete_ref(&remote, wip).await.unwrap();
    assert_eq!(s.bare.fetch_ref(&remote, "refs/abca/wip/none").await.unwrap(), None);

    let ours = [".git/objects", ".git/refs/heads/bgagent", ".git/logs/refs/heads/bgagent", ".git/refs/abca"];
    assert_eq!(without(photo(&s.user), &ours), without(before, &ours));

    let refused = s.bare.push(&remote, "main", &head, Some(&s.base)).await.unwrap_err();
    assert_eq!(refused.kind(), GitErrorKind::Invalid);
    for name in ["refs/heads/main", "refs/abca/../heads/main", "refs/abcax/y"] {
        assert_eq!(s.bare.push_wip(&remote, name, &head).await.unwrap_err().kind(), GitErrorKind::Invalid, "{name}");
        assert_eq!(s.bare.delete_ref(&remote, name).await.unwrap_err().kind(), GitErrorKind::Invalid, "{name}");
    }
}

#[tokio::test]
async fn a_branch_with_foreign_commits_is_a_conflict() {
    let s = stage().await;
    let remote = local(&s.user);
    sh(
        &s.user,
        &format!(
            "git branch {BRANCH} && git commit-tree -p HEAD -m foreign HEAD^{{tree}} | xargs git update-ref refs/heads/{BRANCH}"
        ),
    );
    let foreign = sh(&s.user, &format!("git rev-parse {BRANCH}"));
    let ours = s.bare.regraft(&s.base, &s.base, "ours").await.unwrap();
    for expect in [None, Some(s.base.as_str())] {
        let error = s.bare.push(&remote, BRANCH, &ours, expect).await.unwrap_err();
        assert_eq!(error.kind(), GitErrorKind::Conflict, "{error}");
        // What is in the way, and what to do.
        let says =
            [format!("the branch `{BRANCH}` "), format!("its head is {foreign}"), format!("`git branch -m {BRANCH} ")];
        says.iter().for_each(|text| assert!(error.message().contains(text), "{error}"));
    }
    assert_eq!(sh(&s.user, &format!("git rev-parse {BRANCH}")), foreign);
    s.bare.push(&remote, BRANCH, &ours, Some(&foreign)).await.unwrap();
}

#[tokio::test]
async fn a_branch_where_a_folder_of_branches_would_be_is_named_and_so_is_one_within() {
    for there in [BRANCH.split_once('/').unwrap().0.to_owned(), format!("{BRANCH}/deeper")] {
        let s = stage().await;
        sh(&s.user, &format!("git branch {there}"));
        let ours = s.bare.regraft(&s.base, &s.base, "ours").await.unwrap();
        let error = s.bare.push(&local(&s.user), BRANCH, &ours, None).await.unwrap_err();
        assert_eq!(error.kind(), GitErrorKind::Conflict, "{error}");
        let says = [format!("has a branch `{there}`"), format!("cannot make `{BRANCH}`")];
        says.iter().for_each(|text| assert!(error.message().contains(text), "{error}"));
    }
}

#[tokio::test]
async fn a_branch_that_is_checked_out_is_never_pushed_even_if_its_owner_allows_it() {
    let s = stage().await;
    sh(&s.user, &format!("git checkout -q -b {BRANCH} && git config receive.denyCurrentBranch updateInstead"));
    let before = photo(&s.user);
    let ours = s.bare.regraft(&s.base, &s.base, "ours").await.unwrap();
    let error = s.bare.push(&local(&s.user), BRANCH, &ours, Some(&s.base)).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Conflict);
    assert!(error.message().contains("checked out there: switch to another branch"), "{error}");
    assert_eq!(without(photo(&s.user), &[".git/objects"]), without(before, &[".git/objects"]));
}

#[tokio::test]
async fn trailers_go_on_new_commits_and_change_nothing_else() {
    let s = stage().await;
    sh(
        s.hands.dir(),
        "git checkout -q -b side && echo s > s && git add s && git commit -qm 'side'
         git checkout -q - && echo t > t && git add t && git commit -qm 'main line'
         git merge -q --no-ff -m 'merge side' side
         git -c i18n.commitEncoding=ISO-8859-1 commit -q --allow-empty -m \"$(printf 'caf\\351')\"
         git commit -q --allow-empty -m 'tagged' -m 'Task-Id: other'",
    );
    let head = s.hands.head(&s.exec).await.unwrap().unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&head, "refs/abca/work")]).await.unwrap();
    let trailers = [
        Trailer { token: "Task-Id".into(), value: "01J".into() },
        Trailer { token: "Prompt-Version".into(), value: "0123456789ab".into() },
    ];
    let new = s.bare.add_trailers(&s.base, &head, &trailers).await.unwrap();
    assert_eq!(s.bare.add_trailers(&s.base, &head, &trailers).await.unwrap(), new);
    assert_eq!(s.bare.add_trailers(&s.base, &new, &trailers).await.unwrap(), new);
    assert_eq!(s.bare.add_trailers(&s.base, &s.base, &trailers).await.unwrap(), s.base);

    let show = |sha: &str, format: &str| {
        sh(s.bare.dir(), &format!("git log --topo-order --format='{format}' {sha} ^{}", s.base))
    };
    let kept = "%T %an %ae %ad %cn %ce %cd %s";
    assert_eq!(show(&new, kept), show(&head, kept));
    assert_eq!(show(&new, "%(trailers:key=Task-Id,valueonly,separator=%x2c)"), "other\n01J\n01J\n01J\n01J");
    let log = s.bare.log(&s.base, &new).await.unwrap();
    assert_eq!(log.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>()[2..], ["merge side", "café", "tagged"]);
    assert_eq!(log[2].parents.len(), 2);
    assert_eq!((log[0].author_name.as_str(), log[0].authored_secs), ("Ann Author", 1_700_000_000));
    sh(s.bare.dir(), &format!("git fsck --strict --no-dangling {new}"));

    // Work that goes on from the same commits extends what was pushed.
    sh(s.hands.dir(), "git commit -q --allow-empty -m more");
    let more = s.hands.head(&s.exec).await.unwrap().unwrap();
    s.hands.hand_over(&s.exec, &s.bare, &[(&more, "refs/abca/work")]).await.unwrap();
    let newer = s.bare.add_trailers(&s.base, &more, &trailers).await.unwrap();
    assert!(s.bare.is_ancestor(&new, &newer).await.unwrap());
}

#[tokio::test]
async fn the_size_of_a_take_over_is_limited_and_its_target_confined() {
    let s = stage().await;
    let noise: Vec<u8> = (0..400_000u64).flat_map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
    std::fs::write(s.hands.dir().join("big"), noise).unwrap();
    let sha = s.hands.snapshot(&s.exec).await.unwrap().sha;
    let small = s.bare.clone().with_limits(CloneLimits { max_fetch_bytes: 1 << 20 });
    let error = s.hands.hand_over(&s.exec, &small, &[(&sha, "refs/abca/x")]).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Invalid, "{error}");
    assert!(error.message().contains("more than the limit of 1048576 bytes"), "{error}");
    assert!(small.resolve(&sha).await.is_err(), "nothing of it is kept");
    for target in ["refs/heads/main", "refs/tags/x", "HEAD", "refs/abca/../heads/main"] {
        let error = s.hands.hand_over(&s.exec, &s.bare, &[(&sha, target)]).await.unwrap_err();
        assert_eq!(error.kind(), GitErrorKind::Invalid, "{target}");
    }
    s.hands.hand_over(&s.exec, &s.bare, &[(&sha, "refs/abca/x")]).await.unwrap();
    let stat = s.bare.diff_stat(&s.base, &sha).await.unwrap();
    assert_eq!(stat.files.len(), 1);
    assert_eq!((stat.files[0].path.as_slice(), stat.files[0].added), (b"big".as_slice(), None));
}

#[tokio::test]
async fn objects_that_would_harm_are_refused() {
    let s = stage().await;
    let head = sh(
        s.hands.dir(),
        "blob=$(echo x | git hash-object -w --stdin)
         tree=$(printf '100644 blob %s\\t.git\\n' $blob | git mktree)
         git commit-tree -p HEAD -m evil $tree",
    );
    let error = s.hands.hand_over(&s.exec, &s.bare, &[(&head, "refs/abca/x")]).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Corrupt, "{error}");
    assert!(s.bare.resolve(&head).await.is_err());
}

#[tokio::test]
async fn reopens_what_was_cloned_and_nothing_less() {
    let s = stage().await;
    let again = Bare::open(&git(), s.bare.dir()).await.unwrap();
    assert_eq!((again.base_branch(), again.base_sha().await.unwrap()), ("main", s.base.clone()));
    let error = Bare::open(&git(), &s.user.join(".git")).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::NotFound);
    assert_eq!(s.bare.resolve("--all").await.unwrap_err().kind(), GitErrorKind::NotFound);
}
