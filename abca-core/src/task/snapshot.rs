//! What a decision is made from, and what it is made of: frozen data on both sides.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Failure, Gate, GateDecision, Prepared, SessionReport, Task, Transition};
use crate::compute::SessionView;
use crate::event::NewEvent;
use crate::id::{EffectKey, SessionId, SignalId, TaskId};
use crate::time::{Millis, Timestamp};

/// What a slot counts against, e.g. `user:ann`, `repo:acme/x`, `system`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotScope(pub String);

impl fmt::Debug for SlotScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SlotScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A slot that an admitted task holds, and how many may be held in its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLimit {
    /// The scope.
    pub scope: SlotScope,
    /// Most holders. Lowering it drains; it never kills.
    pub cap: u32,
    /// Deny while an earlier accepted task that needs this scope still waits.
    pub fifo: bool,
}

/// What a commit does with slots.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotChange {
    /// Nothing.
    #[default]
    Keep,
    /// Take all of them or none; already held ones count as taken.
    Acquire(Vec<SlotLimit>),
    /// Give back whatever is held.
    Release,
}

/// An input from outside, in the task's inbox until a commit consumes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// De-duplicates within the task.
    pub id: SignalId,
    /// When it arrived.
    pub at: Timestamp,
    /// What it says.
    pub kind: SignalKind,
}

/// What a signal says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum SignalKind {
    /// Stop, for good.
    Cancel {
        /// Who asked.
        by: String,
    },
    /// Attachments are there.
    UploadsConfirmed,
    /// A session's first word.
    SessionRegistered {
        /// Which.
        session: SessionId,
    },
    /// A session's last word.
    SessionResult {
        /// Which.
        session: SessionId,
        /// What it reports.
        report: Box<SessionReport>,
    },
    /// Somebody saw the session end; a reason to look, not a fact by itself.
    SessionExited {
        /// Which.
        session: SessionId,
    },
    /// A word to the running agent; delivered to the session, not consumed by `decide` but by the log's record that it
    /// was heard.
    Nudge {
        /// The text, 1 to 2 000 characters.
        message: String,
    },
    /// The session waits for a human.
    ApprovalRequested {
        /// What is asked.
        gate: Box<Gate>,
    },
    /// A human answered, or nobody did in time; delivered to the session once the task runs again, see [`Gate`].
    ApprovalDecided {
        /// The gate's name.
        request: String,
        /// The answer.
        decision: GateDecision,
    },
}

/// Something to do to the world, recorded in the commit that decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// A function of task, attempt and step.
    pub key: EffectKey,
    /// What to do.
    pub kind: EffectKind,
}

/// Kinds of effect. Each is safe to repeat under its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum EffectKind {
    /// Start a session.
    StartSession {
        /// Which.
        session: SessionId,
        /// The attempt.
        attempt: u32,
    },
    /// Stop a session and everything it started; absorbing, leaves a tombstone.
    StopSession {
        /// Which.
        session: SessionId,
        /// What it gets to save its work before it is killed.
        grace_ms: Millis,
    },
}

/// An effect that is owed: recorded, not yet settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwedEffect {
    /// The effect.
    pub effect: Effect,
    /// When it was decided.
    pub since: Timestamp,
}

/// What a driver found out for this decision; gone when the driver is, and then found out again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Observation {
    /// The store had no free slot in this scope.
    SlotDenied(SlotScope),
    /// Preparation succeeded.
    Prepared(Box<Prepared>),
    /// Preparation failed; `retryable` when the same may succeed later.
    PrepareFailed {
        /// Why.
        failure: Failure,
        /// Whether the same may succeed later.
        retryable: bool,
    },
    /// What guards said while it was prepared, as events: told with what came of the preparation.
    Guarded(Vec<NewEvent>),
    /// A start was carried out, or found carried out.
    Started(SessionId),
    /// A start failed.
    StartFailed {
        /// Which.
        session: SessionId,
        /// Why.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The session's process tree is gone and cannot come back.
    Stopped(SessionId),
    /// A stop failed; it stays owed.
    StopFailed {
        /// Which.
        session: SessionId,
        /// Why.
        message: String,
    },
    /// What the backend says of a session.
    Seen {
        /// Which.
        session: SessionId,
        /// What it says.
        view: SessionView,
    },
    /// The backend could not be asked.
    Unseen {
        /// Which.
        session: SessionId,
        /// Why.
        message: String,
    },
    /// What log and forge show of the work of a session that is over.
    Delivered {
        /// Which.
        session: SessionId,
        /// What they show.
        delivery: Delivery,
    },
}

/// What the session log and the forge show of a task's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Delivery {
    /// The pull request that a session of this task opened as its last step, and all that its session would have reported,
    /// as far as its log tells.
    Proposed(Box<SessionReport>),
    /// Commits on the task's branch, and no pull request.
    Pushed {
        /// The branch.
        branch: String,
        /// The commit at its head.
        sha: String,
    },
    /// Nothing.
    Nothing,
    /// It cannot be found out now, and may be later.
    NoAnswer {
        /// Why.
        message: String,
    },
    /// There is nobody to ask.
    Unknowable,
}

/// A fact that a decision needs and that changes nothing to find out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Query {
    /// Pre-flight checks, then assemble the context: [`Observation::Prepared`] or [`Observation::PrepareFailed`].
    Prepare,
    /// Ask the backend about a session: [`Observation::Seen`] or [`Observation::Unseen`].
    Observe(SessionId),
    /// Ask log and forge whether a session that is over has delivered its work: [`Observation::Delivered`].
    Delivered(SessionId),
}

/// Everything that bears on a task, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The record.
    pub task: Task,
    /// Grows with every commit and every signal; guards a commit.
    pub revision: u64,
    /// Grows with every claim; fences late words of an expired lease.
    pub epoch: u64,
    /// Scopes in which the task holds a slot.
    pub held: Vec<SlotScope>,
    /// The inbox, oldest first.
    pub signals: Vec<Signal>,
    /// Effects decided and not settled, oldest first.
    pub owed: Vec<OwedEffect>,
    /// The last heartbeat of the current session.
    pub heartbeat_at: Option<Timestamp>,
}

/// What to do next. Data only: a driver carries it out.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a decision does nothing until a driver applies it"]
pub enum Decision {
    /// Nothing until then, or until a signal; `None` for a task that has ended.
    Wait {
        /// When to look again.
        until: Option<Timestamp>,
    },
    /// Find something out, add the observation, and decide again.
    Ask(Query),
    /// Carry out an owed effect, add the observation, and decide again.
    Run(Effect),
    /// Commit this, guarded by the snapshot's revision and epoch, and decide again.
    Commit(Box<Change>),
}

/// One atomic change of a task and all that goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The record after.
    pub task: Task,
    /// The row of the table, when the status moves.
    pub transition: Option<Transition>,
    /// What is told.
    pub events: Vec<NewEvent>,
    /// What is owed from now on.
    pub effects: Vec<Effect>,
    /// What is owed no more.
    pub settled: Vec<EffectKey>,
    /// What is read.
    pub consumed: Vec<SignalId>,
    /// Slots taken or given back.
    pub slots: SlotChange,
}

impl Snapshot {
    /// The task's id.
    pub const fn id(&self) -> TaskId {
        self.task.id
    }
}
