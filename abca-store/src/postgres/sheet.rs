//! What a transaction writes: columns by table, given to one function of the schema.

use std::mem::take;

use abca_core::Timestamp;
use abca_core::id::SignalId;
use abca_core::store::{StoreError, TaskRow};
use abca_core::task::{Signal, SlotLimit, SlotScope};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

use crate::group::{commits_text, corrupt, signed};

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| corrupt("commit", "a row to write", e))
}

fn ms(t: Option<Timestamp>) -> Option<i64> {
    t.map(Timestamp::as_millis)
}

/// JSON that serde wrote is UTF-8.
fn text(json: &[u8]) -> String {
    String::from_utf8_lossy(json).into_owned()
}

macro_rules! columns {
    ($($name:ident: $type:ty),+ $(,)?) => {
        /// The arguments of `put`, in its order.
        #[derive(Debug, Default)]
        pub(super) struct Columns {
            $($name: Vec<$type>),+
        }

        impl Columns {
            /// Whether there is anything to write.
            pub(super) fn is_empty(&self) -> bool {
                true $(&& self.$name.is_empty())+
            }

            /// Takes everything as the arguments of one call, and the call's text.
            pub(super) fn take(&mut self) -> Result<PgArguments, sqlx::Error> {
                let mut arguments = PgArguments::default();
                $(add(&mut arguments, take(&mut self.$name))?;)+
                Ok(arguments)
            }

            /// How many arguments there are.
            pub(super) const COUNT: usize = [$(stringify!($name)),+].len();
        }
    };
}

fn add<T>(arguments: &mut PgArguments, values: Vec<T>) -> Result<(), sqlx::Error>
where
    for<'q> Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
    T: 'static,
{
    arguments.add(values).map_err(sqlx::Error::Encode)
}

columns! {
    t_ord: i64, t_id: String, t_usr: String, t_idem: Option<String>, t_hash: String, t_repo: Option<String>,
    t_fixed: String,
    r_ord: i64, r_id: String, r_status: &'static str, r_ended: Option<i64>, r_moving: String,
    s_ord: i64, s_v: i64, s_revision: i64, s_epoch: i64, s_look_at: Option<i64>, s_due: Option<i64>,
    s_lease_until: Option<i64>, s_worker: Option<String>, s_denied: bool, s_woken: Option<i64>,
    s_heartbeat: Option<i64>, s_events: i64, s_log_len: i64, s_commits: String, s_owed: Option<String>,
    e_ord: i64, e_seq: i64, e_body: String,
    l_ord: i64, l_seq: i64, l_body: String,
    g_ord: i64, g_id: String, g_n: i64, g_body: Option<String>,
    f_ord: i64,
    k_scope: String, k_ord: i64, k_cap: i64,
    w_scope: String, w_ord: i64, w_usr: String, w_denied: bool,
    x_scope: String, x_ord: i64,
    c_ord: i64, c_n: i64, n_ord: i64, n_at: i64,
    d_ord: i64, d_since: i64, d_reason: String, a_ord: i64,
    y_ord: i64, y_v: i64,
}

impl Columns {
    pub(super) fn push_task(&mut self, row: &TaskRow, fixed: String) {
        let task = &row.snapshot.task;
        self.t_ord.push(signed(row.order));
        self.t_id.push(task.id.to_string());
        self.t_usr.push(task.user.as_str().to_owned());
        self.t_idem.push(task.idempotency_key.as_ref().map(|k| k.as_str().to_owned()));
        self.t_hash.push(row.payload_hash.clone());
        self.t_repo.push(task.spec.repo.as_ref().map(ToString::to_string));
        self.t_fixed.push(fixed);
    }

    pub(super) fn push_record(&mut self, row: &TaskRow, moving: String) {
        let task = &row.snapshot.task;
        self.r_ord.push(signed(row.order));
        self.r_id.push(task.id.to_string());
        self.r_status.push(task.status.as_str());
        self.r_ended.push(task.status.is_terminal().then(|| task.updated_at.as_millis()));
        self.r_moving.push(moving);
    }

