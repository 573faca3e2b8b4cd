//! What a repository may hold: hooks, submodules, links that lead out, odd names, pointers, very large files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::place::{FIX, Place, standing};

#[test]
fn no_hook_of_the_repository_runs() {
    let place = Place::new();
    let repo = place.sample("repo");
    let ran = place.path("a-hook-ran");
    let hook = format!("#!/bin/sh\necho $0 >> {}\n", ran.display());
    let shared = repo.join("hooks");
    std::fs::create_dir(&shared).unwrap();
    for name in [
        "pre-commit",
        "commit-msg",
        "post-commit",
        "post-checkout",
        "pre-push",
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "push-to-checkout",
        "post-index-change",
        "fsmonitor-watchman",
    ] {
        for path in [repo.join(".git/hooks").join(name), shared.join(name)] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &hook).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    place.git(&repo, ["-c", "core.hooksPath=/dev/null", "add", "--all"]);
    place.git(&repo, ["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "hooks"]);
    let shared = shared.display().to_string();
    place.git(&repo, ["config", "core.fsmonitor", &format!("{shared}/fsmonitor-watchman")]);
    drop(std::fs::remove_file(&ran));
    place.task(&repo, FIX, &[]).ends(0);
    assert!(!ran.exists(), "{}", std::fs::read_to_string(&ran).unwrap_or_default());
}

#[test]
fn a_submodule_stays_what_it_is_and_is_not_fetched() {
    let place = Place::new();
    let (inner, repo) = (place.sample("inner"), place.sample("repo"));
    let url = inner.to_str().unwrap();
    place.git(&repo, ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "vendor"]);
    place.commit(&repo, "a submodule");
    let before = (standing(&repo), standing(&inner));
    let (ran, json) = place.task_json(&repo, FIX, &["--test", "test -d vendor && ! test -e vendor/file.txt"]);
    ran.ends(0);
    assert_eq!(json["outcome"]["verification"][0]["after"], "passed");
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["diff", "--name-only", "main", branch]), "file.txt\n");
    assert_eq!((standing(&repo), standing(&inner)), before);
}

#[test]
fn links_that_lead_out_of_the_tree_lead_nowhere() {
    let place = Place::new();
    let repo = place.sample("repo");
    let secret = place.file("secret.txt", "the secret\n");
    symlink(&secret, repo.join("out")).unwrap();
    symlink("../../../../../../../../etc", repo.join("etc")).unwrap();
    symlink("loop", repo.join("loop")).unwrap();
    symlink(place.path(""), repo.join("parent")).unwrap();
    place.commit(&repo, "links");
    let before = standing(&repo);
    let follows = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Read", "input": {"file_path": "out"}}, {"name": "Read", "input": {"file_path": "etc/hostname"}}, {"name": "Read", "input": {"file_path": "loop"}}, {"name": "Write", "input": {"file_path": "out", "content": "owned"}}, {"name": "Write", "input": {"file_path": "parent/owned.txt", "content": "owned"}}, {"name": "Bash", "input": {"command": "cat out parent/secret.txt; echo owned > parent/owned2.txt; sed -i s/wrong/right/ file.txt"}}]}
{"say": "Done."}
"#;
    let (ran, json) = place.task_json(&repo, follows, &[]);
    ran.ends(0);
    assert_eq!(standing(&repo), before);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the secret\n");
    assert!(!place.path("owned.txt").exists() && !place.path("owned2.txt").exists());
    let log = place.run(["log", json["outcome"]["task_id"].as_str().unwrap()]);
    assert!(!log.ends(0).stdout.contains("the secret"), "{log:#?}");
    // The links themselves are kept, and those through which was written are not replaced by files.
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["diff", "--name-only", "main", branch]), "file.txt\n");
}

#[test]
fn names_with_newlines_and_without_utf8_come_through() {
    let place = Place::new();
    let repo = place.sample("repo");
    let odd = [
        &b"new\nline.txt"[..],
        b"bad\xff\xfe.txt",
        b"-rf",
        b" lead",
        b"tab\there",
        b"quote'\"`$(x)",
        b"\xf0\x9f\xa6\x80",
    ];
    for name in odd {
        std::fs::write(repo.join(OsStr::from_bytes(name)), name).unwrap();
    }
    place.git(&repo, ["add", "--all"]);
    place.commit(&repo, "odd names");
    let before = standing(&repo);
    let more = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Write", "input": {"file_path": "/tmp/names.sh", "content": "printf more >> \"$(printf 'new\\nline.txt')\"; printf q > \"$(printf 'x\\377\\ny')\"; sed -i s/wrong/right/ file.txt"}}, {"name": "Bash", "input": {"command": "bash /tmp/names.sh"}}, {"name": "Glob", "input": {"pattern": "**/*"}}, {"name": "Grep", "input": {"pattern": "line"}}]}
{"say": "Done."}
"#;
    let (ran, json) = place.task_json(&repo, more, &["--test", "test -e -rf && test -e ' lead'"]);
    ran.ends(0);
    assert_eq!(standing(&repo), before);
    let branch = json["outcome"]["branch"].as_str().unwrap();
    let changed = place.git(&repo, ["diff", "--name-only", "main", branch]);
    assert_eq!(changed, "file.txt\n\"new\\nline.txt\"\n\"x\\377\\ny\"\n");
    // Both faces of the log stay readable.
    let task = json["outcome"]["task_id"].as_str().unwrap();
    place.run(["log", task]).ends(0);
    place.run(["log", task, "--output", "json"]).ends(0).json();
}

#[test]
fn a_pointer_of_large_file_storage_stays_a_pointer() {
    let place = Place::new();
    let repo = place.sample("repo");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:\
                   4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    std::fs::write(repo.join("big.bin"), pointer).unwrap();
    place.commit(&repo, "a pointer");
    std::fs::write(repo.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    place.git(&repo, ["add", ".gitattributes"]);
    place.commit(&repo, "attributes");
    let (ran, json) = place.task_json(&repo, FIX, &["--test", "grep -q git-lfs big.bin"]);
    ran.ends(0);
    assert_eq!(json["outcome"]["verification"][0]["after"], "passed");
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["show", &format!("{branch}:big.bin")]), pointer);
    assert_eq!(place.git(&repo, ["diff", "--name-only", "main", branch]), "file.txt\n");
}

#[test]
fn a_file_of_200_mb_does_not_come_in_the_way() {
    let place = Place::new();
    let repo = place.sample("repo");
    std::fs::File::create(repo.join("large")).unwrap().set_len(200_000_000).unwrap();
    place.commit(&repo, "a large file");
    let touches = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Bash", "input": {"command": "sed -i s/wrong/right/ file.txt; printf x >> large"}}, {"name": "Grep", "input": {"pattern": "right"}}, {"name": "Read", "input": {"file_path": "large"}}]}
{"say": "Done."}
"#;
    let (ran, json) = place.task_json(&repo, touches, &[]);
    ran.ends(0);
    let branch = json["outcome"]["branch"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["cat-file", "-s", &format!("{branch}:large")]), "200000001\n");
}
