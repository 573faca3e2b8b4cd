//! Reading history: commits and diff statistics.

use abca_core::git::{GitError, GitErrorKind};

use super::Bare;
use crate::refs::check_sha;

/// A commit as people read it. Text that is not UTF-8 is answered with replacement characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub sha: String,
    /// Its parents, first parent first.
    pub parents: Vec<String>,
    /// The author's name.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// When it was authored, seconds since the epoch.
    pub authored_secs: i64,
    /// The message's first line.
    pub subject: String,
    /// The whole message.
    pub message: String,
}

/// How one file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Its path from the root, byte for byte; the new one when it was renamed.
    pub path: Vec<u8>,
    /// Lines added; `None` for a binary file.
    pub added: Option<u64>,
    /// Lines removed; `None` for a binary file.
    pub removed: Option<u64>,
}

/// What changed between two commits.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DiffStat {
    /// The files, by path.
    pub files: Vec<FileStat>,
}

impl DiffStat {
    /// Lines added in all text files.
    pub fn added(&self) -> u64 {
        self.files.iter().filter_map(|f| f.added).sum()
    }

    /// Lines removed in all text files.
    pub fn removed(&self) -> u64 {
        self.files.iter().filter_map(|f| f.removed).sum()
    }
}

/// What patches show of files that git takes for binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryFiles {
    /// Their content, as if it were text.
    AsText,
    /// That they changed.
    Named,
}

