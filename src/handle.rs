//! A task in the caller's hands: follow it, steer it, wait for its outcome.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use abca_core::event::Event;
use abca_core::id::SignalId;
use abca_core::names;
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::{EventQuery, LogQuery, NUDGES_PENDING, NewSignal, SignalOutcome, StoreError};
use abca_core::task::{Signal, SignalKind, Snapshot, Task, TaskStatus};
use abca_core::{EventSeq, Millis, TaskId, Timestamp};
use futures_core::Stream;

use crate::abca::Inner;
use crate::error::{Error, ErrorKind};
use crate::orchestrator::TaskRing;
use crate::outcome::{PartialWork, TaskOutcome};

/// How often a follower looks by itself, for what other processes do.
const LOOK: Duration = Duration::from_millis(250);
/// Events or log records read at once.
const PAGE: usize = 256;
/// Longest nudge, in characters.
const NUDGE_CHARS: usize = 2_000;
/// Repeats of a read that failed, with growing waits, before the follower hears of it.
const READ_RETRIES: u32 = 5;
/// What an outcome waits on top of every deadline of the task: for its last commit.
const OUTCOME_MARGIN: Millis = Millis::secs(60);

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is on its way; `CANCELLED` follows once nothing of the task runs any more.
    Accepted,
    /// The task had ended already.
    AlreadyEnded(TaskStatus),
}

/// One task. Cheap to clone; dropping it never cancels the task.
#[derive(Clone)]
pub struct TaskHandle {
    id: TaskId,
    abca: Arc<Inner>,
    /// Hears the task since before it was submitted: what is known of it needs no look at the store.
    since_submit: Option<Arc<TaskRing>>,
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskHandle").field(&self.id).finish()
    }
}

impl TaskHandle {
    pub(crate) fn new(id: TaskId, abca: Arc<Inner>) -> Self {
        Self { id, abca, since_submit: None }
    }

    pub(crate) fn submitted(id: TaskId, abca: Arc<Inner>, ring: TaskRing) -> Self {
        Self { id, abca, since_submit: Some(Arc::new(ring)) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.abca
    }

    /// The task's id: enough to find it again with [`crate::Abca::task`], from any process.
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// The record as it is now.
    ///
    /// # Errors
    /// When the store cannot be read, or the task is gone from it.
    pub async fn record(&self) -> Result<Task, Error> {
        self.snapshot().await.map(|s| s.task)
    }

    /// Where the task stands.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn status(&self) -> Result<TaskStatus, Error> {
        self.snapshot().await.map(|s| s.task.status)
    }

