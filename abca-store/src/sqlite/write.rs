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
    pub(super) state: Rows,
    pub(super) event: Rows,
    pub(super) log: Rows,
    pub(super) signal: Rows,
    pub(super) freed: Rows,
    pub(super) taken: Rows,
    pub(super) waiting: Rows,
    pub(super) waited: Rows,
}

/// Each takes its rows as one JSON array of arrays, so one text serves any count of rows. The parameter has no number:
/// sqlx counts the gaps that numbers leave as parameters, and would leave the last ones unbound.
const STATEMENTS: [&str; 9] = [
    "INSERT INTO task (ord, id, user, idem, hash, status, repo, record) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value -> 7 \
     FROM json_each(?) WHERE true \
     ON CONFLICT (ord) DO UPDATE SET status = excluded.status, record = excluded.record;",
    "INSERT OR REPLACE INTO state (ord, revision, epoch, look_at, due, lease_until, worker, denied, woken, heartbeat, \
     events, log_len, commits, owed) \
     SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]', value ->> '$[1][0]', value ->> '$[1][1]', \
     value ->> '$[1][2]', value ->> '$[1][3]', value ->> '$[2][0]', value ->> '$[2][1]', value ->> '$[2][2]', \
     value ->> '$[3][0]', value ->> '$[3][1]', value ->> '$[3][2]', value ->> '$[3][3]' FROM json_each(?);",
    "INSERT INTO event (ord, seq, body) SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(?);",
    "INSERT INTO log (ord, seq, body) SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(?);",
    "INSERT INTO signal (ord, id, n, body) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 \
     FROM json_each(?) WHERE true ON CONFLICT (ord, id) DO UPDATE SET body = excluded.body;",
    "DELETE FROM slot WHERE ord IN (SELECT value FROM json_each(?));",
    "INSERT INTO slot (scope, ord) SELECT value ->> 0, value ->> 1 FROM json_each(?);",
    "INSERT OR REPLACE INTO waiting (scope, ord, user, denied) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?);",
    "DELETE FROM waiting WHERE (scope, ord) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?));",
];

/// Statement texts by which tables they write, made once each: SQLite's prepared statements are found by them.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<(u16, bool), Arc<str>>);

impl Texts {
    fn text(&mut self, tables: u16, commit: bool) -> Arc<str> {
        let make = || {
            let parts = STATEMENTS.iter().enumerate().filter(|(i, _)| tables & (1 << i) != 0).map(|(_, s)| *s);
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
            &mut self.state,
            &mut self.event,
            &mut self.log,
            &mut self.signal,
            &mut self.freed,
            &mut self.taken,
            &mut self.waiting,
            &mut self.waited,
        ];
        let mut tables = 0;
        let mut arguments = SqliteArguments::default();
        for (i, rows) in all.into_iter().enumerate() {
            if let Some(text) = rows.take() {
                tables |= 1 << i;
                arguments.add(text).map_err(sqlx::Error::Encode)?;
            }
        }
        if tables == 0 && !commit {
            return Ok(());
        }
        let text = texts.text(tables, commit);
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *conn).await.map(drop)
    }
}
