//! State folders that cannot be used, that are shared, and that run full.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};

use super::place::{ABCA, CHECK, FIX, Place, is_root, standing};

/// Another user, who may do nothing special.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn a_state_folder_of_somebody_else_is_refused_and_left_alone() {
    if !is_root("a_state_folder_of_somebody_else_is_refused_and_left_alone") {
        return;
    }
    let place = Place::new();
    place.run(["list"]).prints(0, &["no tasks"]);
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let mine = std::fs::read(place.state().join("abca-state")).unwrap();
    let as_nobody = |state: &std::path::Path| {
        let mut command = Command::new("setpriv");
        command.args(NOBODY).arg(ABCA).arg("--state").arg(state).arg("list");
        place.calm(&mut command);
        super::place::Ran::from(command.output().unwrap())
    };
    as_nobody(&place.state()).fails(1, &["state", "cannot be read: check its rights", "Permission denied"]);
    let new = place.path("new");
    as_nobody(&new).fails(1, &["cannot be made: check the rights of the folder above it", "Permission denied"]);
    assert_eq!(std::fs::read(place.state().join("abca-state")).unwrap(), mine);
    assert!(!new.exists());
}

#[test]
fn a_repository_that_may_only_be_read_is_refused_before_any_work() {
    if !is_root("a_repository_that_may_only_be_read_is_refused_before_any_work") {
        return;
    }
    let place = Place::new();
    let repo = place.sample("repo");
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o777)).unwrap();
    let model = place.replay("task.jsonl", FIX);
    let mut command = Command::new("setpriv");
    command.args(NOBODY).arg(ABCA).arg("--state").arg(place.state()).arg("run");
    command.args(["--repo", repo.to_str().unwrap(), "--model", &model, "set it right"]);
    place.calm(&mut command);
    let before = standing(&repo);
    let ran = super::place::Ran::from(command.output().unwrap());
    ran.prints(1, &["FAILED", repo.to_str().unwrap(), "what to do"]);
    assert_eq!(standing(&repo), before);
}

#[test]
fn a_user_with_no_rights_and_no_home_to_write_in_gets_a_pull_request() {
    if !is_root("a_user_with_no_rights_and_no_home_to_write_in_gets_a_pull_request") {
        return;
    }
    let place = Place::new();
    let repo = place.sample("repo");
    std::fs::set_permissions(place.home(), PermissionsExt::from_mode(0o555)).unwrap();
    std::fs::create_dir(place.state()).unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).args([&repo, &place.state()]).status().unwrap();
    assert!(owned.success());
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let model = place.replay("task.jsonl", FIX);
    let mut command = Command::new("setpriv");
    command.args(NOBODY).args(["timeout", "--signal=KILL", "170", ABCA]).arg("--state").arg(place.state());
    command.args(["run", "--repo", repo.to_str().unwrap(), "--model", &model, "--test", CHECK, "set it right"]);
    place.calm(&mut command);
    let ran = super::place::Ran::from(command.output().unwrap());
    ran.prints(0, &["COMPLETED", "Pull request #1", "FAILED \u{2192} passed"]);
    assert_eq!(std::fs::read_dir(place.home()).unwrap().count(), 0, "nothing in the home");
}

