//! Opens a database: folder, permissions, pragmas, version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection, SqlitePool};

use super::error::{classify, code};
use super::schema::{APPLICATION_ID, MIGRATIONS, version};

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
    /// Page cache of the writer in KiB. Default 65 536.
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
            cache_kib: 65_536,
            max_pages: None,
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("abca.db")
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.file())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_millis(self.busy_timeout_ms))
            .pragma("temp_store", "memory")
            .disable_statement_logging()
    }

    /// Makes folder and file, opens the write connection and brings the tables up to date.
    pub(super) async fn writer(&self) -> Result<SqliteConnection, StoreError> {
        self.prepare_file()?;
        let mut options = self
            .options()
            .statement_cache_capacity(512)
            .row_buffer_size(512)
            .pragma("wal_autocheckpoint", "4000")
            .pragma("cache_size", format!("-{}", self.cache_kib));
        if let Some(pages) = self.max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let mut conn = self.connect(&options).await?;
        self.migrate(&mut conn).await?;
        Ok(conn)
    }

    /// Connections that only read.
    pub(super) async fn readers(&self) -> Result<SqlitePool, StoreError> {
        let options = self.options().pragma("cache_size", "-8192").pragma("query_only", "1");
        let pool = SqlitePoolOptions::new().max_connections(self.readers.max(1)).test_before_acquire(false);
        Ok(pool.connect_lazy_with(options))
    }

    /// Switching a new file to write-ahead logging does not wait for whoever does the same: try again.
    async fn connect(&self, options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
        let mut tries = self.busy_timeout_ms / 10;
        loop {
            match options.connect().await {
                Ok(conn) => return Ok(conn),
                Err(e) if matches!(code(&e), Some(5 | 6)) && tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, e: sqlx::Error) -> StoreError {
        let (kind, advice) = classify(&e);
        let message = format!("`{}`: {advice} ({e})", self.file().display());
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

    async fn migrate(&self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.failed(e))?;
        let look = "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM \
                    pragma_user_version), (SELECT count(*) FROM sqlite_master)";
        let row = sqlx::query(look).fetch_one(&mut *tx).await.map_err(|e| self.failed(e))?;
        let (application, found, tables): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
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
                sqlx::raw_sql(*step).execute(&mut *tx).await.map_err(|e| self.failed(e))?;
            }
            let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", version());
            sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *tx).await.map_err(|e| self.failed(e))?;
        }
        tx.commit().await.map_err(|e| self.failed(e))
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
