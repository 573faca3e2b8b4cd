//! The session's state: the fold of its log, the same on any machine.

use std::collections::{BTreeMap, BTreeSet};

use super::{Approvals, LogEntry, LogRecord, StepName, StepStatus};
use crate::mcp::PinnedTool;
use crate::model::{Content, Message, ModelRequest, Role, StopReason, ToolCall, Usage};
use crate::money::MicroUsd;
use crate::task::{Failure, PullRequestRef, Verification};
use crate::time::Millis;

/// What stands where a tool result was taken out to make room.
pub const TRIMMED: &str = "[this result was removed to make room; run the tool again if you need it]";
/// What stands for an answer that had no content: providers refuse empty messages.
const NO_ANSWER: &str = "(no answer)";

/// A tool call that the model made and that has no result yet.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingCall {
    /// The call.
    pub call: ToolCall,
    /// Whether the log says that it began: then it is settled, not repeated.
    pub started: bool,
}

/// How the agent loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEnd {
    /// Why, when it is not that the agent was done.
    pub failure: Option<Failure>,
    /// The agent's last text, at most 2 000 characters.
    pub answer: String,
}

/// Everything that the log says.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionState {
    /// Records folded: the next one gets this number plus one.
    pub len: u64,
    /// Steps that have ended, and how.
    pub steps: BTreeMap<StepName, StepStatus>,
    /// How long each ended step took, all attempts together.
    pub step_ms: BTreeMap<StepName, Millis>,
    /// What the work starts from: base branch and its commit.
    pub base: Option<(String, String)>,
    /// What baseline and verification found.
    pub verification: Vec<Verification>,
    /// The tools of MCP servers that the conversation has.
    pub pinned: Vec<PinnedTool>,
    /// The model, as `provider:id`; `None` until the conversation starts.
    pub model: Option<String>,
    /// Hash of the deterministic prompt.
    pub prompt_version: String,
    /// The conversation, ready to be sent. `model` and limits are set by the machine's configuration.
    pub request: ModelRequest,
    /// UTF-8 bytes in the conversation: an upper bound of its tokens, since no token is shorter than a byte.
    pub request_bytes: u64,
    /// The last turn that a call was reserved for.
    pub turn: u32,
    /// The last turn whose call was answered.
    pub answered: u32,
    /// Turns that came to their end.
    pub turns_completed: u32,
    /// Settled spending.
    pub spent: MicroUsd,
    /// Tokens.
    pub usage: Usage,
    /// Time in model calls.
    pub model_ms: Millis,
    /// Time in tools.
    pub tool_ms: Millis,
    /// Time that sessions waited for humans.
    pub approval_ms: Millis,
    /// A reservation without an answer, with its turn.
    pub reserved: Option<(u32, MicroUsd)>,
    /// What is set aside for the call after the tool that runs, with that call's turn. The call may be out already.
    pub ahead: Option<(u32, MicroUsd)>,
    /// Calls of the last reply without a result, in order.
    pub pending: Vec<PendingCall>,
    /// Whether the last turn's reply has been dealt with and the next call may follow.
    pub reply_open: bool,
    /// Empty or cut replies in a row.
    pub unproductive: u32,
    /// Signals that were put into the conversation.
    pub heard: BTreeSet<String>,
    /// The last checkpoint: turn and commit.
    pub checkpoint: Option<(u32, String)>,
    /// The last turn in which a tool ran that may have changed files.
    pub changed_turn: u32,
    /// Commits that were about to be pushed as the branch's head, in order: each may be there.
    pub push_intended: Vec<String>,
    /// The pushed branch and its head.
    pub pushed: Option<(String, String)>,
    /// The pull request.
    pub pull_request: Option<PullRequestRef>,
    /// What humans were asked and what they answered.
    pub approvals: Approvals,
    /// The end of the agent loop.
    pub ended: Option<AgentEnd>,
}

impl Default for SessionState {
    fn default() -> Self {
        Self {
            len: 0,
            steps: BTreeMap::new(),
            step_ms: BTreeMap::new(),
            base: None,
            verification: Vec::new(),
            pinned: Vec::new(),
            model: None,
            prompt_version: String::new(),
            request: ModelRequest {
                model: String::new(),
                system: String::new(),
                messages: Vec::new(),
                tools: Vec::new(),
                max_output_tokens: 0,
                cache: true,
            },
            request_bytes: 0,
            turn: 0,
            answered: 0,
            turns_completed: 0,
            spent: MicroUsd::ZERO,
            usage: Usage::default(),
            model_ms: Millis(0),
            tool_ms: Millis(0),
            approval_ms: Millis(0),
            reserved: None,
            ahead: None,
            pending: Vec::new(),
            reply_open: false,
            unproductive: 0,
            heard: BTreeSet::new(),
            checkpoint: None,
            changed_turn: 0,
            push_intended: Vec::new(),
            pushed: None,
            pull_request: None,
            approvals: Approvals::default(),
            ended: None,
        }
    }
}

