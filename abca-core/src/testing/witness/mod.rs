//! Watches a store from in front of it, and finds whatever breaks a promise of the platform.
//!
//! A [`Witness`] stands between a store and everybody who uses it, keeps a ledger of its own of what was answered, and
//! compares each answer with what must hold (`DESIGN.md`, section 3). It never panics where it finds something, for a
//! panic inside a worker's loop is caught there: ask for [`Witness::findings`].
//!
//! Calls are judged in the order in which they are answered. So it is meant for runs where calls do not overlap inside
//! the store: a store in memory under a single-threaded executor, or a history that one caller makes.

mod ledger;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::Trace;
use super::proxy::{Proxy, StoreProxy};
use crate::id::{EventSeq, SessionId, TaskId};
use crate::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, NewSignal, Release, Renewal, SignalOutcome,
    StoreError, Submit, SubmitOutcome, TaskStore,
};
use crate::task::{Snapshot, TaskStatus};
use crate::time::Timestamp;
use ledger::Ledger;

macro_rules! promises {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// What must hold, whatever happens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Promise {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Promise {
            /// Every promise.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// In words.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

promises! {
    /// One terminal event, the last one; the record of an ended task never changes.
    OneEnd = "at most one end, and nothing after it";
    /// Every move is a row of [`crate::task::TRANSITIONS`].
    Table = "a task moves along the table";
    /// The scopes held are the task's own while its state holds slots, and none else.
    Slots = "a slot is held exactly in the states that hold one";
    /// Never more holders than the cap of whoever takes a slot.
    Cap = "never more holders than the cap";
    /// Nobody takes a slot before an earlier task that waits for it.
    Fifo = "first in, first out";
    /// What a worker says that has lost its lease is refused.
    Fence = "what an expired worker says is refused";
    /// A commit applies on the revision that it was decided on.
    Cas = "a commit lands on what it was decided on";
    /// A commit applies once.
    Once = "a repeated commit is recognised";
    /// A signal is accepted once.
    SignalOnce = "a repeated signal is one signal";
    /// Only the session that the task expects registers, reports and writes.
    Gate = "only the expected session is heard";
    /// The same effect is owed once in a task's life.
    EffectOnce = "an effect is decided once";
    /// An end leaves nothing owed and nothing unread.
    Inbox = "an end has read its inbox and owes nothing";
    /// A cancel that was accepted is how the task ends.
    Cancel = "an accepted cancel is how the task ends";
    /// Events are numbered from 1 without gaps.
    Gapless = "events have no gaps";
    /// A task that was accepted is there, as it was last answered.
    Kept = "what was answered is kept";
    /// Every task ends when time passes.
    Ends = "time alone ends every task";
    /// When all has ended nothing is held and nothing is due.
    Quiet = "when all has ended nothing is held or due";
    /// One session of a task works at a time.
    OneSession = "one session of a task works at a time";
    /// A session is begun once, however often its start is repeated.
    StartOnce = "a session is started once";
    /// No session works on a task that has ended.
    NoWork = "nothing works once its task has ended";
    /// No session is left running when its task has ended.
    NoOrphan = "no session is left when all has ended";
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub promise: Promise,
    /// Whose task.
    pub task: Option<TaskId>,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` does not hold", self.promise)?;
        if let Some(task) = self.task {
            write!(f, " for task `{task}`")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// A store that is watched. Use it through [`Witness::store`].
#[derive(Debug)]
pub struct Witness {
    inner: Arc<dyn TaskStore>,
    trace: Arc<Trace>,
    most_steps: u64,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    ledger: Ledger,
    findings: Vec<Finding>,
    visited: BTreeSet<TaskStatus>,
}

impl Book {
    fn find(&mut self, promise: Promise, task: TaskId, detail: impl Into<String>) {
        self.findings.push(Finding { promise, task: Some(task), detail: detail.into() });
    }
}

impl Witness {
    /// Watches an empty store, and notes what is done to it in a trace.
    pub fn new(inner: Arc<dyn TaskStore>, trace: Arc<Trace>) -> Arc<Self> {
        Self::bounded(inner, trace, u64::MAX)
    }

    /// The same, for a run that takes no more than so many steps of the trace, unless it runs in a circle: that is found, and
    /// claims are not answered any more, so that the run comes to an end.
    pub fn bounded(inner: Arc<dyn TaskStore>, trace: Arc<Trace>, most_steps: u64) -> Arc<Self> {
        Arc::new(Self { inner, trace, most_steps, book: Mutex::default() })
    }

    /// The watched store, for whoever uses it.
    pub fn store(self: &Arc<Self>) -> Arc<dyn TaskStore> {
        Arc::new(Proxy(Watching(self.clone())))
    }

    /// What was found so far.
    pub fn findings(&self) -> Vec<Finding> {
        self.book().findings.clone()
    }

    /// Adds what somebody else found.
    pub fn report(&self, finding: Finding) {
        self.book().findings.push(finding);
    }

    /// The states that tasks were seen in.
    pub fn visited(&self) -> BTreeSet<TaskStatus> {
        self.book().visited.clone()
    }

    /// The tasks that were accepted.
    pub fn tasks(&self) -> Vec<TaskId> {
        self.book().ledger.ids()
    }

    /// Where a task stands, as last answered.
    pub fn status(&self, task: TaskId) -> Option<TaskStatus> {
        self.book().ledger.status(task)
    }

    /// Whether every accepted task has ended.
    pub fn all_ended(&self) -> bool {
        self.book().ledger.all_ended()
    }

    /// Whether a task ended while its backend had not confirmed that its session is gone: the one case in which something
    /// of it may still run, and its last event says so.
    pub fn is_unconfirmed(&self, task: TaskId) -> bool {
        self.book().ledger.is_unconfirmed(task)
    }

    /// A session is about to act for its task, having registered: says whether it may.
    pub fn acts(&self, task: TaskId, session: &SessionId) {
        let mut book = self.book();
        match book.ledger.status(task) {
            Some(status) if status.is_terminal() && !book.ledger.is_unconfirmed(task) => {
                book.find(Promise::NoWork, task, format!("session `{session}` acts after {status}"));
            }
            Some(_) | None => {}
        }
    }

    /// Reads everything back, and compares it with what was answered. `quiet`: every task must have ended by now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit(&self, quiet: bool) -> Result<(), StoreError> {
        for id in self.tasks() {
            let loaded = self.inner.load(&[id]).await?.pop().flatten();
            let Some(loaded) = loaded else {
                self.book().find(Promise::Kept, id, "an accepted task is not there");
                continue;
            };
            self.audit_events(&loaded).await?;
            let mut book = self.book();
            if let Some(known) = book.ledger.status(id).filter(|known| *known != loaded.task.status) {
                book.find(Promise::Kept, id, format!("answered as {known}, kept as {}", loaded.task.status));
            }
            if quiet && !loaded.task.status.is_terminal() {
                let detail = format!("still {} (due and lease: see the trace)", loaded.task.status);
                book.find(Promise::Ends, id, detail);
            }
        }
        let held: Vec<_> = self.inner.slots().await?.into_iter().filter(|s| !s.holders.is_empty()).collect();
        let due = self.inner.next_due().await?;
        let mut book = self.book();
        let wrong = book.ledger.misheld(&held);
        for (task, detail) in wrong {
            book.find(Promise::Slots, task, detail);
        }
        if quiet && book.ledger.all_ended() && (!held.is_empty() || due.is_some()) {
            let detail = format!("held: {held:?}, due: {due:?}");
            book.findings.push(Finding { promise: Promise::Quiet, task: None, detail });
        }
        Ok(())
    }

    async fn audit_events(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let id = snapshot.id();
        let query = EventQuery { task: id, after: EventSeq::ZERO, limit: usize::MAX >> 1 };
        let events = self.inner.events(&query).await?;
        let mut book = self.book();
        if !events.iter().map(|e| e.seq.0).eq(1..=events.len() as u64) {
            let numbers: Vec<u64> = events.iter().map(|e| e.seq.0).collect();
            book.find(Promise::Gapless, id, format!("events are numbered {numbers:?}"));
        }
        let status = snapshot.task.status;
        let ends = events.iter().filter(|e| e.event_type.is_terminal()).count();
        let last = events.last().is_some_and(|e| e.event_type.is_terminal());
        if ends != usize::from(status.is_terminal()) || last != status.is_terminal() {
            let names: Vec<_> = events.iter().map(|e| e.event_type.as_str()).collect();
            book.find(Promise::OneEnd, id, format!("{status} after {names:?}"));
        }
        if events.len() as u64 != book.ledger.events(id) {
            let detail = format!("{} events are kept, {} were answered", events.len(), book.ledger.events(id));
            book.find(Promise::Kept, id, detail);
        }
        Ok(())
    }

    async fn loaded(&self, task: TaskId) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.inner.load(&[task]).await?.pop().flatten())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics while it holds the book")
    }
}

/// The layer itself.
#[derive(Debug)]
struct Watching(Arc<Witness>);

#[async_trait]
impl StoreProxy for Watching {
    fn inner(&self) -> &Arc<dyn TaskStore> {
        &self.0.inner
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        let answers = self.0.inner.submit(batch).await?;
        let mut book = self.0.book();
        for (submit, answer) in batch.iter().zip(&answers) {
            if let SubmitOutcome::Created(snapshot) = answer {
                self.0.trace.note(format_args!("created {} {}", snapshot.id(), snapshot.task.status));
                book.created(submit, snapshot);
            }
        }
        Ok(answers)
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let answers = self.0.inner.commit(batch).await;
        match &answers {
            Ok(answers) => {
                let mut book = self.0.book();
                for (commit, answer) in batch.iter().zip(answers) {
                    let to = commit.change.task.status;
                    self.0.trace.note(format_args!(
                        "commit {} r{} e{} to {to}: {}",
                        commit.task,
                        commit.expect_revision,
                        commit.epoch,
                        name(answer)
                    ));
                    book.committed(commit, answer);
                }
            }
            Err(error) => self.0.trace.note(format_args!("commit: {error}")),
        }
        answers
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        if self.0.trace.steps() > self.0.most_steps {
            let detail = format!("more than {} steps: it runs in a circle", self.0.most_steps);
            self.0.report(Finding { promise: Promise::Ends, task: None, detail });
            std::future::pending::<()>().await;
        }
        let answers = self.0.inner.claim(query).await?;
        let mut book = self.0.book();
        for snapshot in &answers {
            self.0.trace.note(format_args!(
                "claim {} e{} {} at {}",
                snapshot.id(),
                snapshot.epoch,
                query.worker,
                query.now
            ));
            book.claimed(snapshot);
        }
        Ok(answers)
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        let answers = self.0.inner.renew(batch).await?;
        let mut book = self.0.book();
        for (renewal, kept) in batch.iter().zip(&answers) {
            self.0.trace.note(format_args!("renew {} e{}: {kept}", renewal.task, renewal.epoch));
            if *kept {
                book.under(renewal.task, renewal.epoch, "a renewal");
            }
        }
        Ok(answers)
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        let answers = self.0.inner.release(batch).await?;
        let mut book = self.0.book();
        for (release, done) in batch.iter().zip(&answers) {
            self.0
                .trace
                .note(format_args!("release {} e{} until {:?}: {done}", release.task, release.epoch, release.due));
            if *done {
                book.under(release.task, release.epoch, "a release");
            }
        }
        Ok(answers)
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        let answers = self.0.inner.signal(batch).await?;
        for (signal, answer) in batch.iter().zip(&answers) {
            self.0.trace.note(format_args!("signal {} {}: {answer:?}", signal.task, signal.signal.id));
            if *answer == SignalOutcome::Accepted {
                let after = self.0.loaded(signal.task).await?;
                self.0.book().signalled(signal, after.as_ref());
            }
        }
        Ok(answers)
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let answers = self.0.inner.append(batch).await?;
        for (append, answer) in batch.iter().zip(&answers) {
            self.0.trace.note(format_args!("append {} at {}: {answer:?}", append.session, append.expect_seq));
            if matches!(answer, AppendOutcome::Appended { .. }) {
                let after = self.0.loaded(append.task).await?;
                self.0.book().appended(append, after.as_ref());
            }
        }
        Ok(answers)
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        let heard = self.0.inner.heartbeat(task, session, now).await?;
        self.0.trace.note(format_args!("heartbeat {session}: {heard}"));
        if heard {
            self.0.book().heard(task, session, "a heartbeat");
        }
        Ok(heard)
    }
}

const fn name(outcome: &CommitOutcome) -> &'static str {
    match outcome {
        CommitOutcome::Applied(_) => "applied",
        CommitOutcome::AlreadyApplied(_) => "already applied",
        CommitOutcome::Stale(_) => "stale",
        CommitOutcome::Fenced => "fenced",
        CommitOutcome::SlotDenied(_) => "slot denied",
        CommitOutcome::NotFound => "not found",
    }
}
