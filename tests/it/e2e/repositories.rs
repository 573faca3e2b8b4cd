//! Repositories as they are found: none, empty, detached, dirty, bare, with several work trees, with branches in the way.

use super::place::{CHECK, FIX, Place, standing};

#[test]
fn a_folder_that_is_no_repository_is_named_with_what_to_do() {
    let place = Place::new();
    let folder = place.path("plain");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("mine"), "precious").unwrap();
    let ran = place.task(&folder, FIX, &[]);
    let why = format!("`{}` is not a git repository: give another path, or `git init`", folder.display());
    ran.prints(1, &["FAILED", &why, "what to do"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing was added");

    let missing = place.path("missing");
    let why = format!("`{}` does not exist", missing.display());
    let ran = place.task(&missing, FIX, &[]);
    ran.prints(1, &["FAILED", &why]);
    assert_eq!(ran.stdout.matches("does not exist").count(), 1, "said once\n{ran:#?}");
    assert!(!missing.exists());
}

#[test]
fn a_folder_inside_a_repository_is_not_the_repository() {
    let place = Place::new();
    let repo = place.sample("repo");
    let inside = repo.join("sub");
    std::fs::create_dir(&inside).unwrap();
    let why = format!("is inside the repository `{}`: give that path", repo.display());
    place.task(&inside, FIX, &[]).prints(1, &["FAILED", &why]);
}

#[test]
fn a_repository_without_commits_wants_one() {
    let place = Place::new();
    let repo = place.path("empty");
    place.init(&repo);
    let before = standing(&repo);
    place.task(&repo, FIX, &[]).prints(1, &["FAILED", "has no commits yet: make a first commit, then submit again"]);
    assert_eq!(standing(&repo), before);
}

#[test]
fn a_detached_head_wants_a_base_and_takes_one() {
    let place = Place::new();
    let repo = place.sample("repo");
    place.git(&repo, ["checkout", "--quiet", "--detach"]);
    let before = standing(&repo);
    place.task(&repo, FIX, &[]).prints(1, &["FAILED", "its HEAD is detached", "`--base`"]);

    let (ran, json) = place.task_json(&repo, FIX, &["--base", "main"]);
    ran.ends(0);
    assert_eq!(json["pull_request"]["base"], "main");
    assert_eq!(standing(&repo), before);
}

#[test]
fn a_base_that_is_not_there_is_answered_with_those_that_are() {
    let place = Place::new();
    let repo = place.sample("repo");
    place.task(&repo, FIX, &["--base", "nope"]).prints(1, &["FAILED", "has no branch `nope`; it has `main`"]);
}

#[test]
fn a_dirty_work_tree_stays_as_it_is_and_its_commit_is_the_start() {
    let place = Place::new();
    let repo = place.sample("repo");
    std::fs::write(repo.join("staged.txt"), "staged\n").unwrap();
    place.git(&repo, ["add", "staged.txt"]);
    std::fs::write(repo.join("file.txt"), "edited by hand\n").unwrap();
    std::fs::write(repo.join("untracked.txt"), "untracked\n").unwrap();
    std::fs::create_dir(repo.join("ignored")).unwrap();
    std::fs::write(repo.join("ignored/big"), "ignored\n").unwrap();
    let (before, head) = (standing(&repo), place.git(&repo, ["rev-parse", "HEAD"]));

    let looks = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Bash", "input": {"command": "cat file.txt; ls; git status --short; echo seen"}}]}
{"expect": ["wrong\ncheck.sh\nfile.txt\nseen"], "calls": [{"name": "Bash", "input": {"command": "echo right > file.txt; mkdir -p ignored; echo x > ignored/y; echo new > new.txt"}}]}
{"say": "Done."}
"#;
    let (ran, json) = place.task_json(&repo, looks, &["--test", CHECK]);
    ran.ends(0);
    assert_eq!(standing(&repo), before);
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["rev-parse", &format!("{branch}~1")]), head);
    let changed = place.git(&repo, ["diff", "--name-only", "main", branch]);
    assert_eq!(changed, "file.txt\nnew.txt\n", "what git ignores stays out");
    assert_eq!(json["outcome"]["verification"][0]["before"], "failed");
    assert_eq!(json["outcome"]["verification"][0]["after"], "passed");
}

#[test]
fn a_bare_repository_is_worked_on_like_any() {
    let place = Place::new();
    let repo = place.sample("repo");
    let bare = place.path("repo.git");
    place.git(&repo, ["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let (ran, json) = place.task_json(&bare, FIX, &["--test", CHECK]);
    ran.ends(0);
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&bare, ["show", &format!("{branch}:file.txt")]), "right\n");
    assert_eq!(place.git(&bare, ["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    let shown = place.run(["pr", "show", "1", "--repo", bare.to_str().unwrap()]);
    shown.prints(0, &["Pull request #1", "fix: set the file right"]);
}

#[test]
fn a_work_tree_of_several_starts_from_its_own_branch() {
    let place = Place::new();
    let repo = place.sample("repo");
    let tree = place.path("tree");
    place.git(&repo, ["worktree", "add", "--quiet", "-b", "side", tree.to_str().unwrap()]);
    std::fs::write(tree.join("side.txt"), "side\n").unwrap();
    place.commit(&tree, "on the side");
    let before = (standing(&repo), standing(&tree));
    let (ran, json) = place.task_json(&tree, FIX, &[]);
    ran.ends(0);
    assert_eq!(json["pull_request"]["base"], "side");
    assert_eq!((standing(&repo), standing(&tree)), before);
    // Both work trees are one repository.
    let listed = place.run(["pr", "list", "--repo", repo.to_str().unwrap(), "--output", "json"]).json();
    assert_eq!(listed[0]["number"], json["pull_request"]["number"]);
}

#[test]
fn a_branch_of_somebody_elses_is_not_written_over() {
    let place = Place::new();
    let repo = place.sample("repo");
    let model = place.replay("task.jsonl", FIX);
    let path = repo.to_str().unwrap();
    let submitted = place.run(["submit", "--repo", path, "--model", &model, "set it right"]);
    let task = submitted.ends(0).stdout.trim().to_owned();
    let branch = format!("bgagent/{task}/set-it-right");
    place.git(&repo, ["checkout", "--quiet", "-b", &branch]);
    std::fs::write(repo.join("foreign.txt"), "foreign\n").unwrap();
    place.commit(&repo, "foreign work");
    place.git(&repo, ["checkout", "--quiet", "main"]);
    let foreign = place.git(&repo, ["rev-parse", &branch]);

    place.run(["worker", "--until-idle"]).ends(0);
    let status = place.run(["status", &task]);
    // Found before anything is spent on it.
    status.prints(0, &["FAILED", "BRANCH_IN_THE_WAY", &branch, "what to do"]);
    assert_eq!(place.git(&repo, ["rev-parse", &branch]), foreign, "the foreign commits are still there");
    let events = place.run(["events", &task]).ends(0).stdout.clone();
    assert!(!events.contains("session_starting"), "{events}");
}

#[test]
fn a_branch_that_stands_where_the_folder_of_branches_would_be_is_named() {
    let place = Place::new();
    let repo = place.sample("repo");
    place.git(&repo, ["branch", "bgagent"]);
    let (ran, json) = place.task_json(&repo, FIX, &[]);
    ran.ends(1);
    let why = json["outcome"]["failure"]["message"].as_str().unwrap();
    assert!(why.contains("BRANCH_IN_THE_WAY") && why.contains("`git branch -m bgagent another-name`"), "{why}");
    let events = json["events"].to_string();
    assert!(!events.contains("session_starting"), "{events}");
}