    /// All that the store knows of the task: record, inbox, slots, what is owed.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let found = self.abca.store.load(&[self.id]).await?;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no task `{}` in this store", self.id));
        found.into_iter().next().flatten().ok_or_else(missing)
    }

    /// Everything that happens, from the beginning, until the task has ended.
    pub fn events(&self) -> EventStream {
        self.events_after(EventSeq::ZERO)
    }

    /// Everything that happens after an event that was seen, until the task has ended.
    pub fn events_after(&self, seq: EventSeq) -> EventStream {
        EventStream { handle: self.clone(), after: seq, ready: VecDeque::new(), reading: None, over: false }
    }

    /// What has happened so far, after an event that was seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events_so_far(&self, seq: EventSeq) -> Result<Vec<Event>, Error> {
        let (mut all, mut after) = (Vec::new(), seq);
        loop {
            let page = self.abca.store.events(&EventQuery { task: self.id, after, limit: PAGE }).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.seq;
            all.extend(page);
        }
    }

    /// Asks to cancel, in the name of this facade's user. Idempotent.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn cancel(&self) -> Result<CancelAnswer, Error> {
        self.cancel_as(self.abca.user.as_str()).await
    }

    /// Asks to cancel in somebody's name. Idempotent: the first one counts.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn cancel_as(&self, by: &str) -> Result<CancelAnswer, Error> {
        let kind = SignalKind::Cancel { by: by.chars().take(256).collect() };
        match self.signal(signal_id("cancel")?, kind).await? {
            SignalOutcome::Accepted | SignalOutcome::Duplicate => Ok(CancelAnswer::Accepted),
            SignalOutcome::Terminal(status) => Ok(CancelAnswer::AlreadyEnded(status)),
            SignalOutcome::Refused | SignalOutcome::Full => {
                Err(Error::new(ErrorKind::Internal, "the store refused a cancel"))
            }
            SignalOutcome::NotFound => Err(self.not_found()),
        }
    }

    /// Says something to the running agent; it hears it between two turns.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless the text has 1 to 2 000 characters; [`ErrorKind::Blocked`] when the guardrail does not
    /// let it through; [`ErrorKind::Ended`] when the task has ended;
    /// [`ErrorKind::Full`] while [`NUDGES_PENDING`] of its nudges wait to be heard.
    pub async fn nudge(&self, message: &str) -> Result<(), Error> {
        let chars = message.chars().count();
        if message.trim().is_empty() || chars > NUDGE_CHARS {
            let text =
                format!("a nudge has 1 to {NUDGE_CHARS} characters that are not all blank; this one has {chars}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let message = self.said("nudge", message).await?;
        let id = signal_id(&format!("nudge/{:032x}", self.abca.ids.random()))?;
        match self.signal(id, SignalKind::Nudge { message }).await? {
            SignalOutcome::Accepted | SignalOutcome::Duplicate => Ok(()),
            SignalOutcome::Terminal(status) => Err(self.ended(status)),
            SignalOutcome::Full => {
                let text = format!(
                    "task `{}` has {NUDGES_PENDING} nudges that its agent has not heard yet: wait until it has, or say all in one",
                    self.id
                );
                Err(Error::new(ErrorKind::Full, text))
            }
            SignalOutcome::Refused => Err(Error::new(ErrorKind::Internal, "the store refused a nudge")),
            SignalOutcome::NotFound => Err(self.not_found()),
        }
    }

    /// What somebody says to the task, as the guardrail lets it through.
    pub(crate) async fn said(&self, name: &str, text: &str) -> Result<String, Error> {
        if self.abca.guard.is_off() {
            return Ok(text.to_owned());
        }
        // Before the guardrail, which may cost time and money.
        let task = self.record().await?;
        if task.status.is_terminal() {
            return Err(self.ended(task.status));
        }
        self.abca.guard.said(&task, name, text).await
    }

    /// The session log so far, of all attempts, as `(number, record)`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn log(&self) -> Result<Vec<(u64, LogRecord)>, Error> {
        self.log_after(0).await
    }

    /// The session log after a record that was seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn log_after(&self, mut after: u64) -> Result<Vec<(u64, LogRecord)>, Error> {
        let mut all = Vec::new();
        loop {
            let page = self.abca.store.log(&LogQuery { task: self.id, after, limit: PAGE }).await?;
            let full = page.len() >= PAGE;
            after = page.last().map_or(after, |(number, _)| *number);
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    /// Waits until the task has ended, and says how. Never longer than the task's own deadlines allow.
    ///
    /// # Errors
    /// [`ErrorKind::Deadline`] when every deadline has passed and the task has not ended: no worker runs on its store.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; call it again.
    pub async fn outcome(&self) -> Result<TaskOutcome, Error> {
        let mut ring = self.abca.bell.task(self.id);
        let mut failures = 0;
        // Who has listened since the submission has missed nothing: the first look can wait.
        let mut informed = self.since_submit.is_some();
        loop {
            if let Some(latest) = ring.latest().filter(|s| s.task.status.is_terminal()) {
                return self.outcome_of(latest.task.clone()).await;
            }
            if !std::mem::take(&mut informed) {
                match self.snapshot().await {
                    Ok(snapshot) if snapshot.task.status.is_terminal() => return self.outcome_of(snapshot.task).await,
                    Ok(snapshot) => {
                        failures = 0;
                        self.still_possible(&snapshot.task)?;
                    }
                    Err(error) if error.is_retryable() && failures < READ_RETRIES => failures += 1,
                    Err(error) => return Err(error),
                }
            }
            let look = tokio::time::sleep(LOOK * (1 + failures));
            tokio::pin!(look);
            loop {
                tokio::select! {
                    () = ring.rung() => if ring.latest().is_some_and(|s| s.task.status.is_terminal()) { break },
                    () = &mut look => break,
                }
            }
        }
    }

    /// A task whose every deadline has passed is one that nobody works on.
    fn still_possible(&self, task: &Task) -> Result<(), Error> {
        let (now, end) = (self.abca.clock.now(), last_deadline(task));
        if now <= end {
            return Ok(());
        }
        let text = format!(
            "task `{}` is {} although its last deadline was {end}: start a worker on this store",
            self.id, task.status
        );
        Err(Error::new(ErrorKind::Deadline, text))
    }

    async fn outcome_of(&self, task: Task) -> Result<TaskOutcome, Error> {
        let saved = if task.status == TaskStatus::Completed { None } else { self.last_checkpoint().await? };
        Ok(TaskOutcome::of(task, saved.map(|sha| PartialWork { reference: names::wip_ref(self.id), sha })))
    }

    async fn last_checkpoint(&self) -> Result<Option<String>, Error> {
        Ok(self.log().await?.into_iter().rev().find_map(|(_, record)| match record.entry {
            LogEntry::Checkpoint { sha, .. } => Some(sha),
            _ => None,
        }))
    }

    pub(crate) async fn signal(&self, id: SignalId, kind: SignalKind) -> Result<SignalOutcome, Error> {
        let signal = Signal { id, at: self.abca.clock.now(), kind };
        let outcomes = self.abca.store.signal(&[NewSignal { task: self.id, signal, expect_session: None }]).await?;
        outcomes.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "the store gave no answer"))
    }

    fn ended(&self, status: TaskStatus) -> Error {
        Error::new(ErrorKind::Ended, format!("task `{}` has ended: {status}", self.id))
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::new(ErrorKind::NotFound, format!("there is no task `{}` in this store", self.id))
    }

    /// Waits for events after a position; empty once the task has ended and all are told.
    async fn read_events(self, after: EventSeq) -> Result<Vec<Event>, Error> {
        let mut ring = self.abca.bell.task(self.id);
        let mut failures = 0;
        loop {
            match self.events_or_end(after).await {
                Ok(Some(events)) => return Ok(events),
                Ok(None) => failures = 0,
                Err(error) if error.is_retryable() && failures < READ_RETRIES => failures += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = ring.rung() => {}
                () = tokio::time::sleep(LOOK * (1 + failures)) => {}
            }
        }
    }

    async fn events_or_end(&self, after: EventSeq) -> Result<Option<Vec<Event>>, StoreError> {
        let query = EventQuery { task: self.id, after, limit: PAGE };
        let events = self.abca.store.events(&query).await?;
        if !events.is_empty() {
            return Ok(Some(events));
        }
        // Read in this order, so that an end between the two reads is not taken for silence.
        let ended = match self.abca.store.load(&[self.id]).await?.into_iter().next().flatten() {
            Some(snapshot) => snapshot.task.status.is_terminal(),
            None => true,
        };
        if ended { self.abca.store.events(&query).await.map(Some) } else { Ok(None) }
    }
}

