//! The tables, and how an older database becomes this one.

/// `abca` in ASCII: how SQLite knows the file as ours.
pub(super) const APPLICATION_ID: i64 = 0x6162_6361;

/// Every migration, oldest first; the database's version is how many it has seen (`PRAGMA user_version`).
///
/// A published migration never changes. Events lie in the order of writing (since version 2): what many tasks tell at
/// once shares a few pages instead of dirtying one for each task, which halves what a commit writes. Leases, due times, heartbeats and counters live in `state`, so that the wide
/// row of `task` is written only when the task changes. `state.look_at` is the earlier of due time and lease expiry. Since
/// version 3 what changes of a record lies in `record`, and `task.record` holds what was submitted (of older tasks: both
/// hold the whole, of which each reader takes its part). Version 4 finds what is old enough to be removed by its index.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE task (
    ord    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    user   TEXT NOT NULL,
    idem   TEXT,
    hash   TEXT NOT NULL,
    status TEXT NOT NULL,
    repo   TEXT,
    record TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX task_key ON task (user, idem) WHERE idem IS NOT NULL;
CREATE INDEX task_user ON task (user, id);
CREATE INDEX task_repo ON task (repo, id) WHERE repo IS NOT NULL;
CREATE INDEX task_open ON task (status, id) WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT');

CREATE TABLE state (
    ord         INTEGER PRIMARY KEY REFERENCES task (ord),
    revision    INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    look_at     INTEGER,
    due         INTEGER,
    lease_until INTEGER,
    worker      TEXT,
    denied      INTEGER NOT NULL,
    woken       INTEGER,
    heartbeat   INTEGER,
    events      INTEGER NOT NULL,
    log_len     INTEGER NOT NULL,
    commits     TEXT NOT NULL,
    owed        TEXT
) STRICT;
CREATE INDEX state_look ON state (look_at) WHERE look_at IS NOT NULL;

CREATE TABLE signal (
    ord  INTEGER NOT NULL REFERENCES task (ord),
    id   TEXT NOT NULL,
    n    INTEGER NOT NULL,
    body TEXT,
    PRIMARY KEY (ord, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE slot (
    taken INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    ord   INTEGER NOT NULL REFERENCES task (ord),
    UNIQUE (scope, ord)
) STRICT;
CREATE INDEX slot_task ON slot (ord);

CREATE TABLE waiting (
    scope  TEXT NOT NULL,
    ord    INTEGER NOT NULL REFERENCES task (ord),
    user   TEXT NOT NULL,
    denied INTEGER NOT NULL,
    PRIMARY KEY (scope, ord)
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting_denied ON waiting (scope, user, ord) WHERE denied = 1;

CREATE TABLE event (
    ord  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (ord, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE log (
    ord  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (ord, seq)
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE told (
    n    INTEGER PRIMARY KEY,
    ord  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO told (ord, seq, body) SELECT ord, seq, body FROM event ORDER BY ord, seq;
DROP TABLE event;
ALTER TABLE told RENAME TO event;
CREATE UNIQUE INDEX event_place ON event (ord, seq);
CREATE INDEX signal_waiting ON signal (ord) WHERE body IS NOT NULL;
",
    "
CREATE TABLE record (
    ord    INTEGER PRIMARY KEY REFERENCES task (ord),
    id     TEXT NOT NULL,
    status TEXT NOT NULL,
    ended  INTEGER,
    moving TEXT NOT NULL
) STRICT;
INSERT INTO record (ord, id, status, ended, moving)
SELECT ord, id, status,
    CASE WHEN status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT')
    THEN CAST(round(unixepoch(record ->> 'updated_at', 'subsec') * 1000) AS INTEGER) END, record
FROM task;
CREATE INDEX record_open ON record (status, id) WHERE ended IS NULL;
CREATE INDEX record_ended ON record (ord) WHERE ended IS NOT NULL;
DROP INDEX task_open;
ALTER TABLE task DROP COLUMN status;
CREATE TABLE dead (
    ord    INTEGER PRIMARY KEY REFERENCES task (ord),
    since  INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX waiting_task ON waiting (ord);
",
    "
DROP INDEX record_ended;
CREATE INDEX record_ended ON record (ended, ord) WHERE ended IS NOT NULL;
",
];

/// The version that this program writes.
pub(super) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}
