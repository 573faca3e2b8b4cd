//! The journal: what a session writes to its log, and what it hears back with every word.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use abca_core::event::NewEvent;
use abca_core::id::{SessionId, SignalId, TaskId};
use abca_core::link::{AppendLog, LinkError, LinkErrorKind, LinkReply, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::task::{GateDecision, SessionReport, Signal, SignalKind};
use abca_core::time::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::egress::Ledger;

/// Why a session ends without a report of its own making.
#[derive(Debug)]
pub(crate) enum Abort {
    /// The platform does not expect this session any more: say nothing further.
    Refused(String),
    /// The platform cannot be reached.
    Link(LinkError),
}

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the platform refuses this session: {why}"),
            Self::Link(error) => write!(f, "the platform cannot be reached: {error}"),
        }
    }
}

impl std::error::Error for Abort {}

impl From<LinkError> for Abort {
    fn from(error: LinkError) -> Self {
        match error.kind() {
            LinkErrorKind::Refused | LinkErrorKind::Access | LinkErrorKind::Conflict => {
                Self::Refused(error.to_string())
            }
            _ => Self::Link(error),
        }
    }
}

/// Words for the agent that were heard.
#[derive(Debug, Default)]
struct Heard {
    nudges: Vec<(String, String)>,
    /// Answers to gates, as `(gate, signal id, answer)`.
    decisions: Vec<(String, String, GateDecision)>,
}

/// The ears of a session: shared between its journal, its heartbeat and its loop.
#[derive(Debug, Clone)]
pub(crate) struct Ears {
    heard: Arc<Mutex<Heard>>,
    news: Arc<Notify>,
    stop: CancellationToken,
}

impl Ears {
    /// Ears that also hear a stop from outside, e.g. SIGTERM.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { heard: Arc::default(), news: Arc::default(), stop }
    }

    /// Ends when the session is to stop.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Takes in what the platform answered.
    pub(crate) fn hear(&self, reply: LinkReply) {
        let mut heard = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for signal in reply.signals {
            if let SignalKind::ApprovalDecided { request, decision } = &signal.kind
                && !heard.decisions.iter().any(|(_, id, _)| id == signal.id.as_str())
            {
                heard.decisions.push((request.clone(), signal.id.as_str().to_owned(), decision.clone()));
                self.news.notify_waiters();
            }
            if let Some(nudge) = nudge_text(&signal)
                && !heard.nudges.iter().any(|(id, _)| id == signal.id.as_str())
            {
                heard.nudges.push((signal.id.as_str().to_owned(), nudge));
            }
        }
        if let Some(why) = reply.stop {
            tracing::info!(%why, "the platform wants this session to stop");
            self.stop.cancel();
        }
    }

    /// Waits for the answer to a gate: its signal's id and what it says. Cancel-safe.
    pub(crate) async fn decided(&self, request: &str) -> (String, GateDecision) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Before the look, so that nothing comes in between.
            news.as_mut().enable();
            {
                let heard = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some((_, id, decision)) = heard.decisions.iter().find(|(of, _, _)| of == request) {
                    return (id.clone(), decision.clone());
                }
            }
            news.await;
        }
    }

    /// Words for the agent so far, as `(signal id, text)`; the machine sorts out repeats.
    pub(crate) fn nudges(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).nudges.clone()
    }
}

/// A nudge as the model sees it (`behaviour.md` 4.10).
fn nudge_text(signal: &Signal) -> Option<String> {
    match &signal.kind {
        SignalKind::Nudge { message } => {
            let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Some(format!(
                "<user_nudge timestamp=\"{}\" nudge_id=\"{}\">\n{escaped}\n</user_nudge>",
                signal.at,
                signal.id.as_str().replace('"', "")
            ))
        }
        SignalKind::Cancel { .. }
        | SignalKind::UploadsConfirmed
        | SignalKind::SessionRegistered { .. }
        | SignalKind::SessionResult { .. }
        | SignalKind::SessionExited { .. }
        | SignalKind::ApprovalRequested { .. }
        | SignalKind::ApprovalDecided { .. } => None,
    }
}

/// Appends to the log, in order, and hears what comes back.
///
/// What is kept is written with the next flush, in one append. It is flushed before whatever must not happen without it,
/// before whatever takes time (people follow the log), and with the report.
#[derive(Debug)]
pub(crate) struct Journal {
    link: Arc<dyn SessionLink>,
    clock: Arc<dyn Clock>,
    task: TaskId,
    session: SessionId,
    len: u64,
    records: Vec<LogRecord>,
    events: Vec<NewEvent>,
    ears: Ears,
    /// Where the egress gate notes what it decides.
    egress: Option<Arc<Ledger>>,
}

impl Journal {
    pub(crate) fn new(
        link: Arc<dyn SessionLink>,
        clock: Arc<dyn Clock>,
        task: TaskId,
        session: SessionId,
        len: u64,
        ears: Ears,
    ) -> Self {
        Self { link, clock, task, session, len, records: Vec::new(), events: Vec::new(), ears, egress: None }
    }