impl SessionState {
    /// Folds a whole log.
    pub fn fold<'a>(log: impl IntoIterator<Item = &'a LogRecord>) -> Self {
        let mut state = Self::default();
        for record in log {
            state.apply(&record.entry);
        }
        state
    }

    /// Whether there may be work that is neither on the task's branch nor at its hidden ref: a tool may have changed files
    /// since the last checkpoint.
    pub fn has_unsaved_work(&self) -> bool {
        let saved = self.checkpoint.as_ref().map_or(0, |(turn, _)| *turn);
        // A call that was cut short may have changed something too.
        let cut_short = self.pending.iter().any(|p| p.started);
        let changed = if cut_short { self.turn } else { self.changed_turn };
        self.pushed.is_none() && self.pull_request.is_none() && saved < changed
    }

    /// Whether a step is over and well.
    pub fn has_done(&self, step: StepName) -> bool {
        match self.steps.get(&step) {
            Some(StepStatus::Succeeded | StepStatus::Skipped) => true,
            Some(StepStatus::Failed) | None => false,
        }
    }

    /// Folds one more entry. Total: an entry that fits nowhere changes nothing but the count.
    pub fn apply(&mut self, entry: &LogEntry) {
        self.len = self.len.saturating_add(1);
        match entry {
            LogEntry::SessionStarted { .. } | LogEntry::StepStarted { .. } => {}
            LogEntry::StepEnded { step, status, duration_ms, .. } => {
                self.steps.insert(*step, *status);
                let sum = self.step_ms.entry(*step).or_default();
                *sum = Millis(sum.0.saturating_add(duration_ms.0));
            }
            LogEntry::Cloned { base_branch, base_sha, .. } => {
                self.base = Some((base_branch.clone(), base_sha.clone()));
            }
            LogEntry::ToolsPinned { tools } => self.pinned.clone_from(tools),
            LogEntry::ConversationStarted { model, system, user_prompt, prompt_version } => {
                self.model = Some(model.clone());
                self.prompt_version.clone_from(prompt_version);
                self.request.system.clone_from(system);
                self.request.messages.clear();
                self.request_bytes = bytes(system.len());
                self.push(Role::User, Content::text(user_prompt.clone()));
            }
            LogEntry::ModelReserved { turn, reserved } => {
                self.turn = *turn;
                self.reserved = Some((*turn, *reserved));
                self.ahead = None;
            }
            LogEntry::ReservedAhead { turn, reserved } => self.ahead = Some((*turn, *reserved)),
            LogEntry::AheadReleased { .. } => self.ahead = None,
            LogEntry::ModelReplied { turn, reply, cost, duration_ms } => {
                self.turn = *turn;
                self.answered = *turn;
                self.reserved = None;
                self.spent = self.spent.plus(*cost);
                self.usage = self.usage.plus(reply.usage);
                self.model_ms = Millis(self.model_ms.0.saturating_add(duration_ms.0));
                self.pending =
                    reply.tool_calls().map(|call| PendingCall { call: call.clone(), started: false }).collect();
                self.reply_open = true;
                let cut = matches!(reply.stop, StopReason::MaxTokens | StopReason::ContextFull);
                let productive = !self.pending.is_empty() || (!cut && !reply.text().trim().is_empty());
                self.unproductive = if productive { 0 } else { self.unproductive.saturating_add(1) };
                if reply.content.is_empty() {
                    self.push(Role::Assistant, Content::text(NO_ANSWER));
                }
                for part in &reply.content {
                    self.push(Role::Assistant, part.clone());
                }
                if self.pending.is_empty() {
                    self.turns_completed = self.turns_completed.saturating_add(1);
                }
            }
            LogEntry::ModelFailed { cost, .. } => {
                self.reserved = None;
                self.ahead = None;
                self.spent = self.spent.plus(*cost);
            }
            LogEntry::ApprovalRequested { call, gate, .. } => self.approvals.ask(call, gate),
            LogEntry::ApprovalExpired { .. } | LogEntry::Churned { .. } => {}
            LogEntry::ApprovalSettled { request, signal, decision, waited_ms } => {
                self.approval_ms = Millis(self.approval_ms.0.saturating_add(waited_ms.0));
                self.heard.insert(signal.clone());
                let asked_of = self.approvals.open.as_ref().map(|open| open.call.clone());
                let call = self.pending.iter().find(|p| Some(&p.call.id) == asked_of.as_ref()).map(|p| &p.call);
                self.approvals.settle(request, decision, call);
            }
            LogEntry::ToolStarted { call, .. } => {
                self.approvals.used(call);
                if let Some(p) = self.pending.iter_mut().find(|p| p.call.id == *call) {
                    p.started = true;
                }
            }
            LogEntry::ToolEnded { turn, result, duration_ms } => {
                let Some(at) = self.pending.iter().position(|p| p.call.id == result.tool_use_id) else { return };
                let done = self.pending.remove(at);
                self.approvals.used(&done.call.id);
                if may_change_files(&done.call.name) {
                    self.changed_turn = *turn;
                }
                self.tool_ms = Millis(self.tool_ms.0.saturating_add(duration_ms.0));
                self.push_result(Content::ToolResult(result.clone()));
                if self.pending.is_empty() {
                    self.turns_completed = self.turns_completed.saturating_add(1);
                }
            }
            LogEntry::Injected { signal, text, .. } => {
                if let Some(signal) = signal {
                    self.heard.insert(signal.clone());
                }
                self.push(Role::User, Content::text(text.clone()));
            }
            LogEntry::ContextTrimmed { before } => self.trim(*before),
            LogEntry::Checkpoint { turn, sha } => self.checkpoint = Some((*turn, sha.clone())),
            LogEntry::Verified { results } => self.verification.clone_from(results),
            LogEntry::PushIntended { sha, .. } => self.push_intended.push(sha.clone()),
            LogEntry::Pushed { branch, sha } => self.pushed = Some((branch.clone(), sha.clone())),
            LogEntry::PullRequestOpened { number, url } => {
                self.pull_request = Some(PullRequestRef { number: *number, url: url.clone() });
            }
            LogEntry::AgentEnded { failure, answer } => {
                self.ended = Some(AgentEnd { failure: failure.clone(), answer: answer.clone() });
            }
        }
    }

    /// Adds a part to the last message of that role, or begins one: roles alternate by construction.
    fn push(&mut self, role: Role, part: Content) {
        self.request_bytes = self.request_bytes.saturating_add(content_bytes(&part));
        match self.request.messages.last_mut() {
            Some(last) if last.role == role => last.content.push(part),
            Some(_) | None => self.request.messages.push(Message { role, content: vec![part] }),
        }
    }

    /// Adds a tool's result. Providers want the results of a turn before any other word of the user, and something may have
    /// been said already: a session that is moved tells so before it settles what was running.
    fn push_result(&mut self, part: Content) {
        match self.request.messages.last_mut() {
            Some(last) if last.role == Role::User => {
                self.request_bytes = self.request_bytes.saturating_add(content_bytes(&part));
                let results = last.content.iter().take_while(|c| matches!(c, Content::ToolResult(_))).count();
                last.content.insert(results, part);
            }
            Some(_) | None => self.push(Role::User, part),
        }
    }

    fn trim(&mut self, before: u64) {
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        for message in self.request.messages.iter_mut().take(before) {
            for part in &mut message.content {
                if let Content::ToolResult(result) = part {
                    result.content = vec![Content::text(TRIMMED)];
                }
            }
        }
        self.request_bytes = bytes(self.request.system.len());
        for message in &self.request.messages {
            for part in &message.content {
                self.request_bytes = self.request_bytes.saturating_add(content_bytes(part));
            }
        }
    }
}

/// Tools that can change nothing.
pub(super) fn may_change_files(tool: &str) -> bool {
    !matches!(tool, "Read" | "Glob" | "Grep" | "TodoWrite" | "BashOutput")
}

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The most that a picture costs, in tokens, on any provider's rule.
const IMAGE_BOUND: u64 = 8_000;
/// Framing of a part: role, ids, types.
const PART_BOUND: u64 = 64;

fn content_bytes(part: &Content) -> u64 {
    let inner = match part {
        Content::Text { text } => bytes(text.len()),
        Content::Image { .. } => IMAGE_BOUND,
        Content::Thinking { text, signature } => {
            bytes(text.len()).saturating_add(signature.as_ref().map_or(0, |s| bytes(s.len())))
        }
        Content::ToolUse(call) => bytes(call.name.len()).saturating_add(match &call.input {
            crate::model::ToolInput::Json(v) => bytes(v.to_string().len()),
            crate::model::ToolInput::Invalid { raw, .. } => bytes(raw.len()),
        }),
        Content::ToolResult(result) => result.content.iter().fold(0, |n: u64, c| n.saturating_add(content_bytes(c))),
    };
    inner.saturating_add(PART_BOUND)
}
