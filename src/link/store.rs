//! The session link over the store itself: what every other form of the link ends in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use abca_core::id::SignalId;
use abca_core::link::{AppendLog, LinkError, LinkErrorKind, LinkReply, Registered, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::{
    Append, AppendOutcome, LogQuery, NewSignal, SignalOutcome, StoreError, StoreErrorKind, TaskStore, signal_id,
};
use abca_core::task::{Gate, GateDecision, SessionPhase, SessionReport, Signal, SignalKind, Snapshot};
use abca_core::{Clock, Millis, SessionId, TaskId};
use async_trait::async_trait;

use crate::orchestrator::{Bell, TaskRing};

/// Log records read at once.
const LOG_PAGE: usize = 512;

/// The link of sessions that can reach the store: those in this process, and those behind a [`super::LinkServer`].
#[derive(Debug)]
pub struct StoreLink {
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    bell: Bell,
    timing: Timing,
    heard: Mutex<BTreeMap<TaskId, Heard>>,
    unwritten: Unwritten,
}

/// How patient the link is.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// How long a registration waits until an orchestrator has taken it up.
    register: Millis,
    /// How long `listen` stays without an answer.
    listen: Millis,
    /// How often both look by themselves, when no bell rings.
    look: Millis,
}

/// Since when the store takes nothing that sessions say, and when that was last told: a full disk holds work up silently
/// otherwise, for sessions wait and say it again.
#[derive(Debug, Default)]
struct Unwritten(Mutex<Option<tokio::time::Instant>>);

/// How often an operator is told of it.
const TOLD_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

impl Unwritten {
    fn heard_of<T>(&self, written: &Result<T, StoreError>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(_) => {
                if told.take().is_some() {
                    tracing::warn!("the store takes the words of sessions again");
                }
            }
            Err(error) if error.is_retryable() => {
                if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
                    *told = Some(tokio::time::Instant::now());
                    tracing::error!(%error, "the store cannot be written: sessions wait until it can");
                }
            }
            Err(_) => {}
        }
    }
}

/// Which signals a task's log acknowledges, as far as it was read.
#[derive(Debug, Default)]
struct Heard {
    read: u64,
    signals: BTreeSet<String>,
}

impl StoreLink {
    /// A link over a store. The bell is the one that the store's own [`crate::orchestrator::Wake`] layer rings: with
    /// another one everything still works, with answers up to 250 ms later.
    pub fn new(store: Arc<dyn TaskStore>, clock: Arc<dyn Clock>, bell: Bell) -> Self {
        let timing = Timing { register: Millis::secs(30), listen: Millis::secs(20), look: Millis(250) };
        Self { store, clock, bell, timing, heard: Mutex::default(), unwritten: Unwritten::default() }
    }

    async fn snapshot(&self, task: TaskId, op: &'static str) -> Result<Snapshot, LinkError> {
        let found = self.store.load(&[task]).await.map_err(|e| from_store(op, e))?;
        found.into_iter().next().flatten().ok_or_else(|| refused(op, "no such task"))
    }

    /// The snapshot, where this session is the task's own.
    async fn own(
        &self,
        task: TaskId,
        session: &SessionId,
        op: &'static str,
    ) -> Result<(Snapshot, Standing), LinkError> {
        let snapshot = self.snapshot(task, op).await?;
        let standing = standing(&snapshot, session);
        Ok((snapshot, standing))
    }

