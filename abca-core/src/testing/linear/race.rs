//! Clients that race for a few tasks.

use std::sync::Arc;

use super::super::SeededIds;
use super::super::fixtures::{
    admit, at, claim, commit, complete, note, nudge, record, registration, running, start_intent, submit, task, task_id,
};
use super::super::store::join_all;
use super::history::{Answer, Call, Recorded, Recorder};
use crate::id::SessionId;
use crate::store::{Append, ClaimQuery, Release, Renewal, Submit, TaskStore};
use crate::task::{Change, Snapshot, TaskStatus};

/// Lets as many clients as there are stores (handles on the same tasks) race for `tasks` tasks, each for `steps` calls, and gives
/// what was submitted and what was recorded. `seed` decides what is asked; who comes first is the executor's and the store's.
pub async fn race(stores: &[Arc<dyn TaskStore>], seed: u64, tasks: u64, steps: usize) -> (Vec<Submit>, Vec<Recorded>) {
    // Ids of their own, so that one store can hold many races.
    let first = seed.wrapping_mul(1_000) % 1_000_000_000;
    let submitted: Vec<Submit> = (first..first + tasks).map(|n| submit(task(n))).collect();
    for one in &submitted {
        stores[0].submit(std::slice::from_ref(one)).await.expect("a submission to race for");
    }
    let recorder = Recorder::new();
    join_all(stores.iter().enumerate().map(|(n, store)| {
        let client =
            Client { n: n as u64, first, tasks, ids: SeededIds::new(seed.wrapping_add(n as u64 * 7_919)), seen: None };
        client.run(&recorder, &**store, steps)
    }))
    .await;
    (submitted, recorder.history())
}

struct Client {
    n: u64,
    first: u64,
    tasks: u64,
    ids: SeededIds,
    /// What it saw last: what it asks is decided on it, stale or not.
    seen: Option<Snapshot>,
}

impl Client {
    fn roll(&self, sides: u64) -> u64 {
        self.ids.next_u64() % sides
    }

    async fn run(mut self, recorder: &Recorder, store: &dyn TaskStore, steps: usize) {
        for step in 0..steps {
            let call = self.next(step as u64);
            let answer = recorder.call(store, call).await;
            self.hear(answer);
        }
    }

    fn hear(&mut self, answer: Answer) {
        use crate::store::CommitOutcome as Outcome;
        match answer {
            Answer::Commit(Outcome::Applied(s) | Outcome::AlreadyApplied(s) | Outcome::Stale(s)) => {
                self.seen = Some(*s)
            }
            Answer::Claim(mut claimed) => self.seen = claimed.pop().or(self.seen.take()),
            Answer::Load(found) => self.seen = found.map(|s| *s),
            Answer::Commit(Outcome::Fenced | Outcome::SlotDenied(_) | Outcome::NotFound)
            | Answer::Flag(_)
            | Answer::Signal(_)
            | Answer::Append(_)
            | Answer::Failed
            | Answer::Unknown => {}
        }
    }

    fn next(&self, step: u64) -> Call {
        let id = task_id(self.first + self.roll(self.tasks));
        let now = at(1_000 + step * 10 + self.n);
        let Some(s) = self.seen.clone().filter(|_| self.roll(8) > 0) else { return Call::Load(id) };
        let session = s.task.session.as_ref().map_or_else(|| SessionId::of(s.id(), 1), |x| x.id.clone());
        match self.roll(12) {
            0 | 1 => {
                // Late enough, now and then, that another's lease has run out.
                let now = at(1_000 + step * 10 + self.roll(2) * 600_000);
                Call::Claim(ClaimQuery { task: Some(id), ..claim(self.n, now, 1) })
            }
            2..=6 => Call::Commit(Box::new(commit(&s, self.change(&s, now), self.roll(2)))),
            7 => Call::Renew(Renewal { task: s.id(), epoch: s.epoch, lease_until: at(600_000 + step) }),
            8 => {
                let due = (self.roll(2) == 0).then_some(now);
                Call::Release(Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due })
            }
            9 => match self.roll(3) {
                0 => Call::Signal(registration(&session, s.id(), now)),
                _ => Call::Signal(nudge(s.id(), &format!("n{}", self.roll(20)), now)),
            },
            10 => {
                let records = vec![record(&session, self.roll(3))];
                let expect_seq = 1 + self.roll(4);
                Call::Append(Append { task: s.id(), session, expect_seq, records, events: vec![], now })
            }
            _ => Call::Heartbeat(s.id(), session, now),
        }
    }

    /// A step that the table allows from there, or a note.
    fn change(&self, s: &Snapshot, now: crate::time::Timestamp) -> Change {
        let starts = s.task.session.is_none() && s.owed.is_empty();
        match (s.task.status, self.roll(3)) {
            (TaskStatus::Submitted, 1 | 2) => admit(s, now),
            (TaskStatus::Hydrating, 1 | 2) if starts => start_intent(s, now),
            (TaskStatus::Hydrating, 1 | 2) if !s.owed.is_empty() => running(s, now),
            (TaskStatus::Running, 2) if self.roll(6) == 0 => complete(s, now),
            (
                TaskStatus::PendingUploads
                | TaskStatus::Submitted
                | TaskStatus::Queued
                | TaskStatus::Hydrating
                | TaskStatus::Running
                | TaskStatus::AwaitingApproval
                | TaskStatus::Finalizing
                | TaskStatus::Completed
                | TaskStatus::Failed
                | TaskStatus::Cancelled
                | TaskStatus::TimedOut,
                _,
            ) => note(s, now),
        }
    }
}
