//! Where a PostgreSQL store is and how it is used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};

use super::error::{convert, too_slow, within};

/// What holds for everything that is written. Whoever set `synchronous_commit` otherwise for the user or the database would
/// lose what was answered. A process that was stopped in the middle holds others up no longer than ten seconds. Whoever writes what
/// it does not hold waits for nobody long: it begins again and holds it. Plans are made
/// once, perhaps while tables are still empty: they are those that are right for full ones.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("idle_in_transaction_session_timeout", "'10s'"),
    ("lock_timeout", "'1s'"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// How a PostgreSQL store is reached and used.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresConfig {
    options: PgConnectOptions,
    /// The schema that holds the tables. Default `abca`, or `?schema=NAME` of the URL. Lower-case letters, digits and `_`.
    pub schema: String,
    /// Connections that write, each with a thread of its own. Default 2, at least 1: the first does what takes turns in scopes of
    /// slots, the others do the rest meanwhile (measured: two do 1.4 times as much as one, a third adds nothing on two cores).
    pub writers: u32,
    /// Most connections that read at the same time. Default 4, at least 1.
    pub readers: u32,
    /// Most calls that share a transaction. Default 256, at least 1.
    pub batch: usize,
    /// Most calls that wait for a writer; further ones wait to be queued. Default 4096.
    pub queue: usize,
    /// How long a connection may take to be made, in milliseconds. Default 5 000.
    pub connect_timeout_ms: u64,
    /// How long the server may take to answer, in milliseconds; then the connection counts as broken. Default 30 000.
    pub answer_timeout_ms: u64,
    /// Keep a connection that tells other processes about due tasks, and hears of theirs (`LISTEN`). Default true. Does not
    /// work through a pooler that gives each transaction another connection.
    pub bell: bool,
    /// Each transaction may have another connection, as behind a pooler in transaction mode: settings are made in each, which
    /// costs round trips. The pooler must keep prepared statements (PgBouncer from 1.21 does). Default false, or `pooled=true` in
    /// the URL.
    pub pooled: bool,
    /// Accept a server with `fsync = off`, which loses what was answered when its machine stops. Default false.
    pub accept_fsync_off: bool,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("server", &self.server())
            .field("schema", &self.schema)
            .field("writers", &self.writers)
            .field("readers", &self.readers)
            .field("batch", &self.batch)
            .field("queue", &self.queue)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("answer_timeout_ms", &self.answer_timeout_ms)
            .field("bell", &self.bell)
            .field("pooled", &self.pooled)
            .field("accept_fsync_off", &self.accept_fsync_off)
            .finish()
    }
}

impl PostgresConfig {
    /// Defaults, for `postgres://user:password@host:port/database?sslmode=…&schema=…`. `host=/folder` in the query is a Unix
    /// socket; `pooled=true` is for a pooler that gives each transaction another connection ([`Self::pooled`]).
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] when it is no such URL, or the schema's name is none.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let invalid = |why: String| StoreError::new(StoreErrorKind::Invalid, "open", why);
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(invalid("a store's URL begins with `postgres://`".to_owned()));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mine, rest): (Vec<&str>, Vec<&str>) = query
            .split('&')
            .filter(|p| !p.is_empty())
            .partition(|p| p.starts_with("schema=") || p.starts_with("pooled="));
        let schema = mine.iter().find_map(|p| p.strip_prefix("schema=")).unwrap_or("abca").to_owned();
        let pooled = match mine.iter().find_map(|p| p.strip_prefix("pooled=")) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(invalid(format!("`pooled={other}` is neither `true` nor `false`"))),
        };
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        // What is wrong is said without the URL: it may hold a password.
        let options = PgConnectOptions::from_str(&url)
            .map_err(|_| invalid("the store's URL is not `postgres://user:password@host:port/database`".to_owned()))?;
        let config = Self {
            options: options.application_name("abca").disable_statement_logging(),
            schema,
            writers: 2,
            readers: 4,
            batch: 256,
            queue: 4096,
            connect_timeout_ms: 5_000,
            answer_timeout_ms: 30_000,
            bell: true,
            pooled,
            accept_fsync_off: false,
        };
        config.check()?;
        Ok(config)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let good = self.schema.starts_with(first)
            && self.schema.len() <= 48
            && self.schema.chars().all(|c| first(c) || c.is_ascii_digit());
        if good {
            return Ok(());
        }
        let message =
            format!("`{}` is not a schema's name: lower-case letters, digits and `_`, at most 48", self.schema);
        Err(StoreError::new(StoreErrorKind::Invalid, "open", message))
    }

    /// The server without secrets, for messages.
    pub(super) fn server(&self) -> String {
        let o = &self.options;
        let place = match o.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => o.get_host().to_owned(),
        };
        format!("{place}:{}/{}", o.get_port(), o.get_database().unwrap_or(o.get_username()))
    }

    /// The schema's name as statements have it.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.schema)
    }

    /// A statement text; `@` stands for the schema.
    pub(super) fn sql(&self, text: &str) -> String {
        text.replace('@', &self.quoted())
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }

    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        match tokio::time::timeout(self.timeout(), self.options.connect()).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(e)) => Err(self.failed(e)),
            Err(_) => {
                let error = too_slow("open", self.timeout());
                Err(StoreError::new(error.kind(), "open", format!("`{}`: {}", self.server(), error.message())))
            }
        }
    }

    /// A connection that writes.
    pub(super) async fn connect_writer(&self) -> Result<PgConnection, StoreError> {
        let mut conn = self.connect().await?;
        if !self.pooled {
            let text: String = SETTINGS.iter().map(|(name, value)| format!("SET {name} = {value}; ")).collect();
            let set = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut conn);
            within(self.timeout(), set).await.map_err(|e| self.failed(e))?;
        }
        Ok(conn)
    }

    /// What a transaction begins with, where a connection cannot be told once: statements, each behind a `;`.
    pub(super) fn for_transaction(&self) -> String {
        if !self.pooled {
            return String::new();
        }
        SETTINGS.iter().map(|(name, value)| format!("; SET LOCAL {name} = {value}")).collect()
    }

    pub(super) fn failed(&self, e: sqlx::Error) -> StoreError {
        let error = convert("open", e);
        StoreError::new(error.kind(), "open", format!("`{}`: {}", self.server(), error.message()))
    }

    pub(super) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(self.readers.max(1))
            .acquire_timeout(self.timeout())
            .connect_lazy_with(self.options.clone())
    }
}
