//! Repositories for tests, made by the git program as a person would.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use abca_core::git::Remote;
use abca_git::{Bare, Git, HandsRepo, PlainExec};
use tempfile::TempDir;

pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs a shell script in a folder with a person's git identity; answers stdout, panics on failure.
pub fn sh(dir: &Path, script: &str) -> String {
    let out = Command::new("sh")
        .args(["-euc", script])
        .current_dir(dir)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ann Author")
        .env("GIT_AUTHOR_EMAIL", "ann@example.com")
        .env("GIT_AUTHOR_DATE", "1700000000 +0100")
        .env("GIT_COMMITTER_NAME", "Carl Committer")
        .env("GIT_COMMITTER_EMAIL", "carl@example.com")
        .env("GIT_COMMITTER_DATE", "1700000001 -0500")
        .output()
        .unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

/// A work tree at `<temp>/user` with one commit on `main`.
pub fn user_repo(temp: &TempDir) -> PathBuf {
    let dir = temp.path().join("user");
    std::fs::create_dir(&dir).unwrap();
    sh(
        &dir,
        "git init -q -b main . && echo one > a.txt && echo '*.log' > .gitignore && git add . && git commit -qm first",
    );
    dir
}

pub fn local(dir: &Path) -> Remote {
    Remote { url: dir.to_str().unwrap().to_owned(), credential: None }
}

pub fn git() -> Git {
    Git::find().unwrap()
}

/// The whole stage of a session: the user's repository, the brain's and the hands'.
pub struct Stage {
    pub temp: TempDir,
    pub user: PathBuf,
    pub bare: Bare,
    pub hands: HandsRepo,
    pub exec: PlainExec,
    pub base: String,
}

pub const BRANCH: &str = "bgagent/01J/fix";

pub async fn stage() -> Stage {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    stage_on(temp, user).await
}

pub async fn stage_on(temp: TempDir, user: PathBuf) -> Stage {
    let git = git();
    let bare = Bare::clone(&git, &local(&user), &temp.path().join("brain.git"), None).await.unwrap();
    let base = bare.base_sha().await.unwrap();
    let tree = temp.path().join("hands");
    let hands = HandsRepo::create(&git, &bare, &tree, BRANCH, &base).await.unwrap();
    let exec = PlainExec::new(&tree, PATH);
    Stage { temp, user, bare, hands, exec, base }
}

/// The same without what is below these prefixes.
pub fn without(mut photo: BTreeMap<String, String>, prefixes: &[&str]) -> BTreeMap<String, String> {
    photo.retain(|path, _| !prefixes.iter().any(|p| path.starts_with(p)));
    photo
}

/// Every file below a folder, byte for byte, with its kind and mode.
pub fn photo(dir: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_dir() {
                todo.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            all.insert(
                path.strip_prefix(dir).unwrap().as_os_str().as_bytes().escape_ascii().to_string(),
                format!("{:o} {}", meta.mode(), content.escape_ascii()),
            );
        }
    }
    all
}