    /// What there is to hear for a session.
    async fn reply(&self, snapshot: &Snapshot, session: &SessionId) -> Result<LinkReply, LinkError> {
        let task = &snapshot.task;
        let stop = match standing(snapshot, session) {
            Standing::Ended => Some(format!("the task has ended: {}", task.status)),
            Standing::Foreign | Standing::Over => Some("the task does not expect this session any more".to_owned()),
            Standing::Stopping(why) => Some(why),
            Standing::Starting | Standing::Live => match &task.cancel {
                Some(cancel) => Some(format!("cancelled by {}", cancel.by)),
                None => cancel_asked(snapshot).map(|by| format!("cancelled by {by}")),
            },
        };
        if task.status.is_terminal() {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.id);
            return Ok(LinkReply { stop, signals: Vec::new() });
        }
        Ok(LinkReply { stop, signals: self.unheard(snapshot).await? })
    }

    /// Signals for the session that its log does not acknowledge.
    async fn unheard(&self, snapshot: &Snapshot) -> Result<Vec<Signal>, LinkError> {
        let mut signals: Vec<Signal> =
            snapshot.signals.iter().filter(|s| is_for_session(snapshot, &s.kind)).cloned().collect();
        if signals.is_empty() {
            return Ok(signals);
        }
        let task = snapshot.id();
        self.read_acknowledged(task).await?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = heard.get(&task) {
            signals.retain(|s| !heard.signals.contains(s.id.as_str()));
        }
        Ok(signals)
    }

    async fn read_acknowledged(&self, task: TaskId) -> Result<(), LinkError> {
        loop {
            let after = {
                let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.get(&task).map_or(0, |h| h.read)
            };
            let query = LogQuery { task, after, limit: LOG_PAGE };
            let page = self.store.log(&query).await.map_err(|e| from_store("heartbeat", e))?;
            let full = page.len() >= LOG_PAGE;
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let heard = heard.entry(task).or_default();
            for (number, record) in page {
                heard.read = heard.read.max(number);
                match record.entry {
                    LogEntry::Injected { signal: Some(id), .. } | LogEntry::ApprovalSettled { signal: id, .. } => {
                        heard.signals.insert(id);
                    }
                    _ => {}
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    async fn whole_log(&self, task: TaskId) -> Result<Vec<LogRecord>, LinkError> {
        let mut log = Vec::new();
        loop {
            let after = log.len() as u64;
            let page = self.store.log(&LogQuery { task, after, limit: LOG_PAGE }).await;
            let page = page.map_err(|e| from_store("register", e))?;
            let full = page.len() >= LOG_PAGE;
            log.extend(page.into_iter().map(|(_, record)| record));
            if !full {
                return Ok(log);
            }
        }
    }

    /// Puts a session's question, and that nobody answered it in time, where `decide` sees it. The log has it already, so that
    /// whoever repeats the append repeats this, and it counts once: a question per session, an answer per gate, and of a
    /// human's and the deadline's the one that came first.
    async fn gates(&self, request: &AppendLog) -> Result<bool, LinkError> {
        let op = "append";
        let mut said = false;
        for record in &request.records {
            let (id, kind) = match &record.entry {
                LogEntry::ApprovalRequested { gate, .. } => (
                    signal_id(&["asked", &gate.request, request.session.as_str()]),
                    SignalKind::ApprovalRequested { gate: gate.clone() },
                ),
                LogEntry::ApprovalExpired { request } => (
                    Gate::answer_id(request),
                    SignalKind::ApprovalDecided { request: request.clone(), decision: GateDecision::expired() },
                ),
                _ => continue,
            };
            let id = id.ok_or_else(|| LinkError::new(LinkErrorKind::Invalid, op, "the gate's name is too long"))?;
            let signal = Signal { id, at: self.clock.now(), kind };
            let signal = NewSignal { task: request.task, signal, expect_session: Some(request.session.clone()) };
            match self.signal(signal, op).await? {
                SignalOutcome::Accepted | SignalOutcome::Duplicate => said = true,
                SignalOutcome::Terminal(status) => return Err(refused(op, format!("the task has ended: {status}"))),
                SignalOutcome::Refused | SignalOutcome::Full | SignalOutcome::NotFound => {
                    return Err(refused(op, "the task does not expect this session any more"));
                }
            }
        }
        Ok(said)
    }

    /// Waits for a ring that says that the session is live. `None`: it is time to look.
    async fn rung_live(&self, ring: &mut TaskRing, session: &SessionId) -> Option<Snapshot> {
        let look = tokio::time::sleep(self.timing.look.to_std());
        tokio::pin!(look);
        loop {
            tokio::select! {
                biased;
                () = ring.rung() => {
                    let Some(latest) = ring.latest() else { continue };
                    match standing(&latest, session) {
                        Standing::Live => return Some(Snapshot::clone(&latest)),
                        Standing::Starting => {}
                        // Perhaps older than what another process has done since.
                        Standing::Stopping(_) | Standing::Over | Standing::Ended | Standing::Foreign => return None,
                    }
                }
                () = &mut look => return None,
            }
        }
    }

    async fn signal(&self, signal: NewSignal, op: &'static str) -> Result<SignalOutcome, LinkError> {
        let outcomes = self.store.signal(&[signal]).await.map_err(|e| from_store(op, e))?;
        outcomes
            .into_iter()
            .next()
            .ok_or_else(|| LinkError::new(LinkErrorKind::Unavailable, op, "the store gave no answer"))
    }
}

#[async_trait]
impl SessionLink for StoreLink {
    async fn register(&self, task: TaskId, session: &SessionId) -> Result<Registered, LinkError> {
        let op = "register";
        let mut ring = self.bell.task(task);
        let signal = NewSignal {
            task,
            signal: Signal {
                id: id_of("registered", session)?,
                at: self.clock.now(),
                kind: SignalKind::SessionRegistered { session: session.clone() },
            },
            expect_session: Some(session.clone()),
        };
        let first = match self.signal(signal, op).await? {
            SignalOutcome::Accepted => true,
            SignalOutcome::Duplicate => false,
            SignalOutcome::Terminal(status) => return Err(refused(op, format!("the task has ended: {status}"))),
            SignalOutcome::Refused | SignalOutcome::Full | SignalOutcome::NotFound => {
                return Err(refused(op, "the task does not expect this session"));
            }
        };
        let live = async {
            // A first registration is taken up after this, never before: the ring says when.
            if first && let Some(snapshot) = self.rung_live(&mut ring, session).await {
                return Ok(snapshot);
            }
            loop {
                let (snapshot, standing) = self.own(task, session, op).await?;
                match standing {
                    Standing::Live => return Ok(snapshot),
                    Standing::Starting => {}
                    Standing::Ended => {
                        return Err(refused(op, format!("the task has ended: {}", snapshot.task.status)));
                    }
                    Standing::Stopping(why) => return Err(refused(op, why)),
                    Standing::Over | Standing::Foreign => {
                        return Err(refused(op, "the task does not expect this session any more"));
                    }
                }
                if let Some(snapshot) = self.rung_live(&mut ring, session).await {
                    return Ok(snapshot);
                }
            }
        };
        let snapshot = tokio::time::timeout(self.timing.register.to_std(), live).await.map_err(|_| {
            let message = format!("no orchestrator took the session up within {}", self.timing.register);
            LinkError::new(LinkErrorKind::Unavailable, op, message)
        })??;
        // Only sessions write the log: the first word of the first one finds it empty.
        let untouched = first && snapshot.task.session.as_ref().is_some_and(|s| s.attempt <= 1);
        let log = if untouched { Vec::new() } else { self.whole_log(task).await? };
        Ok(Registered { task: snapshot.task, log })
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId) -> Result<LinkReply, LinkError> {
        let op = "heartbeat";
        if !self.store.heartbeat(task, session, self.clock.now()).await.map_err(|e| from_store(op, e))? {
            return Err(refused(op, "the task does not expect this session any more"));
        }
        self.reply(&self.snapshot(task, op).await?, session).await
    }

    async fn listen(&self, task: TaskId, session: &SessionId, known: &[SignalId]) -> Result<LinkReply, LinkError> {
        let mut ring = self.bell.task(task);
        let mut reply = self.heartbeat(task, session).await?;
        let until = tokio::time::Instant::now() + self.timing.listen.to_std();
        loop {
            reply.signals.retain(|s| !known.contains(&s.id));
            if reply.stop.is_some() || !reply.signals.is_empty() || tokio::time::Instant::now() >= until {
                return Ok(reply);
            }
            tokio::select! {
                biased;
                () = ring.rung() => {}
                () = tokio::time::sleep(self.timing.look.to_std()) => {}
            }
            reply = self.reply(&self.snapshot(task, "listen").await?, session).await?;
        }
    }

    async fn append(&self, request: &AppendLog) -> Result<LinkReply, LinkError> {
        let op = "append";
        if let Some(other) = request.records.iter().find(|r| r.session != request.session) {
            let message = format!("a record of session `{}` in an append of `{}`", other.session, request.session);
            return Err(LinkError::new(LinkErrorKind::Invalid, op, message));
        }
        let append = Append {
            task: request.task,
            session: request.session.clone(),
            expect_seq: request.expect_seq,
            records: request.records.clone(),
            events: request.events.clone(),
            now: self.clock.now(),
        };
        let outcomes = self.store.append(&[append]).await;
        self.unwritten.heard_of(&outcomes);
        let outcomes = outcomes.map_err(|e| from_store(op, e))?;
        match outcomes.first() {
            Some(AppendOutcome::Appended { quiet, .. }) => {
                if !self.gates(request).await? && *quiet {
                    return Ok(LinkReply::default());
                }
            }
            Some(AppendOutcome::Exists { same: true, .. }) => {
                self.gates(request).await?;
            }
            Some(AppendOutcome::Exists { len, same: false }) => {
                let message = format!("record {} was expected next, but the log has {len}", request.expect_seq);
                return Err(LinkError::new(LinkErrorKind::Conflict, op, message));
            }
            Some(AppendOutcome::Refused | AppendOutcome::NotFound) => {
                return Err(refused(op, "the task does not expect this session any more"));
            }
            None => return Err(LinkError::new(LinkErrorKind::Unavailable, op, "the store gave no answer")),
        }
        self.reply(&self.snapshot(request.task, op).await?, &request.session).await
    }

    async fn report(&self, task: TaskId, session: &SessionId, report: &SessionReport) -> Result<(), LinkError> {
        let op = "report";
        let kind = SignalKind::SessionResult { session: session.clone(), report: Box::new(report.clone()) };
        let signal = Signal { id: id_of("result", session)?, at: self.clock.now(), kind };
        let gated = NewSignal { task, signal, expect_session: Some(session.clone()) };
        let mut outcome = self.signal(gated.clone(), op).await?;
        // The store's gate is for sessions that may begin; one that is being stopped may still say how it ended.
        if outcome == SignalOutcome::Refused
            && let (_, Standing::Stopping(_)) = self.own(task, session, op).await?
        {
            outcome = self.signal(NewSignal { expect_session: None, ..gated }, op).await?;
        }
        match outcome {
            SignalOutcome::Accepted | SignalOutcome::Duplicate => {
                self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
                Ok(())
            }
            SignalOutcome::Terminal(_) | SignalOutcome::Refused | SignalOutcome::Full | SignalOutcome::NotFound => {
                // A repeat whose first answer got lost, after the task has ended by it.
                let (snapshot, _) = self.own(task, session, op).await?;
                let ours = snapshot.task.session.as_ref().is_some_and(|s| s.id == *session);
                if ours && snapshot.task.report.as_deref() == Some(report) {
                    return Ok(());
                }
                Err(refused(op, "the task does not expect this session any more"))
            }
        }
    }
}

/// How a session stands with its task.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Starting,
    Live,
    Stopping(String),
    Over,
    Ended,
    Foreign,
}

fn standing(snapshot: &Snapshot, session: &SessionId) -> Standing {
    let task = &snapshot.task;
    match &task.session {
        _ if task.status.is_terminal() => Standing::Ended,
        Some(current) if current.id == *session => match current.phase {
            SessionPhase::Starting => Standing::Starting,
            SessionPhase::Live => Standing::Live,
            SessionPhase::Stopping => {
                Standing::Stopping(current.stopping.as_ref().map_or_else(String::new, |s| s.detail.clone()))
            }
            SessionPhase::Over => Standing::Over,
        },
        Some(_) | None => Standing::Foreign,
    }
}

fn cancel_asked(snapshot: &Snapshot) -> Option<&str> {
    snapshot.signals.iter().find_map(|s| match &s.kind {
        SignalKind::Cancel { by } => Some(by.as_str()),
        SignalKind::UploadsConfirmed
        | SignalKind::SessionRegistered { .. }
        | SignalKind::SessionResult { .. }
        | SignalKind::SessionExited { .. }
        | SignalKind::Nudge { .. }
        | SignalKind::ApprovalRequested { .. }
        | SignalKind::ApprovalDecided { .. } => None,
    })
}

fn is_for_session(snapshot: &Snapshot, kind: &SignalKind) -> bool {
    match kind {
        SignalKind::Nudge { .. } => true,
        // Not before the task runs again: until then the answer is the platform's to take in.
        SignalKind::ApprovalDecided { request, .. } => !is_asked(snapshot, request),
        SignalKind::Cancel { .. }
        | SignalKind::UploadsConfirmed
        | SignalKind::SessionRegistered { .. }
        | SignalKind::SessionResult { .. }
        | SignalKind::SessionExited { .. }
        | SignalKind::ApprovalRequested { .. } => false,
    }
}

/// Whether the platform has yet to take in the question or its answer.
fn is_asked(snapshot: &Snapshot, request: &str) -> bool {
    let asks = |s: &Signal| matches!(&s.kind, SignalKind::ApprovalRequested { gate } if gate.request == request);
    snapshot.task.awaiting.as_ref().is_some_and(|gate| gate.request == request) || snapshot.signals.iter().any(asks)
}

fn id_of(what: &str, session: &SessionId) -> Result<SignalId, LinkError> {
    signal_id(&[what, session.as_str()])
        .ok_or_else(|| LinkError::new(LinkErrorKind::Invalid, "signal", "the session's name is too long"))
}

fn refused(op: &'static str, message: impl fmt::Display) -> LinkError {
    LinkError::new(LinkErrorKind::Refused, op, message.to_string())
}

fn from_store(op: &'static str, error: StoreError) -> LinkError {
    let kind = match error.kind() {
        // `Incompatible` is for this process alone: another worker's, once it is upgraded, may hear the session.
        StoreErrorKind::Corrupt | StoreErrorKind::Invalid => LinkErrorKind::Invalid,
        _ => LinkErrorKind::Unavailable,
    };
    LinkError::new(kind, op, error.to_string()).with_source(error)
}