    pub(super) fn push_state(&mut self, row: &TaskRow, v: i64) -> Result<(), StoreError> {
        let s = &row.snapshot;
        self.s_ord.push(signed(row.order));
        self.s_v.push(v);
        self.s_revision.push(signed(s.revision));
        self.s_epoch.push(signed(s.epoch));
        self.s_look_at.push(ms(row.claimable_from()));
        self.s_due.push(ms(row.due));
        self.s_lease_until.push(ms(row.lease.map(|l| l.until)));
        self.s_worker.push(row.lease.map(|l| l.worker.to_string()));
        self.s_denied.push(row.denied);
        self.s_woken.push(ms(row.woken));
        self.s_heartbeat.push(ms(s.heartbeat_at));
        self.s_events.push(signed(row.events));
        self.s_log_len.push(signed(row.log_len));
        self.s_commits.push(commits_text(row));
        self.s_owed.push(if s.owed.is_empty() { None } else { Some(json(&s.owed)?) });
        Ok(())
    }

    pub(super) fn push_events<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) {
        for (seq, body) in (first..).zip(bodies) {
            self.e_ord.push(signed(row.order));
            self.e_seq.push(signed(seq));
            self.e_body.push(text(body));
        }
    }

    pub(super) fn push_log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) {
        for (seq, body) in (first..).zip(bodies) {
            self.l_ord.push(signed(row.order));
            self.l_seq.push(signed(seq));
            self.l_body.push(text(body));
        }
    }

    pub(super) fn push_signal(
        &mut self,
        order: u64,
        id: &SignalId,
        body: Option<(u64, &Signal)>,
    ) -> Result<(), StoreError> {
        self.g_ord.push(signed(order));
        self.g_id.push(id.as_str().to_owned());
        self.g_n.push(body.map_or(0, |(n, _)| signed(n)));
        self.g_body.push(body.map(|(_, signal)| json(signal)).transpose()?);
        Ok(())
    }

    pub(super) fn push_freed(&mut self, order: u64) {
        self.f_ord.push(signed(order));
    }

    pub(super) fn push_taken(&mut self, limit: &SlotLimit, order: u64) {
        self.k_scope.push(limit.scope.0.clone());
        self.k_ord.push(signed(order));
        self.k_cap.push(i64::from(limit.cap));
    }

    pub(super) fn push_waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) {
        self.w_scope.push(scope.0.clone());
        self.w_ord.push(signed(row.order));
        self.w_usr.push(row.user().as_str().to_owned());
        self.w_denied.push(denied);
    }

    pub(super) fn push_waited(&mut self, scope: &SlotScope, order: u64) {
        self.x_scope.push(scope.0.clone());
        self.x_ord.push(signed(order));
    }

    /// No wake-up of the task that has been told counts any more.
    pub(super) fn push_cleared(&mut self, order: u64) {
        self.c_ord.push(signed(order));
    }

    /// These wake-ups are part of the row by now, or are of no use.
    pub(super) fn push_merged(&mut self, numbers: &[i64]) {
        self.c_n.extend_from_slice(numbers);
    }

    pub(super) fn push_woken(&mut self, order: u64, at: Timestamp) {
        self.n_ord.push(signed(order));
        self.n_at.push(at.as_millis());
    }

    pub(super) fn push_dead(&mut self, order: u64, since: Timestamp, reason: &str) {
        self.d_ord.push(signed(order));
        self.d_since.push(since.as_millis());
        // PostgreSQL's texts hold no NUL.
        self.d_reason.push(reason.replace('\0', "\u{fffd}"));
    }

    /// A task that was looked at from memory: refused when it is not as it was.
    pub(super) fn push_looked_at(&mut self, order: i64, v: i64) {
        self.y_ord.push(order);
        self.y_v.push(v);
    }

    pub(super) fn push_alive(&mut self, order: u64) {
        self.a_ord.push(signed(order));
    }
}
