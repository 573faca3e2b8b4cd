//! Opens a database: folder, permissions, pragmas, version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{classify, code, said};
use super::schema::{APPLICATION_ID, MIGRATIONS, version};

/// The log is written back into the database every so many pages.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Page cache of a connection that reads.
const READER_CACHE_KIB: i64 = 8_192;
/// Prepared statements kept by a connection: more than there are.
const STATEMENTS_KEPT: usize = 128;

/// Where a database is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The folder that holds `abca.db`; made (mode 0700) when it is missing.
    pub folder: PathBuf,
    /// How long a transaction waits for another process's to end, in milliseconds. Default 10 000.
    pub busy_timeout_ms: u64,
    /// Most connections that read at the same time. Default 4.
    pub readers: u32,
    /// Most calls that share a transaction. Default 256, at least 1.
    pub batch: usize,
    /// Most calls that wait for the writer; further ones wait to be queued. Default 4096.
    pub queue: usize,
    /// Page cache of the writer in KiB. Default 16 384: transactions that make tables grow walk through all of it, and what
    /// does not fit is in the system's cache.
    pub cache_kib: u32,
    /// Most pages of the database file, as a quota (`PRAGMA max_page_count`). Default none.
    pub max_pages: Option<u32>,
}

impl SqliteConfig {
    /// Defaults, for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            busy_timeout_ms: 10_000,
            readers: 4,
            batch: 256,
            queue: 4096,
            cache_kib: 16_384,
            max_pages: None,
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("abca.db")
    }

    /// Opens a connection of one thread at a time, which waits for other processes.
    fn open(&self, how: OpenFlags) -> rusqlite::Result<Connection> {
        let file = self.file();
        // A relative path that begins with `file:` would be read as a URL.
        let file = if file.is_relative() { Path::new(".").join(file) } else { file };
        let conn = Connection::open_with_flags(file, how | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.busy_timeout(Duration::from_millis(self.busy_timeout_ms))?;
        conn.pragma_update(None, "temp_store", "memory")?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(conn)
    }

    fn open_writer(&self) -> rusqlite::Result<Connection> {
        let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // It answers with the mode.
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        conn.pragma_update(None, "cache_size", -i64::from(self.cache_kib))?;
        if let Some(pages) = self.max_pages {
            conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(conn)
    }

    /// Makes folder and file, opens the write connection and brings the tables up to date. Blocks.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        self.prepare_file()?;
        let mut conn = self.patiently()?;
        self.migrate(&mut conn)?;
        Ok(conn)
    }

    /// A connection that only reads. Blocks.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let open = || {
            let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
            conn.pragma_update(None, "query_only", true)?;
            Ok(conn)
        };
        open().map_err(|e| self.failed(e))
    }

    /// Switching a new file to write-ahead logging does not wait for whoever does the same: try again.
    fn patiently(&self) -> Result<Connection, StoreError> {
        let mut tries = self.busy_timeout_ms / 10;
        loop {
            match self.open_writer() {
                Ok(conn) => return Ok(conn),
                Err(e) if matches!(code(&e), Some(5 | 6)) && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, e: rusqlite::Error) -> StoreError {
        let (kind, advice) = classify(&e);
        let message = format!("`{}`: {advice} ({})", self.file().display(), said(&e));
        StoreError::new(kind, "open", message).with_source(e)
    }

    fn prepare_file(&self) -> Result<(), StoreError> {
        let fail = |what: &str, path: &Path, e: std::io::Error| {
            let kind = if e.kind() == std::io::ErrorKind::StorageFull {
                StoreErrorKind::Full
            } else {
                StoreErrorKind::Unavailable
            };
            let message = format!("cannot {what} `{}`: {e}; choose a folder that can be written", path.display());
            StoreError::new(kind, "open", message).with_source(e)
        };
        make_folder(&self.folder).map_err(|e| fail("make the folder", &self.folder, e))?;
        let file = self.file();
        make_file(&file).map_err(|e| fail("open for writing", &file, e))
    }

    fn migrate(&self, conn: &mut Connection) -> Result<(), StoreError> {
        let failed = |e| self.failed(e);
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let look = "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM \
                    pragma_user_version), (SELECT count(*) FROM sqlite_master)";
        let row = tx.query_row(look, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let (application, found, tables): (i64, i64, i64) = row.map_err(failed)?;
        let refuse = |why: String| {
            Err(StoreError::new(StoreErrorKind::Incompatible, "open", format!("`{}` {why}", self.file().display())))
        };
        if application != APPLICATION_ID && (application != 0 || tables != 0) {
            return refuse("is a database of another program; choose another folder".to_owned());
        }
        if found > version() {
            return refuse(format!(
                "has version {found}, this program knows versions up to {}; use a newer abca, or another folder",
                version()
            ));
        }
        if found < version() {
            let from = usize::try_from(found).unwrap_or(0);
            for step in MIGRATIONS.iter().skip(from) {
                tx.execute_batch(step).map_err(failed)?;
            }
            let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", version());
            tx.execute_batch(&mark).map_err(failed)?;
        }
        tx.commit().map_err(failed)
    }
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// Makes the file readable for its owner alone; SQLite gives its side files the same mode.
fn make_file(file: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}
