//! What the gate decided, as events of the task: the first of a kind is told, the rest are counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abca_core::event::NewEvent;
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::text::Screen;
use abca_core::time::Clock;
use abca_core::{Millis, TaskId, Timestamp};

/// Most kinds of decision (host, port, outcome) that are told one by one in the life of a session.
const KINDS: usize = 200;
/// How long at least between two counts of the same kind.
const COUNT_EVERY: Millis = Millis::secs(60);
/// The guard's name in events.
const GUARD: &str = "egress";

/// Collects decisions until the session's journal takes them along.
#[derive(Debug)]
pub struct Ledger {
    task: TaskId,
    screen: Arc<Screen>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<NewEvent>,
    kinds: BTreeMap<(String, GuardOutcome), Counted>,
    /// Decisions about hosts beyond [`KINDS`].
    beyond: Counted,
    /// Nobody takes anything along any more.
    closed: bool,
}

#[derive(Debug, Clone, Default)]
struct Counted {
    reason: String,
    more: u64,
    told: Option<Timestamp>,
}

impl Ledger {
    /// An empty one.
    pub fn new(task: TaskId, screen: Arc<Screen>, clock: Arc<dyn Clock>) -> Self {
        Self { task, screen, clock, state: Mutex::default() }
    }

    /// Notes a decision. `subject` is the host and port, `detail` what was wanted of it.
    pub fn note(&self, outcome: GuardOutcome, subject: &str, detail: &str, reason: &str) {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.closed {
            lost(&self.event(outcome, subject, detail, reason, now));
            return;
        }
        let full = state.kinds.len() >= KINDS;
        match state.kinds.get_mut(&(subject.to_owned(), outcome)) {
            Some(known) => known.more = known.more.saturating_add(1),
            None if full => state.beyond.more = state.beyond.more.saturating_add(1),
            None => {
                let event = self.event(outcome, subject, detail, reason, now);
                state.ready.push(event);
                let counted = Counted { reason: reason.to_owned(), more: 0, told: Some(now) };
                state.kinds.insert((subject.to_owned(), outcome), counted);
            }
        }
    }

    /// What is to be told by now.
    pub fn take(&self) -> Vec<NewEvent> {
        self.taken(false)
    }

    /// What is to be told at the end: every count too.
    pub fn take_all(&self) -> Vec<NewEvent> {
        self.taken(true)
    }

    /// What is to be told at the end, the last time: what is decided afterwards is told in the log of this process alone.
    pub fn close(&self) -> Vec<NewEvent> {
        self.lock().closed = true;
        self.taken(true)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn taken(&self, all: bool) -> Vec<NewEvent> {
        let now = self.clock.now();
        let mut state = self.lock();
        let mut events = std::mem::take(&mut state.ready);
        let due = |counted: &Counted| {
            counted.more > 0 && (all || counted.told.is_none_or(|told| now.since(told) >= COUNT_EVERY))
        };
        for ((subject, outcome), counted) in &mut state.kinds {
            if due(counted) {
                let times = format!("{} more times", counted.more);
                events.push(self.event(*outcome, subject, &times, &counted.reason, now));
                (counted.more, counted.told) = (0, Some(now));
            }
        }
        if due(&state.beyond) {
            let times = format!("{} more decisions", state.beyond.more);
            let reason = format!("more than {KINDS} hosts: the rest is counted");
            events.push(self.event(GuardOutcome::Observed, "other hosts", &times, &reason, now));
            (state.beyond.more, state.beyond.told) = (0, Some(now));
        }
        events
    }

    fn event(&self, outcome: GuardOutcome, subject: &str, detail: &str, reason: &str, at: Timestamp) -> NewEvent {
        let told = PolicyDecisionEvent {
            task_id: Some(self.task),
            detail: Some(detail.to_owned()),
            ..PolicyDecisionEvent::new(GuardStage::Egress, GUARD, outcome, subject, reason)
        };
        told.into_event(&self.screen, at)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a decision that came too late to be an event of the task. Screened, as events are.
pub(crate) fn lost(event: &NewEvent) {
    let word = |key: &str| event.metadata.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let (outcome, subject, reason) = (word("outcome"), word("subject"), word("reason"));
    tracing::warn!(%outcome, %subject, %reason, "an egress decision is no event of its task: the session is over");
}
