//! Records as files: one lock for writers, whole files for readers.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use abca_core::git::{Comment, GitError, GitErrorKind, Issue, PullRequest, PullRequestState, Review};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The format that this program writes.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Format {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Last {
    number: u64,
    id: u64,
}

/// A file's name for any text.
pub(super) fn hash(kind: &str, key: &str) -> String {
    Sha256::digest(format!("{kind}\0{key}")).iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// A record with the key that it was written under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Keyed<T> {
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) record: T,
}

pub(super) type KeyedIssue = Keyed<Issue>;
pub(super) type KeyedComment = Keyed<Comment>;
pub(super) type KeyedReview = Keyed<Review>;

/// The folder of one repository's records. All methods block.
#[derive(Debug, Clone)]
pub(super) struct Records {
    op: &'static str,
    dir: PathBuf,
}

/// The writers' lock; dropped, it is free.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Records {
    pub(super) fn new(op: &'static str, common: &Path) -> Self {
        Self { op, dir: common.join("abca") }
    }

    /// The path of a record's file.
    pub(super) fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.dir.join(kind).join(format!("{name}.json"))
    }

    /// Refuses records of a newer program.
    pub(super) fn check_format(&self) -> Result<(), GitError> {
        match self.read::<Format>(&self.dir.join("format.json"))? {
            Some(Format { version }) if version > VERSION => {
                let message = format!(
                    "the records in `{}` have format {version}, this program knows {VERSION}: use a newer one",
                    self.dir.display()
                );
                Err(GitError::new(GitErrorKind::Unsupported, self.op, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Waits until no other process or thread writes.
    pub(super) fn lock(&self) -> Result<Lock, GitError> {
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("make", &self.dir, e))?;
        let path = self.dir.join("lock");
        let options = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = options.map_err(|e| self.failed("open", &path, e))?;
        file.lock().map_err(|e| self.failed("lock", &path, e))?;
        self.check_format()?;
        let format = self.dir.join("format.json");
        if !format.exists() {
            self.write(&format, &Format { version: VERSION })?;
        }
        Ok(Lock { _file: file })
    }

    /// Reads a record; `None` when there is none.
    pub(super) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, GitError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(self.failed("read", path, e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let message = format!("`{}` is not a record: {e}; repair or remove it", path.display());
            GitError::new(GitErrorKind::Corrupt, self.op, message).with_source(e)
        })
    }

    /// Reads all records of a kind by number, or of a kind's subfolder.
    pub(super) fn all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, GitError> {
        let mut records = Vec::new();
        for number in self.numbers(kind)? {
            records.extend(self.read(&self.path(kind, &number.to_string()))?);
        }
        Ok(records)
    }

    /// The numbers of a kind's records, ascending.
    pub(super) fn numbers(&self, kind: &str) -> Result<Vec<u64>, GitError> {
        let names = self.names(kind)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The names in a kind's folder; none when there is no folder.
    pub(super) fn names(&self, kind: &str) -> Result<Vec<String>, GitError> {
        let dir = self.dir.join(kind);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("list", &dir, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.failed("list", &dir, e))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The next number that neither a pull request nor an issue has. Under the lock.
    pub(super) fn next_number(&self, lock: &Lock) -> Result<u64, GitError> {
        let mut last = self.last(lock)?;
        last.number += 1;
        // A counter that fell behind (it is not synced) must not cost a record.
        while self.numbered(last.number).is_ok() {
            last.number += 1;
        }
        self.write_loosely(&self.dir.join("last.json"), &last)?;
        Ok(last.number)
    }

    /// The next id of comments and reviews. Under the lock.
    pub(super) fn next_id(&self, lock: &Lock, kind: &str) -> Result<u64, GitError> {
        let mut last = self.last(lock)?;
        last.id += 1;
        while self.path(kind, &last.id.to_string()).exists() {
            last.id += 1;
        }
        self.write_loosely(&self.dir.join("last.json"), &last)?;
        Ok(last.id)
    }

    /// The last number and id that were given; counted anew when the counter is missing or damaged.
    fn last(&self, _lock: &Lock) -> Result<Last, GitError> {
        if let Ok(Some(last)) = self.read(&self.dir.join("last.json")) {
            return Ok(last);
        }
        let mut last = Last { number: 0, id: 0 };
        for kind in ["pulls", "issues"] {
            last.number = last.number.max(self.numbers(kind)?.last().copied().unwrap_or(0));
        }
        for kind in ["comments", "reviews"] {
            for folder in self.names(kind)? {
                last.id = last.id.max(self.numbers(&format!("{kind}/{folder}"))?.last().copied().unwrap_or(0));
            }
        }
        Ok(last)
    }

    /// The number that was put down for a key, e.g. the last pull request that was opened for a head.
    pub(super) fn indexed(&self, kind: &str, key: &str) -> Result<Option<u64>, GitError> {
        self.read(&self.path("index", &hash(kind, key)))
    }

    /// Puts down a number for a key; before the record itself, so that a record is never without. Under the lock.
    pub(super) fn index(&self, _lock: &Lock, kind: &str, key: &str, number: u64) -> Result<(), GitError> {
        self.write(&self.path("index", &hash(kind, key)), &number)
    }

    /// The open pull request of a head.
    pub(super) fn open_of(&self, head: &str) -> Result<Option<PullRequest>, GitError> {
        let Some(number) = self.indexed("head", head)? else { return Ok(None) };
        let pull: Option<PullRequest> = self.read(&self.path("pulls", &number.to_string()))?;
        Ok(pull.filter(|p| p.head == head && p.state == PullRequestState::Open))
    }

    /// Writes a record whole. Under the lock.
    pub(super) fn put<T: Serialize>(&self, _lock: &Lock, kind: &str, name: &str, record: &T) -> Result<(), GitError> {
        self.write(&self.path(kind, name), record)
    }

    fn write<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), GitError> {
        self.write_as(path, record, true)
    }

    /// Whole, but lost with the power.
    fn write_loosely<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), GitError> {
        self.write_as(path, record, false)
    }

    fn write_as<T: Serialize>(&self, path: &Path, record: &T, sync: bool) -> Result<(), GitError> {
        let mut bytes = serde_json::to_vec_pretty(record).map_err(|e| {
            GitError::new(GitErrorKind::Invalid, self.op, format!("the record cannot be written: {e}")).with_source(e)
        })?;
        bytes.push(b'\n');
        let dir = path.parent().unwrap_or(&self.dir);
        // A name of its own is not needed: only the holder of the lock writes.
        let temp = self.dir.join("new");
        let written = || -> std::io::Result<()> {
            fs::create_dir_all(dir)?;
            let mut file = File::create(&temp)?;
            file.write_all(&bytes)?;
            if sync {
                file.sync_all()?;
            }
            fs::rename(&temp, path)?;
            if sync { File::open(dir)?.sync_all() } else { Ok(()) }
        };
        written().map_err(|e| {
            let _ = fs::remove_file(&temp);
            self.failed("write", path, e)
        })
    }

    pub(super) fn pull(&self, number: u64) -> Result<PullRequest, GitError> {
        self.read(&self.path("pulls", &number.to_string()))?
            .ok_or_else(|| GitError::new(GitErrorKind::NotFound, self.op, format!("there is no pull request {number}")))
    }

    /// There is an issue or a pull request of this number.
    pub(super) fn numbered(&self, number: u64) -> Result<(), GitError> {
        let name = number.to_string();
        if self.path("pulls", &name).exists() || self.path("issues", &name).exists() {
            return Ok(());
        }
        let message = format!("there is no issue or pull request {number}");
        Err(GitError::new(GitErrorKind::NotFound, self.op, message))
    }

    fn failed(&self, what: &str, path: &Path, e: std::io::Error) -> GitError {
        let shown = path.display();
        let (kind, advice) = match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (GitErrorKind::Full, ": make room, then repeat"),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                (GitErrorKind::Access, ": the local forge keeps its records there and needs to write")
            }
            _ => (GitErrorKind::Unavailable, ""),
        };
        GitError::new(kind, self.op, format!("cannot {what} `{shown}`: {e}{advice}")).with_source(e)
    }
}