/// Events of one task, in order and without gaps. Ends after the terminal event.
///
/// A [`Stream`], and [`EventStream::next`] for those who have no stream library. An error does not end it: the next
/// call reads on from the same place.
pub struct EventStream {
    handle: TaskHandle,
    after: EventSeq,
    ready: VecDeque<Event>,
    reading: Option<Reading>,
    over: bool,
}

/// A read under way.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<Event>, Error>> + Send>>;

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("task", &self.handle.id).field("after", &self.after).finish_non_exhaustive()
    }
}

impl EventStream {
    /// The next event; `None` once the task has ended and every event was given. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The number of the last event given: where [`TaskHandle::events_after`] goes on.
    pub const fn position(&self) -> EventSeq {
        self.after
    }
}

impl Stream for EventStream {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.seq;
                self.over = event.event_type.is_terminal();
                return Poll::Ready(Some(Ok(event)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let (handle, after) = (self.handle.clone(), self.after);
            let reading = self.reading.get_or_insert_with(|| Box::pin(handle.read_events(after)));
            let read = match reading.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read,
            };
            self.reading = None;
            match read {
                Ok(events) => {
                    self.over = events.is_empty();
                    self.ready = events.into();
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// When the last of a task's deadlines has passed, whatever happens to it.
fn last_deadline(task: &Task) -> Timestamp {
    let l = &task.spec.limits;
    let uploads = if task.spec.attachments.is_empty() { Millis(0) } else { l.upload_window_ms };
    let parts =
        [uploads, l.queue_timeout_ms, l.task_timeout_ms, l.finalize_timeout_ms, l.stop_grace_ms, OUTCOME_MARGIN];
    parts.into_iter().fold(task.created_at, Timestamp::after)
}

fn signal_id(text: &str) -> Result<SignalId, Error> {
    SignalId::new(text).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}
