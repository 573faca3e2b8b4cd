//! The session log: what a session did, in order. Its fold is the session's state, on any machine.

use serde::{Deserialize, Serialize};

use super::Churn;
use crate::id::SessionId;
use crate::mcp::PinnedTool;
use crate::model::{ModelReply, ToolResult};
use crate::money::MicroUsd;
use crate::task::{Failure, Gate, GateDecision, Verification};
use crate::time::{Millis, Timestamp};

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Who wrote it.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub entry: LogEntry,
}

/// Steps of the pipeline in a session, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Make the two repositories and the work tree.
    CloneRepo,
    /// Build, test and lint before the agent.
    Baseline,
    /// Assemble the prompt.
    HydrateContext,
    /// The agent loop.
    RunAgent,
    /// Commit what the agent left.
    SafetyNet,
    /// Build, test and lint after the agent.
    VerifyBuild,
    /// Push and propose.
    EnsurePr,
}

impl StepName {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloneRepo => "clone_repo",
            Self::Baseline => "baseline",
            Self::HydrateContext => "hydrate_context",
            Self::RunAgent => "run_agent",
            Self::SafetyNet => "safety_net",
            Self::VerifyBuild => "verify_build",
            Self::EnsurePr => "ensure_pr",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Not needed.
    Skipped,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum LogEntry {
    /// A session took up the task, behind these walls.
    SessionStarted {
        /// The attempt.
        attempt: u32,
        /// Names of the walls that hold, e.g. `network`, `filesystem`, `processes`; `none` where there are none.
        walls: Vec<String>,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        step: StepName,
    },
    /// A step ended.
    StepEnded {
        /// Which.
        step: StepName,
        /// How.
        status: StepStatus,
        /// How long it took.
        duration_ms: Millis,
        /// What it found, for people.
        detail: String,
    },
    /// The repositories were made: what the work starts from.
    Cloned {
        /// The branch that the work is proposed to.
        base_branch: String,
        /// The commit that it had.
        base_sha: String,
        /// The task's branch.
        branch: String,
    },
    /// The tools of MCP servers, as they are for the rest of the task: what a server says later counts for nothing.
    ToolsPinned {
        /// The tools, in the order in which they are offered.
        tools: Vec<PinnedTool>,
    },
    /// The conversation begins: everything that the prompt's hash covers.
    ConversationStarted {
        /// The model, as `provider:id`.
        model: String,
        /// The system prompt.
        system: String,
        /// The first user message.
        user_prompt: String,
        /// Hash of the deterministic prompt.
        prompt_version: String,
    },
    /// The worst case of a model call is set aside; the call follows.
    ModelReserved {
        /// The turn, from 1.
        turn: u32,
        /// What was set aside.
        reserved: MicroUsd,
    },
    /// The worst case of the call after this turn's last tool is set aside before that tool runs, so that the call need
    /// not wait for a write of its own. Whoever finds this without an answer counts it as spent: the call may be out.
    ReservedAhead {
        /// The turn of the call.
        turn: u32,
        /// What was set aside.
        reserved: MicroUsd,
    },
    /// The tool takes long, so what was set aside ahead is given back: the call will reserve for itself.
    AheadReleased {
        /// The turn of the call.
        turn: u32,
    },
    /// The model answered; the reservation is settled.
    ModelReplied {
        /// The turn.
        turn: u32,
        /// The answer.
        reply: Box<ModelReply>,
        /// What it cost.
        cost: MicroUsd,
        /// How long it took.
        duration_ms: Millis,
    },
    /// The call failed for good; the reservation is released, or kept as spent when the provider may have billed it.
    ModelFailed {
        /// The turn.
        turn: u32,
        /// Why.
        message: String,
        /// What is counted as spent.
        cost: MicroUsd,
    },
    /// The policy wants a human to say whether a call may run; the task waits. Written again, under the same name, by a
    /// session that takes the question up.
    ApprovalRequested {
        /// The turn.
        turn: u32,
        /// The call's id.
        call: String,
        /// The question.
        gate: Box<Gate>,
    },
    /// Nobody had answered when the gate's time was over. The platform hears of it by this, and says what the answer is: a
    /// human may have been first.
    ApprovalExpired {
        /// The gate's name.
        request: String,
    },
    /// The answer, as the platform gave it.
    ApprovalSettled {
        /// The gate's name.
        request: String,
        /// The signal that it came in.
        signal: String,
        /// The answer.
        decision: GateDecision,
        /// How long this session waited for it.
        #[serde(default)]
        waited_ms: Millis,
    },
    /// A tool is about to run. Without a later end it is settled as interrupted, never repeated blindly.
    ToolStarted {
        /// The turn.
        turn: u32,
        /// The call's id.
        call: String,
        /// The tool.
        name: String,
    },
    /// A tool ended; the result is screened.
    ToolEnded {
        /// The turn.
        turn: u32,
        /// What the model is shown.
        result: ToolResult,
        /// How long it took.
        duration_ms: Millis,
    },
    /// A word to the model between turns: a nudge, the stuck guard, a denial.
    Injected {
        /// The signal that it came from, if one.
        signal: Option<String>,
        /// E.g. `nudge`, `stuck`.
        origin: String,
        /// The text as the model sees it.
        text: String,
    },
    /// Old tool results were taken out of the conversation to make room: all in messages before this index.
    ContextTrimmed {
        /// The first message that keeps its results.
        before: u64,
    },
    /// The work is saved at the hidden ref.
    Checkpoint {
        /// The turn that it was taken after.
        turn: u32,
        /// The commit.
        sha: String,
    },
    /// How much the work differs from what it began from, at the checkpoint before. Only where a limit asks for it.
    Churned {
        /// How much.
        churn: Churn,
    },
    /// Commands before or after the agent.
    Verified {
        /// Their results so far.
        results: Vec<Verification>,
    },
    /// The branch is about to be pushed: what a session that dies now leaves there is known for its own.
    PushIntended {
        /// The branch.
        branch: String,
        /// The commit that will be at its head.
        sha: String,
    },
    /// The branch is pushed.
    Pushed {
        /// The branch.
        branch: String,
        /// The commit at its head.
        sha: String,
    },
    /// The pull request is there.
    PullRequestOpened {
        /// Its number.
        number: u64,
        /// Where to see it.
        url: String,
    },
    /// The agent loop is over.
    AgentEnded {
        /// Why, when it is not that the agent was done.
        failure: Option<Failure>,
        /// The agent's last text, at most 2 000 characters.
        answer: String,
    },
}
