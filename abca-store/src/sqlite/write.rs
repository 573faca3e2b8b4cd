//! What a transaction writes: rows by table, and the one statement list that puts them there.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use super::rows::Rows;

/// Rows waiting to be written. The order is the order of writing.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) task: Rows,
    pub(super) record: Rows,
    pub(super) state: Rows,
    pub(super) event: Rows,
    pub(super) log: Rows,
    pub(super) signal: Rows,
    pub(super) freed: Rows,
    pub(super) taken: Rows,
    pub(super) waiting: Rows,
    pub(super) waited: Rows,
    pub(super) alive: Rows,
    pub(super) dead: Rows,
}

/// A statement, and whether it takes wide values too.
///
/// Each takes its rows as one JSON array of arrays, so one text serves any count of rows. `MATERIALIZED` keeps SQLite
/// from writing a row's text anew for every column, and `jsonb_each` gives a row as bytes that need no parsing for each. The parameters have no numbers: sqlx counts the gaps that numbers
/// leave as parameters, and would leave the last ones unbound.
const STATEMENTS: [(&str, bool); 12] = [
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) \
         INSERT INTO task (ord, id, user, idem, hash, repo, record) \
         SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, \
         CAST(substr(?, v ->> 6, v ->> 7) AS TEXT) FROM j;",
        true,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) \
         INSERT INTO record (ord, id, status, ended, moving) \
         SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, CAST(substr(?, v ->> 4, v ->> 5) AS TEXT) FROM j WHERE true \
         ON CONFLICT (ord) DO UPDATE SET status = excluded.status, ended = excluded.ended, moving = excluded.moving;",
        true,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) \
         INSERT OR REPLACE INTO state (ord, revision, epoch, look_at, due, lease_until, worker, denied, woken, \
         heartbeat, events, log_len, commits, owed) \
         SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6, v ->> 7, v ->> 8, v ->> 9, \
         v ->> '$[10][0]', v ->> '$[10][1]', v ->> 11, CAST(substr(?, v ->> 12, v ->> 13) AS TEXT) FROM j;",
        true,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) INSERT INTO event (ord, seq, body) \
         SELECT v ->> 0, v ->> 1, CAST(substr(?, v ->> 2, v ->> 3) AS TEXT) FROM j;",
        true,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) INSERT INTO log (ord, seq, body) \
         SELECT v ->> 0, v ->> 1, CAST(substr(?, v ->> 2, v ->> 3) AS TEXT) FROM j;",
        true,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) INSERT INTO signal (ord, id, n, body) \
         SELECT v ->> 0, v ->> 1, v ->> 2, CAST(substr(?, v ->> 3, v ->> 4) AS TEXT) FROM j WHERE true \
         ON CONFLICT (ord, id) DO UPDATE SET body = excluded.body;",
        true,
    ),
    ("DELETE FROM slot WHERE ord IN (SELECT value FROM json_each(?));", false),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) INSERT INTO slot (scope, ord) \
         SELECT v ->> 0, v ->> 1 FROM j;",
        false,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) \
         INSERT OR REPLACE INTO waiting (scope, ord, user, denied) \
         SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3 FROM j;",
        false,
    ),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) \
         DELETE FROM waiting WHERE (scope, ord) IN (SELECT v ->> 0, v ->> 1 FROM j);",
        false,
    ),
    ("DELETE FROM dead WHERE ord IN (SELECT value FROM json_each(?));", false),
    (
        "WITH j (v) AS MATERIALIZED (SELECT value FROM jsonb_each(?)) INSERT OR REPLACE INTO dead (ord, since, reason) \
         SELECT v ->> 0, v ->> 1, v ->> 2 FROM j;",
        false,
    ),
];

/// Statement texts by which tables they write, made once each: SQLite's prepared statements are found by them.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<(u16, bool), Arc<str>>);

impl Texts {
    fn text(&mut self, tables: u16, commit: bool) -> Arc<str> {
        let make = || {
            let parts = STATEMENTS.iter().enumerate().filter(|(i, _)| tables & (1 << i) != 0).map(|(_, (s, _))| *s);
            parts.chain(commit.then_some("COMMIT")).collect::<String>().into()
        };
        self.0.entry((tables, commit)).or_insert_with(make).clone()
    }
}

impl Pending {
    /// Writes everything in one round trip, and ends the transaction when asked to.
    pub(super) async fn write(
        &mut self,
        conn: &mut SqliteConnection,
        texts: &mut Texts,
        commit: bool,
    ) -> Result<(), sqlx::Error> {
        let all = [
            &mut self.task,
            &mut self.record,
            &mut self.state,
            &mut self.event,
            &mut self.log,
            &mut self.signal,
            &mut self.freed,
            &mut self.taken,
            &mut self.waiting,
            &mut self.waited,
            &mut self.alive,
            &mut self.dead,
        ];
        let mut tables = 0;
        let mut arguments = SqliteArguments::default();
        for (i, (rows, (_, wide))) in all.into_iter().zip(STATEMENTS).enumerate() {
            if let Some((narrow, values)) = rows.take() {
                tables |= 1 << i;
                arguments.add(narrow).map_err(sqlx::Error::Encode)?;
                if wide {
                    arguments.add(values).map_err(sqlx::Error::Encode)?;
                }
            }
        }
        if tables == 0 && !commit {
            return Ok(());
        }
        let text = texts.text(tables, commit);
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *conn).await.map(drop)
    }
}
