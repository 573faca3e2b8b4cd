//! The session machine: the agent loop without I/O. Inputs are what happened, outputs are what to do.
//!
//! Its state is [`SessionState`], the fold of the log. Every output that touches the world is preceded by the log
//! entries that record the intent; a driver appends those durably before it acts. So a session that dies is taken up
//! elsewhere from the log alone: [`Machine::resume`] then settles what was open, and repeats no finished tool call.
//!
//! One output is let off: [`Output::CallModel`] that is `covered`. Its worst case was set aside before the tool ran, so
//! it may go out while the tool's result is being written; see `docs/design/0005-one-write-a-turn.md`.

mod calls;
mod gates;

pub use gates::{CallVerdict, GateDraft};

use super::{AgentEnd, LogEntry, SessionState};
use crate::model::{
    Content, ModelCapabilities, ModelErrorKind, ModelReply, ModelRequest, StopReason, ToolCall, ToolResult, ToolSpec,
};
use crate::money::MicroUsd;
use crate::session::stuck::{StuckGuard, StuckVerdict};
use crate::task::{Failure, FailureReason, Gate, GateDecision};
use crate::time::Millis;

/// Empty or cut answers in a row before the session gives up.
const MAX_UNPRODUCTIVE: u32 = 3;
/// Answers that broke off in a row before the session gives up.
const MAX_BROKEN_ANSWERS: u32 = 3;
/// Turns before the cap at which the agent is told to come to an end.
const TURNS_WARNING: u32 = 3;
/// Longest answer kept of the agent's last text (`behaviour.md` 2.2).
const ANSWER_CHARS: usize = 2_000;

/// What bounds a session.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// The model, as `provider:id`.
    pub model: String,
    /// The provider's own id for it.
    pub model_id: String,
    /// What it can do and costs.
    pub capabilities: ModelCapabilities,
    /// Tools to offer.
    pub tools: Vec<ToolSpec>,
    /// Most turns.
    pub max_turns: u32,
    /// Most money; `None` is no limit.
    pub max_budget: Option<MicroUsd>,
    /// Most tokens of one answer.
    pub max_output_tokens: u32,
    /// Most questions to humans; after that, what would be asked is denied.
    pub max_gates: u32,
}

/// The prompt of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The system prompt.
    pub system: String,
    /// The first user message.
    pub user: String,
    /// Hash of the deterministic prompt.
    pub version: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Go: start the conversation, or take it up where the log ends.
    Begin(Box<Prompt>),
    /// The answer to [`Output::CountTokens`].
    Counted {
        /// Input tokens of the next call; `u64::MAX` when nobody could count.
        input_tokens: u64,
    },
    /// The model answered.
    Replied {
        /// The answer.
        reply: Box<ModelReply>,
        /// How long it took.
        duration_ms: Millis,
    },
    /// The model did not answer, after all retries.
    ModelFailed {
        /// The class of the last error.
        kind: ModelErrorKind,
        /// The last error.
        message: String,
        /// Whether the provider may have billed the call: then the reservation counts as spent.
        billed: bool,
    },
    /// What guards say of the call that [`Output::Judge`] named.
    Judged(CallVerdict),
    /// The platform gave a gate's answer.
    Decided {
        /// The gate's name.
        request: String,
        /// The signal it came in.
        signal: String,
        /// The answer.
        decision: GateDecision,
        /// How long it was waited for.
        waited_ms: Millis,
    },
    /// A tool ended; the result is screened already.
    ToolDone {
        /// The result.
        result: ToolResult,
        /// How long it took.
        duration_ms: Millis,
    },
    /// The tool has not ended soon: what was set aside for the call after it may be given back.
    ToolLasts,
    /// The call that [`Output::CallModel`] asked for has not been made, and words came in: put them in first.
    Reconsider,
    /// A word from a human to the running agent.
    Nudge {
        /// The signal it came in.
        signal: String,
        /// The text as the model will see it.
        text: String,
    },
    /// Stop at once.
    Stop,
}

/// What to do. Entries to log come before what they record the intent of.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Append this.
    Log(LogEntry),
    /// Ask the provider how many input tokens the next call has; answer with [`Input::Counted`].
    CountTokens,
    /// Call the model with [`Machine::request`].
    CallModel {
        /// The log holds a reservation for this call already. The entries before it may be appended while the call is
        /// under way, and must be before, or together with, what its answer brings.
        covered: bool,
    },
    /// Ask the guards whether this call may run; answer with [`Input::Judged`]. Changes nothing.
    Judge(ToolCall),
    /// Wait for a human; answer with [`Input::Decided`].
    AwaitApproval(Box<Gate>),
    /// Run this tool; answer with [`Input::ToolDone`].
    RunTool(ToolCall),
    /// A good moment to save the work; may run beside the next model call.
    Checkpoint {
        /// The last turn whose work is there to be saved.
        turn: u32,
    },
    /// The loop is over.
    End(AgentEnd),
}