#[test]
fn a_newer_state_folder_and_a_newer_database_are_refused_unchanged() {
    let place = Place::new();
    place.run(["list"]).ends(0);
    let layout = place.state().join("abca-state");
    let old = std::fs::read(&layout).unwrap();
    std::fs::write(&layout, "9999\n").unwrap();
    place.run(["list"]).fails(1, &["has layout 9999", "use a newer abca, or another folder"]);
    assert_eq!(std::fs::read(&layout).unwrap(), b"9999\n");
    std::fs::write(&layout, old).unwrap();
    place.run(["list"]).ends(0);

    // SQLite keeps the version of the schema here, once what is beside the database is in it.
    let db = place.state().join("abca.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { abca_store::Sqlite::open(place.state()).await.unwrap().close().await.unwrap() });
    let file = std::fs::OpenOptions::new().write(true).open(&db).unwrap();
    file.write_all_at(&9_999_u32.to_be_bytes(), 60).unwrap();
    let newer = std::fs::read(&db).unwrap();
    for command in [&["list"][..], &["worker", "--until-idle"]] {
        place.run(command).fails(1, &["9999", "newer", "abca.db"]);
    }
    assert_eq!(std::fs::read(&db).unwrap(), newer);
}

#[test]
fn a_damaged_database_is_named_and_not_replaced() {
    let place = Place::new();
    place.run(["list"]).ends(0);
    let db = place.state().join("abca.db");
    for beside in ["abca.db-wal", "abca.db-shm"] {
        drop(std::fs::remove_file(place.state().join(beside)));
    }
    std::fs::write(&db, "this is no database, but somebody may want it\n".repeat(200)).unwrap();
    let damaged = std::fs::read(&db).unwrap();
    place.run(["list"]).fails(1, &["abca.db"]);
    assert_eq!(std::fs::read(&db).unwrap(), damaged);
}

#[test]
fn a_state_folder_that_is_something_else_is_refused() {
    let place = Place::new();
    let file = place.file("file", "precious");
    let with = |state: &std::path::Path| {
        let mut command = place.bare_abca();
        command.arg("--state").arg(state).arg("list");
        super::place::Ran::from(command.output().unwrap())
    };
    with(&file).fails(1, &["`", "is not a folder: give the path of a folder"]);
    with(&place.path("")).fails(1, &["is not an abca state folder: give an empty folder, or a new path"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_state_folder_deep_down_works() {
    let place = Place::new();
    let repo = place.sample("repo");
    // Longer than the path of a socket may be.
    let state = place.path("a-rather-long-name-of-a-folder/".repeat(5));
    let model = place.replay("task.jsonl", FIX);
    let mut command = place.bare_abca();
    command.arg("--state").arg(&state).args(["run", "--repo", repo.to_str().unwrap(), "--model", &model, "x"]);
    super::place::Ran::from(command.output().unwrap()).prints(0, &["COMPLETED"]);
}

#[test]
fn two_workers_on_one_folder_share_the_work_and_do_each_task_once() {
    let place = Place::new();
    let model = place.replay("task.jsonl", FIX);
    let repos: Vec<_> = (0..4).map(|n| place.sample(&format!("repo-{n}"))).collect();
    for repo in &repos {
        place.run(["submit", "--repo", repo.to_str().unwrap(), "--model", &model, "set it right"]).ends(0);
    }
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let mut command = place.abca();
            command.args(["worker", "--until-idle"]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for worker in workers {
        super::place::Ran::from(worker.wait_with_output().unwrap()).ends(0);
    }
    let tasks = place.run(["list", "--output", "json"]).json();
    for task in tasks["tasks"].as_array().unwrap() {
        assert_eq!((&task["status"], &task["attempt"]), (&"COMPLETED".into(), &1.into()), "{task:#}");
    }
    for repo in &repos {
        let all = place.run(["pr", "list", "--repo", repo.to_str().unwrap(), "--output", "json"]).json();
        assert_eq!(all.as_array().unwrap().len(), 1);
    }
}

/// Runs a script in which `$STATE` is a small disk of its own.
fn on_a_small_disk(place: &Place, bytes: u64, script: &str) -> super::place::Ran {
    std::fs::create_dir_all(place.state()).unwrap();
    let mut command = Command::new("timeout");
    let whole = format!("mount -t tmpfs -o size={bytes},mode=0700 tmpfs \"$STATE\" || exit 99\n{script}");
    command.args(["--signal=KILL", "170", "unshare", "--mount", "sh", "-c", &whole]);
    place.calm(&mut command);
    command.env("STATE", place.state()).env("ABCA", ABCA).env("DIR", place.path(""));
    command.output().unwrap().into()
}

#[test]
fn a_disk_that_runs_full_in_the_middle_holds_the_task_up_and_loses_nothing() {
    if !is_root("a_disk_that_runs_full_in_the_middle_holds_the_task_up_and_loses_nothing") {
        return;
    }
    let place = Place::new();
    let repo = place.sample("repo");
    place.file(
        "task.jsonl",
        r#"{"abca_trajectory": 1}
{"calls": [{"name": "Bash", "input": {"command": "sed -i s/wrong/right/ file.txt; mkdir ignored; cat /dev/zero > ignored/filler"}}]}
{"expect": ["No space left on device"], "say": "Done."}
"#,
    );
    // The program itself is kept beside the work, which is on this disk too.
    let bytes = std::fs::metadata(ABCA).unwrap().len() + (24 << 20);
    let script = r#"
        "$ABCA" --state "$STATE" run --repo "$DIR/repo" --model "replay:$DIR/task.jsonl" --test 'sh check.sh' "set it right" 2> "$DIR/said" &
        # Until the disk is full and that is said; then somebody makes room.
        while [ "$(df --output=avail "$STATE" | tail -1)" -gt 0 ]; do sleep 0.05; done
        until grep -q "is full: the task waits" "$DIR/said"; do sleep 0.05; done
        "$ABCA" --state "$STATE" list >&2
        for filler in "$STATE"/work/*/tree/ignored/filler; do : > "$filler"; done
        wait $!; status=$?
        cat "$DIR/said" >&2
        exit $status
    "#;
    let ran = on_a_small_disk(&place, bytes, script);
    ran.prints(0, &["COMPLETED", "Pull request #1", "FAILED \u{2192} passed"]);
    assert!(ran.stderr.contains("RUNNING"), "a full disk can be read\n{ran:#?}");
    assert!(ran.stderr.contains("there is room on the disk again"), "{ran:#?}");
    let all = place.git(&repo, ["for-each-ref", "--format=%(refname)", "refs/heads/bgagent"]);
    assert_eq!(all.lines().count(), 1);
    assert_eq!(place.git(&repo, ["show", &format!("{}:file.txt", all.trim())]), "right\n");
}

#[test]
fn a_disk_that_is_full_from_the_start_is_said_to_be() {
    if !is_root("a_disk_that_is_full_from_the_start_is_said_to_be") {
        return;
    }
    let place = Place::new();
    let repo = place.sample("repo");
    let before = standing(&repo);
    let run = r#"exec "$ABCA" --state "$STATE" run --repo "$DIR/repo" --model "replay:$DIR/fix.jsonl" "set it right""#;
    // No room for the database.
    on_a_small_disk(&place, 16 << 10, run).fails(1, &["abca.db", "the disk is full; free some space"]);
    // Room for the database, and not for the work.
    let ran = on_a_small_disk(&place, 2 << 20, run);
    ran.prints(1, &["FAILED", "No space left on device", "what to do", "disk"]);
    assert_eq!(standing(&repo), before);
}