    /// Takes along, with every flush, what the egress gate has decided.
    pub(crate) fn with_egress(mut self, ledger: Arc<Ledger>) -> Self {
        self.egress = Some(ledger);
        self
    }

    pub(crate) fn now(&self) -> abca_core::Timestamp {
        self.clock.now()
    }

    pub(crate) fn ears(&self) -> &Ears {
        &self.ears
    }

    /// Keeps entries and events for the next flush.
    pub(crate) fn keep(&mut self, entries: impl IntoIterator<Item = LogEntry>, events: Vec<NewEvent>) {
        let (at, session) = (self.clock.now(), self.session.clone());
        self.records.extend(entries.into_iter().map(|entry| LogRecord { session: session.clone(), at, entry }));
        self.events.extend(events);
    }

    /// Whether everything is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.records.is_empty() && self.events.is_empty()
    }

    /// Writes what was kept, and this, durably, before it returns.
    pub(crate) async fn write(&mut self, entries: Vec<LogEntry>, events: Vec<NewEvent>) -> Result<(), Abort> {
        self.keep(entries, events);
        self.flush().await
    }

    /// Writes what was kept, durably, before it returns. Not to be dropped halfway: nobody would know what was written.
    pub(crate) async fn flush(&mut self) -> Result<(), Abort> {
        self.events.extend(self.egress.iter().flat_map(|ledger| ledger.take()));
        if self.is_flushed() {
            return Ok(());
        }
        let (records, events) = (std::mem::take(&mut self.records), std::mem::take(&mut self.events));
        let added = records.len() as u64;
        let request =
            AppendLog { task: self.task, session: self.session.clone(), expect_seq: self.len + 1, records, events };
        let reply = self.link.append(&request).await?;
        self.len += added;
        self.ears.hear(reply);
        Ok(())
    }

    /// Flushes while something else goes on; answers what that came to, if it ended first.
    pub(crate) async fn flush_beside<T>(
        &mut self,
        mut other: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Option<T>, Abort> {
        let write = self.flush();
        tokio::pin!(write);
        let mut ended = None;
        loop {
            tokio::select! {
                biased;
                written = &mut write => return written.map(|()| ended),
                done = other.as_mut(), if ended.is_none() => ended = Some(done),
            }
        }
    }

    /// Says the last word, after what was kept.
    pub(crate) async fn report(&mut self, report: &SessionReport) -> Result<(), Abort> {
        let decided: Vec<NewEvent> = self.egress.iter().flat_map(|ledger| ledger.close()).collect();
        self.events.extend(decided.iter().cloned());
        // A platform that stops the session may hear no more of the log, but it hears this.
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "the end of the log could not be written");
            decided.iter().for_each(crate::egress::lost);
        }
        Ok(self.link.report(self.task, &self.session, report).await?)
    }
}

/// What a listener that heard nothing, or could not reach the platform, waits before it asks again.
const LISTEN_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Hears at once what the platform has to say: a cancel, a nudge. Never ends by itself, except that it is refused.
pub(crate) async fn listen(link: Arc<dyn SessionLink>, task: TaskId, session: SessionId, ears: Ears) {
    let mut known: Vec<SignalId> = Vec::new();
    loop {
        let asked = tokio::time::Instant::now();
        match link.listen(task, &session, &known).await {
            Ok(reply) => {
                let news = reply.stop.is_some() || !reply.signals.is_empty();
                known.extend(
                    reply.signals.iter().map(|s| s.id.clone()).filter(|id| !known.contains(id)).collect::<Vec<_>>(),
                );
                ears.hear(reply);
                if ears.stopped().is_cancelled() {
                    return;
                }
                // A link that answers at once is not to be asked all the time; one that waited has paused already.
                if !news && asked.elapsed() < LISTEN_PAUSE {
                    tokio::time::sleep(LISTEN_PAUSE).await;
                }
            }
            Err(error) if error.is_retryable() => tokio::time::sleep(LISTEN_PAUSE).await,
            // The heartbeat and the next word find out the same, and act on it.
            Err(_) => return,
        }
    }
}

/// Says that the session lives until it is told to stop doing so; hears what there is to hear.
pub(crate) async fn heartbeat(
    link: Arc<dyn SessionLink>,
    task: TaskId,
    session: SessionId,
    ears: Ears,
    every: std::time::Duration,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match link.heartbeat(task, &session).await {
            Ok(reply) => ears.hear(reply),
            Err(error) if error.is_retryable() => tracing::debug!(%task, %error, "heartbeat was not heard"),
            Err(error) => {
                tracing::warn!(%task, %error, "the platform refuses this session: stopping");
                ears.hear(LinkReply { stop: Some(error.to_string()), signals: Vec::new() });
                return;
            }
        }
    }
}