/// Where the loop stands between inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not begun.
    New,
    /// A token count is awaited.
    Counting,
    /// The model's answer is awaited.
    Model,
    /// What guards say of a call is awaited.
    Judging,
    /// A human's answer is awaited.
    Gate,
    /// A tool's result is awaited.
    Tool,
    /// Over.
    Ended,
}

/// The agent loop. Deterministic; every method is total.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    state: SessionState,
    phase: Phase,
    nudges: Vec<(String, String)>,
    stuck: StuckGuard,
    steers: Vec<String>,
    tool_bytes: u64,
    trimmed_for_length: bool,
    broken_answers: u32,
}

impl Machine {
    /// A machine over what the log says so far; an empty log is a new session.
    pub fn resume(config: MachineConfig, mut state: SessionState) -> Self {
        state.request.model.clone_from(&config.model_id);
        state.request.tools.clone_from(&config.tools);
        let tool_bytes = config.tools.iter().fold(0u64, |n, t| {
            let len = t.name.len().saturating_add(t.description.len()).saturating_add(t.input_schema.to_string().len());
            n.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
        });
        let mut stuck = StuckGuard::default();
        rebuild_stuck(&mut stuck, &state.request);
        Self {
            config,
            state,
            phase: Phase::New,
            nudges: Vec::new(),
            stuck,
            steers: Vec::new(),
            tool_bytes,
            trimmed_for_length: false,
            broken_answers: 0,
        }
    }

    /// The state as of the last output.
    pub const fn state(&self) -> &SessionState {
        &self.state
    }

    /// The next call of the model; valid after [`Output::CallModel`] and [`Output::CountTokens`].
    pub const fn request(&self) -> &ModelRequest {
        &self.state.request
    }

    /// Whether there are words that no call has carried yet; worth an [`Input::Reconsider`] before a call is made.
    pub const fn has_unheard(&self) -> bool {
        !self.nudges.is_empty()
    }

    /// Takes in an entry that the driver logged by itself (steps, checkpoints), so that the count stays right.
    pub fn note(&mut self, entry: &LogEntry) {
        self.state.apply(entry);
    }

