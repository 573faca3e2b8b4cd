//! The tables, who may use them, and how they are made.

use abca_core::store::{StoreError, StoreErrorKind};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::config::PostgresConfig;

/// Every version, oldest first. A published one never changes.
const VERSIONS: &[&str] = &[include_str!("schema-1.sql")];

/// The version that this program works with.
pub(super) fn version() -> i32 {
    i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX)
}

fn incompatible(config: &PostgresConfig, why: &str) -> StoreError {
    let message = format!("`{}`, schema `{}`: {why}", config.server(), config.schema);
    StoreError::new(StoreErrorKind::Incompatible, "open", message)
}

/// The schema's version; 0 where there is none.
async fn found(config: &PostgresConfig, conn: &mut PgConnection) -> Result<i32, StoreError> {
    let failed = |e| config.failed(e);
    let look = "SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = \
                c.relnamespace WHERE n.nspname = $2 AND c.relkind IN ('r', 'p'))";
    let row = sqlx::query(look)
        .bind(format!("{}.version", config.quoted()))
        .bind(&config.schema)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    let (ours, tables): (bool, bool) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if !ours {
        return if tables {
            Err(incompatible(config, "it holds tables of another program; choose another schema (`?schema=NAME`)"))
        } else {
            Ok(0)
        };
    }
    let text = config.sql("SELECT coalesce(max(version), 0) FROM @.version");
    sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(conn).await.map_err(failed)
}

fn refuse_newer(config: &PostgresConfig, found: i32) -> Result<(), StoreError> {
    if found <= version() {
        return Ok(());
    }
    let known = version();
    let why = format!("it has version {found}, this program knows versions up to {known}; use a newer abca");
    Err(incompatible(config, &why))
}

/// Makes the schema and its tables, or brings them up to date; answers the version from which it did.
pub(super) async fn init(config: &PostgresConfig) -> Result<i32, StoreError> {
    let failed = |e| config.failed(e);
    let mut conn = config.connect().await?;
    let mut tx = sqlx::Connection::begin(&mut conn).await.map_err(failed)?;
    // Two that do this at once take turns.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('abca init ' || $1, 0))")
        .bind(&config.schema)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let before = found(config, &mut tx).await?;
    refuse_newer(config, before)?;
    if before == 0 {
        let text = config.sql("CREATE SCHEMA IF NOT EXISTS @");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *tx).await.map_err(failed)?;
    }
    for (number, text) in (1..).zip(VERSIONS).filter(|(number, _)| *number > before) {
        sqlx::raw_sql(AssertSqlSafe(config.sql(text))).execute(&mut *tx).await.map_err(failed)?;
        let mark = config.sql("INSERT INTO @.version (version) VALUES ($1)");
        sqlx::query(AssertSqlSafe(mark)).bind(number).execute(&mut *tx).await.map_err(failed)?;
    }
    let text = config.sql("SELECT @.widen((SELECT last_value FROM @.task_ord))");
    sqlx::query(AssertSqlSafe(text)).execute(&mut *tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(before)
}

/// Refuses a schema that this program cannot work with, and a server that would lose what was answered.
pub(super) async fn verify(config: &PostgresConfig, conn: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |e| config.failed(e);
    let found = found(config, conn).await?;
    refuse_newer(config, found)?;
    if found < version() {
        let what =
            if found == 0 { "it has no tables yet".to_owned() } else { format!("it has the older version {found}") };
        return Err(incompatible(config, &format!("{what}; run `abca store init --store URL`")));
    }
    let row = sqlx::query("SELECT current_setting('fsync'), current_setting('transaction_read_only'), current_setting('server_version_num')::int")
        .fetch_one(conn)
        .await
        .map_err(failed)?;
    let (fsync, read_only): (&str, &str) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let server: i32 = row.try_get(2).map_err(failed)?;
    if server < 130_000 {
        return Err(incompatible(config, "the server is older than PostgreSQL 13; use a newer one"));
    }
    if read_only == "on" {
        let message = format!("`{}`: the server is read-only; connect to the primary", config.server());
        return Err(StoreError::new(StoreErrorKind::Unavailable, "open", message));
    }
    if fsync != "on" && !config.accept_fsync_off {
        let why = "the server runs with `fsync = off` and would lose what it has answered; switch it on";
        return Err(incompatible(config, why));
    }
    Ok(())
}

/// The least that a worker's user must be granted, as SQL that the owner of the schema runs; `worker` is the user's name.
pub(super) fn grants(config: &PostgresConfig, worker: &str) -> String {
    let user = format!("\"{}\"", worker.replace('"', "\"\""));
    let text = "GRANT USAGE ON SCHEMA @ TO $;\n\
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA @ TO $;\n\
                REVOKE INSERT, UPDATE, DELETE ON @.version FROM $;\n\
                GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA @ TO $;\n\
                GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA @ TO $;\n";
    config.sql(text).replace('$', &user)
}