impl Bare {
    /// A file of a commit, byte for byte; `None` when there is no regular file at that path, or it is larger than
    /// `max_bytes`. `path` is from the root, with slashes.
    ///
    /// # Errors
    /// When the commit is not here.
    pub async fn file(&self, sha: &str, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, GitError> {
        const OP: &str = "file";
        check_sha(OP, sha)?;
        let list = self.call(OP).read_only().args(["ls-tree", "-z", "--long", "--full-tree", sha, "--"]);
        let out = list.arg(format!(":(literal){path}")).run().await?;
        // `<mode> blob <id> <size>\t<path>\0`; a symbolic link has another mode.
        let line = String::from_utf8_lossy(&out.stdout).into_owned();
        let fields: Vec<&str> = line.split('\t').next().unwrap_or_default().split_whitespace().collect();
        let [mode, "blob", id, size] = fields[..] else { return Ok(None) };
        if !mode.starts_with("100") || size.parse::<u64>().map_or(true, |size| size > max_bytes) {
            return Ok(None);
        }
        Ok(Some(self.call(OP).read_only().args(["cat-file", "blob", id]).run().await?.stdout))
    }

    /// The commits that `head` has and `base` has not, oldest first, parents before children; at most 10 000.
    ///
    /// # Errors
    /// `NotFound` when one is not here; `Invalid` when there are more.
    pub async fn log(&self, base: &str, head: &str) -> Result<Vec<Commit>, GitError> {
        const OP: &str = "log";
        check_sha(OP, base)?;
        check_sha(OP, head)?;
        let call = self.call(OP).read_only().args(["log", "-z", "--topo-order", "--reverse", "--encoding=UTF-8"]);
        let call =
            call.args(["--no-show-signature", "--no-notes", "--no-mailmap", "--format=%H%n%P%n%an%n%ae%n%at%n%B"]);
        let out = call.arg(head).arg(format!("^{base}")).arg("--").run().await?;
        let commits: Vec<Commit> = out.stdout.split(|b| *b == 0).filter(|r| !r.is_empty()).filter_map(commit).collect();
        if commits.len() > 10_000 {
            let message = format!("there are {} commits to report, more than 10000", commits.len());
            return Err(GitError::new(GitErrorKind::Invalid, OP, message));
        }
        Ok(commits)
    }

    /// Messages and patches of the commits that `head` has and `base` has not, oldest first, as they would be pushed; binary files
    /// as if they were text, or only named. Each commit begins with `commit <sha>`, its message is indented by one space. At most 64 MiB.
    ///
    /// # Errors
    /// `NotFound` when one is not here; `Invalid` when there is more.
    pub async fn patches(&self, base: &str, head: &str, binary: BinaryFiles) -> Result<Vec<u8>, GitError> {
        const OP: &str = "patches";
        check_sha(OP, base)?;
        check_sha(OP, head)?;
        let call =
            self.call(OP).read_only().args(["log", "--topo-order", "--reverse", "--encoding=UTF-8", "-p", "-U0"]);
        let call = match binary {
            BinaryFiles::AsText => call.arg("-a"),
            BinaryFiles::Named => call,
        };
        let call = call.args(["--no-show-signature", "--no-notes", "--no-mailmap", "--no-color", "--no-renames"]);
        let call = call.args(["--no-ext-diff", "--no-textconv", "--diff-merges=first-parent", "--src-prefix=a/"]);
        let call = call.args(["--dst-prefix=b/", "--format=commit %H%n%w(0,1,1)%B"]);
        Ok(call.arg(head).arg(format!("^{base}")).arg("--").run().await?.stdout)
    }

    /// What `head` changed since it left `base` (their merge base; with none, since nothing). Renames are found.
    ///
    /// # Errors
    /// `NotFound` when one is not here.
    pub async fn diff_stat(&self, base: &str, head: &str) -> Result<DiffStat, GitError> {
        const OP: &str = "diff_stat";
        check_sha(OP, base)?;
        check_sha(OP, head)?;
        let fork = self.call(OP).read_only().args(["merge-base", base, head]).run_any().await?;
        let from = match fork.status {
            0 => String::from_utf8_lossy(&fork.stdout).trim_end().to_owned(),
            1 => self.call(OP).args(["hash-object", "-t", "tree", "-w", "--stdin"]).text().await?,
            _ => return Err(crate::program::classify(OP, "merge-base", &fork)),
        };
        let call = self.call(OP).read_only().args(["diff-tree", "-r", "-z", "--numstat", "-M", "--no-ext-diff"]);
        let out = call.args(["--no-textconv", &from, head, "--"]).run().await?;
        numstat(&out.stdout).ok_or_else(|| {
            GitError::new(GitErrorKind::Corrupt, OP, "git's answer to `diff-tree --numstat` cannot be read")
        })
    }
}

fn commit(record: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(record);
    let mut lines = text.splitn(6, '\n');
    let mut next = || lines.next().map(str::to_owned);
    let (sha, parents, author_name, author_email) = (next()?, next()?, next()?, next()?);
    let authored_secs = next()?.parse().ok()?;
    let message = next().unwrap_or_default();
    Some(Commit {
        sha,
        parents: parents.split_whitespace().map(str::to_owned).collect(),
        author_name,
        author_email,
        authored_secs,
        subject: message.trim_start().lines().next().unwrap_or_default().to_owned(),
        message: message.trim_end().to_owned(),
    })
}

/// `added TAB removed TAB path NUL`, and for a rename `added TAB removed TAB NUL old NUL new NUL`.
fn numstat(bytes: &[u8]) -> Option<DiffStat> {
    let mut files = Vec::new();
    let mut records = bytes.split(|b| *b == 0);
    while let Some(record) = records.next().filter(|r| !r.is_empty()) {
        let mut parts = record.splitn(3, |b| *b == b'\t');
        let (added, removed, path) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |part: &[u8]| match part {
            b"-" => Some(None),
            _ => std::str::from_utf8(part).ok()?.parse().ok().map(Some),
        };
        let path = if path.is_empty() { records.nth(1)? } else { path };
        files.push(FileStat { path: path.to_vec(), added: number(added)?, removed: number(removed)? });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(DiffStat { files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numstat_is_read_byte_for_byte() {
        let stat = numstat(b"1\t2\ta\nb\0-\t-\tbin\xff\x003\t0\t\0old\0new\0").unwrap();
        let file = |path: &[u8], added, removed| FileStat { path: path.to_vec(), added, removed };
        let files = vec![file(b"a\nb", Some(1), Some(2)), file(b"bin\xff", None, None), file(b"new", Some(3), Some(0))];
        assert_eq!((stat.added(), stat.removed()), (4, 2));
        assert_eq!(stat, DiffStat { files });
        assert_eq!(numstat(b"garbage"), None);
        assert_eq!(numstat(b""), Some(DiffStat::default()));
    }
}