    /// Takes one input, answers what to do. An input that does not fit the phase does nothing.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match (input, self.phase) {
            (Input::Begin(prompt), Phase::New) => self.begin(*prompt, &mut out),
            (Input::Nudge { signal, text }, _) => {
                if !self.state.heard.contains(&signal) && !self.nudges.iter().any(|(s, _)| *s == signal) {
                    self.nudges.push((signal, text));
                }
            }
            (Input::Counted { input_tokens }, Phase::Counting) => self.reserve_counted(input_tokens, &mut out),
            (Input::Replied { reply, duration_ms }, Phase::Model) => self.replied(reply, duration_ms, &mut out),
            (Input::ModelFailed { kind, message, billed }, Phase::Model) => {
                self.model_failed(kind, &message, billed, &mut out);
            }
            (Input::Judged(verdict), Phase::Judging) => self.judged(verdict, &mut out),
            (Input::Decided { request, signal, decision, waited_ms }, Phase::Gate) => {
                self.decided(LogEntry::ApprovalSettled { request, signal, decision, waited_ms }, &mut out);
            }
            (Input::ToolDone { result, duration_ms }, Phase::Tool) => self.tool_done(result, duration_ms, &mut out),
            (Input::ToolLasts, Phase::Tool) => {
                if let Some((turn, _)) = self.state.ahead {
                    self.log(LogEntry::AheadReleased { turn }, &mut out);
                }
            }
            (Input::Reconsider, Phase::Model) => self.reconsider(&mut out),
            (Input::Stop, Phase::New | Phase::Counting | Phase::Model | Phase::Judging | Phase::Gate | Phase::Tool) => {
                self.phase = Phase::Ended;
                out.push(Output::End(AgentEnd { failure: None, answer: String::new() }));
            }
            (
                Input::Begin(_)
                | Input::Counted { .. }
                | Input::Replied { .. }
                | Input::ModelFailed { .. }
                | Input::Judged(_)
                | Input::Decided { .. }
                | Input::ToolDone { .. }
                | Input::ToolLasts
                | Input::Reconsider
                | Input::Stop,
                _,
            ) => {}
        }
        out
    }

    fn log(&mut self, entry: LogEntry, out: &mut Vec<Output>) {
        self.state.apply(&entry);
        out.push(Output::Log(entry));
    }

    fn begin(&mut self, prompt: Prompt, out: &mut Vec<Output>) {
        if let Some(end) = self.state.ended.clone() {
            self.phase = Phase::Ended;
            return out.push(Output::End(end));
        }
        if self.config.max_budget.is_some() && self.config.capabilities.price.is_none() {
            let text = format!(
                "no price is known for `{}`, so a budget cannot be kept: set a price, or no budget",
                self.config.model
            );
            return self.end(Some(Failure::new(FailureReason::Budget, text)), String::new(), out);
        }
        if self.state.model.is_none() {
            let entry = LogEntry::ConversationStarted {
                model: self.config.model.clone(),
                system: prompt.system,
                user_prompt: prompt.user,
                prompt_version: prompt.version,
            };
            self.log(entry, out);
            return self.next_call(out);
        }
        if let Some((turn, reserved)) = self.state.reserved {
            // The session died during this call: nobody knows whether it was billed, so it counts.
            let message = "the session ended while the call was under way".to_owned();
            self.log(LogEntry::ModelFailed { turn, message, cost: reserved }, out);
        } else if let Some((turn, reserved)) = self.state.ahead {
            // It died while a tool ran, or in the call after it, before the tool's result was written.
            let message = "the session ended when the call may have been under way".to_owned();
            self.log(LogEntry::ModelFailed { turn, message, cost: reserved }, out);
        }
        // What was called for and never answered is no turn of the agent's.
        self.state.turn = self.state.answered;
        if self.state.reply_open {
            return self.go_on(out);
        }
        self.next_call(out)
    }

    // -- a reply ---------------------------------------------------------------------------------------------------

    fn replied(&mut self, reply: Box<ModelReply>, duration_ms: Millis, out: &mut Vec<Output>) {
        let turn = self.state.turn;
        let cost = self.config.capabilities.price.map_or(MicroUsd::ZERO, |p| p.of(reply.usage));
        self.trimmed_for_length = false;
        self.broken_answers = 0;
        self.log(LogEntry::ModelReplied { turn, reply: reply.clone(), cost, duration_ms }, out);
        let text = reply.text();
        if reply.stop == StopReason::Refusal {
            let said = if text.trim().is_empty() { "without a word".to_owned() } else { clip(&text, 500) };
            let failure = Failure::new(FailureReason::Refusal, format!("the model refused: {said}"));
            return self.end(Some(failure), text, out);
        }
        if !self.state.pending.is_empty() {
            return self.go_on(out);
        }
        match reply.stop {
            StopReason::MaxTokens | StopReason::ContextFull => {
                self.steers.push(
                    "Your answer was cut off at its length limit. Go on from where you stopped, in smaller steps."
                        .to_owned(),
                );
                self.unfinished(out);
            }
            StopReason::EndTurn
            | StopReason::ToolUse
            | StopReason::StopSequence
            | StopReason::Other(_)
            | StopReason::Refusal => {
                if text.trim().is_empty() {
                    self.steers.push("You answered with neither text nor a tool call. Go on with the task, or say that you are done.".to_owned());
                    self.unfinished(out);
                } else if self.nudges.is_empty() {
                    self.end(None, text, out);
                } else {
                    // Done, but for a word that the agent has not heard.
                    self.go_on(out);
                }
            }
        }
    }

    fn unfinished(&mut self, out: &mut Vec<Output>) {
        if self.state.unproductive >= MAX_UNPRODUCTIVE {
            let text = format!("the model gave {MAX_UNPRODUCTIVE} empty or cut-off answers in a row");
            return self.end(Some(Failure::new(FailureReason::Model, text)), String::new(), out);
        }
        self.go_on(out);
    }

    /// After a reply: the next tool, or, when all are answered, the words for the model and the next call.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        let turn = self.state.turn;
        while let Some(next) = self.state.pending.first().cloned() {
            if next.started {
                // It began before the session died. Whether it took effect is unknown: say so, do not repeat it.
                let result = ToolResult {
                    tool_use_id: next.call.id.clone(),
                    content: vec![Content::text(
                        "interrupted: the session ended while this call was running. It may or may not have taken effect; \
                         check before you repeat it.",
                    )],
                    is_error: true,
                };
                self.log(LogEntry::ToolEnded { turn, result, duration_ms: Millis(0) }, out);
                continue;
            }
            self.phase = Phase::Judging;
            out.push(Output::Judge(next.call));
            return;
        }
        if self.state.changed_turn == turn && turn > 0 {
            out.push(Output::Checkpoint { turn });
        }
        for text in std::mem::take(&mut self.steers) {
            self.log(LogEntry::Injected { signal: None, origin: "guard".to_owned(), text }, out);
        }
        self.say_nudges(out);
        let left = self.config.max_turns.saturating_sub(turn);
        if left == TURNS_WARNING && self.config.max_turns > TURNS_WARNING.saturating_mul(2) {
            let text = format!("{left} turns are left. Finish what you have, make sure that it builds, and commit it.");
            self.log(LogEntry::Injected { signal: None, origin: "turns".to_owned(), text }, out);
        }
        // A conversation ends with the user; a resumed one may end with an answer that was complete.
        if self.state.request.messages.last().is_none_or(|m| m.role == crate::model::Role::Assistant) {
            let text = self.state.request.messages.last().map(message_text).unwrap_or_default();
            return self.end(None, text, out);
        }
        self.next_call(out);
    }

    fn say_nudges(&mut self, out: &mut Vec<Output>) {
        for (signal, text) in std::mem::take(&mut self.nudges) {
            self.log(LogEntry::Injected { signal: Some(signal), origin: "nudge".to_owned(), text }, out);
        }
    }

    /// Words came after the call was reserved and before it was made: it is reserved anew with them.
    fn reconsider(&mut self, out: &mut Vec<Output>) {
        self.say_nudges(out);
        self.state.turn = self.state.answered;
        self.next_call(out);
    }

    fn tool_done(&mut self, result: ToolResult, duration_ms: Millis, out: &mut Vec<Output>) {
        let Some(pending) = self.state.pending.iter().find(|p| p.call.id == result.tool_use_id).cloned() else {
            return;
        };
        let verdict = self.stuck.observe(&pending.call, &result);
        let turn = self.state.turn;
        self.log(LogEntry::ToolEnded { turn, result, duration_ms }, out);
        match verdict {
            Some(StuckVerdict::Steer(text)) => self.steers.push(text),
            Some(StuckVerdict::Stuck(text)) => {
                return self.end(
                    Some(Failure::new(FailureReason::MaxTurns, format!("the agent is stuck: {text}"))),
                    String::new(),
                    out,
                );
            }
            None => {}
        }
        self.go_on(out);
    }

    fn model_failed(&mut self, kind: ModelErrorKind, message: &str, billed: bool, out: &mut Vec<Output>) {
        let turn = self.state.turn;
        let reserved = self.state.reserved.map_or(MicroUsd::ZERO, |(_, r)| r);
        let cost = if billed { reserved } else { MicroUsd::ZERO };
        self.log(LogEntry::ModelFailed { turn, message: message.to_owned(), cost }, out);
        if kind == ModelErrorKind::ContextTooLong && !self.trimmed_for_length && self.trim(out) {
            self.trimmed_for_length = true;
            // The same turn again: the failed call did not happen.
            self.state.turn = self.state.answered;
            return self.next_call(out);
        }
        let passing = match kind {
            ModelErrorKind::Network
            | ModelErrorKind::TimedOut
            | ModelErrorKind::Malformed
            | ModelErrorKind::Overloaded => true,
            ModelErrorKind::Throttled
            | ModelErrorKind::ContextTooLong
            | ModelErrorKind::BadRequest
            | ModelErrorKind::Access
            | ModelErrorKind::ReplayDeparted
            | ModelErrorKind::Config => false,
        };
        // An answer that broke off may have been billed: another call needs another reservation.
        if billed && passing && self.broken_answers < MAX_BROKEN_ANSWERS {
            self.broken_answers = self.broken_answers.saturating_add(1);
            self.state.turn = self.state.answered;
            return self.next_call(out);
        }
        let failure = Failure::new(FailureReason::Model, format!("the model could not be called: {message}"));
        self.end(Some(failure), String::new(), out);
    }

    fn end(&mut self, failure: Option<Failure>, answer: String, out: &mut Vec<Output>) {
        self.phase = Phase::Ended;
        let answer = clip(&answer, ANSWER_CHARS);
        self.log(LogEntry::AgentEnded { failure: failure.clone(), answer: answer.clone() }, out);
        out.push(Output::End(AgentEnd { failure, answer }));
    }
}

fn clip(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn message_text(message: &crate::model::Message) -> String {
    let mut out = String::new();
    for part in &message.content {
        if let Content::Text { text } = part {
            out.push_str(text);
        }
    }
    out
}

/// The guard's memory is a function of the conversation.
fn rebuild_stuck(guard: &mut StuckGuard, request: &ModelRequest) {
    let mut calls: std::collections::BTreeMap<&str, &ToolCall> = std::collections::BTreeMap::new();
    for message in &request.messages {
        for part in &message.content {
            match part {
                Content::ToolUse(call) => {
                    calls.insert(&call.id, call);
                }
                Content::ToolResult(result) => {
                    if let Some(call) = calls.get(result.tool_use_id.as_str()) {
                        let _already_acted_on = guard.observe(call, result);
                    }
                }
                Content::Text { .. } | Content::Image { .. } | Content::Thinking { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
