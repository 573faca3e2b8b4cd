//! The driver of the agent loop: carries out what the session machine says, and tells it what came of it.

use std::sync::Arc;

use abca_core::event::{EventType, NewEvent};
use abca_core::model::{
    Content, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest, ToolCall, ToolInput,
    ToolResult,
};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::session::{
    AgentEnd, Approvals, Breaker, CallVerdict, Input, LogEntry, Machine, Output, Prompt, Tripped,
};
use abca_core::task::Gate;
use abca_core::text::{Screen, clip_tail, preview, reveal, summary};
use abca_core::time::{Millis, Timestamp};
use async_trait::async_trait;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

mod reply;

use super::journal::{Abort, Journal};
use super::saving::{Saved, Saver};

/// Longest preview in an event (`behaviour.md` 9.3).
const PREVIEW_CHARS: usize = 200;

/// How often a running tool's output is told, and how much of it.
const LIVE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
const LIVE_CHARS: usize = 2_000;

/// How long a model may think before what is unwritten is written beside its call. An answer within this time, a replay's
/// or a cache's, is written together with it.
const WRITE_BESIDE_AFTER: std::time::Duration = std::time::Duration::from_millis(1);
/// After how long a tool is a long one: the call after it reserves for itself.
const LONG_TOOL: std::time::Duration = std::time::Duration::from_millis(50);

/// What a tool gave back, not screened yet.
#[derive(Debug)]
pub(crate) struct ToolRun {
    /// Text and images.
    pub(crate) content: Vec<Content>,
    /// Whether it failed.
    pub(crate) is_error: bool,
    /// What guards decided while it ran, for the task's events.
    pub(crate) told: Vec<PolicyDecisionEvent>,
}

/// What was said of a call before it ran.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Whether it may run.
    pub(crate) verdict: CallVerdict,
    /// What the model is told beside the result.
    pub(crate) warnings: Vec<String>,
    /// What guards decided, for the task's events.
    pub(crate) told: Vec<PolicyDecisionEvent>,
}

impl Judged {
    /// A no that is no guard's: nothing is told of it but the result.
    pub(crate) fn refused(why: String) -> Self {
        Self { verdict: CallVerdict::Refuse(why), warnings: Vec::new(), told: Vec::new() }
    }
}

/// What a call is judged by, beside what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoFar<'a> {
    /// What humans were asked and what they answered.
    pub(crate) approvals: &'a Approvals,
    /// What the circuit breaker says.
    pub(crate) tripped: Option<&'a Tripped>,
    /// Now.
    pub(crate) now: Timestamp,
}

/// Where tools run.
#[async_trait]
pub(crate) trait ToolHost: Send + Sync {
    /// Says whether a call may run; changes nothing.
    async fn judge(&mut self, call: &ToolCall, so_far: SoFar<'_>) -> Judged;

    /// Runs a call that was judged and not refused; the caller drops the future to stop it.
    ///
    /// What the call prints on its way goes to `live`, piece by piece and not screened yet.
    async fn run(&mut self, call: &ToolCall, live: UnboundedSender<String>) -> ToolRun;
}

/// The agent loop with everything it needs.
pub(crate) struct AgentLoop<'a> {
    pub(crate) machine: Machine,
    pub(crate) journal: &'a mut Journal,
    pub(crate) model: Arc<dyn ModelClient>,
    pub(crate) tools: &'a mut dyn ToolHost,
    pub(crate) saver: &'a mut Saver,
    pub(crate) screen: &'a Screen,
    /// The same, of known values alone.
    pub(crate) known: &'a Screen,
    pub(crate) model_name: String,
    /// Counts what the session does, all its attempts together.
    pub(crate) breaker: Breaker,
    /// What the model is to be told beside the result of the call that was judged last.
    pub(crate) warnings: Vec<String>,
}

/// How the loop came to its end.
#[derive(Debug)]
pub(crate) enum LoopEnd {
    /// By itself.
    Ended(AgentEnd),
    /// It was told to stop.
    Stopped,
}

impl AgentLoop<'_> {
    /// Runs the loop to its end. Its last entries may be kept in the journal, not written yet.
    pub(crate) async fn run(&mut self, prompt: Prompt) -> Result<LoopEnd, Abort> {
        let mut outputs = self.machine.handle(Input::Begin(Box::new(prompt)));
        loop {
            let mut input = None;
            for output in outputs {
                match output {
                    Output::Log(entry) => self.keep(entry),
                    Output::Checkpoint { turn } => self.saver.begin(turn),
                    Output::CountTokens => {
                        self.journal.flush().await?;
                        input = Some(self.count().await);
                    }
                    Output::CallModel { covered } => input = Some(self.call_model(covered).await?),
                    Output::Judge(call) => input = Some(self.judge(&call).await),
                    Output::AwaitApproval(gate) => input = Some(self.await_approval(&gate).await?),
                    Output::RunTool(call) => {
                        let event = self.tool_call_event(&call);
                        self.journal.write(Vec::new(), vec![event]).await?;
                        input = Some(self.run_tool(call).await?);
                    }
                    Output::End(end) => {
                        if self.saver.is_busy() {
                            self.journal.flush().await?;
                        }
                        self.last_checkpoints().await;
                        return Ok(LoopEnd::Ended(end));
                    }
                }
            }
            if let Some(saved) = self.saver.saved_by_now() {
                self.keep_checkpoint(saved);
            }
            self.hear();
            outputs = match input {
                Some(input) if !self.journal.ears().stopped().is_cancelled() => self.machine.handle(input),
                Some(_) | None => {
                    self.last_checkpoints().await;
                    return Ok(LoopEnd::Stopped);
                }
            };
        }
    }

    /// Keeps an entry of the machine's for the next write, with the events that tell of it.
    fn keep(&mut self, entry: LogEntry) {
        self.breaker.observe(&entry, self.journal.now());
        let mut events = Vec::new();
        self.tell(&entry, &mut events);
        self.journal.keep([entry], events);
    }

    fn keep_checkpoint(&mut self, saved: Saved) {
        for entry in checkpoint(self.journal, saved) {
            self.note(&entry);
        }
    }

    /// Tells those who count of an entry that is not the machine's own.
    fn note(&mut self, entry: &LogEntry) {
        self.breaker.observe(entry, self.journal.now());
        self.machine.note(entry);
    }

    async fn last_checkpoints(&mut self) {
        while let Some(saved) = self.saver.saved().await {
            self.keep_checkpoint(saved);
        }
    }

    /// Hands on what was heard; the machine sorts out repeats.
    fn hear(&mut self) {
        for (signal, text) in self.journal.ears().nudges() {
            self.machine.handle(Input::Nudge { signal, text });
        }
    }

    async fn count(&self) -> Input {
        let stopped = self.journal.ears().stopped().clone();
        tokio::select! {
            biased;
            () = stopped.cancelled() => Input::Stop,
            counted = self.model.count_tokens(self.machine.request()) => match counted {
                Ok(count) => Input::Counted { input_tokens: count.input_tokens },
                // Nothing is known: the machine's own bound stands.
                Err(error) => {
                    tracing::warn!(%error, "tokens could not be counted");
                    Input::Counted { input_tokens: u64::MAX }
                }
            },
        }
    }

    /// Calls the model. A covered call goes out first, and what is unwritten is written beside it, or with its answer when
    /// that comes sooner.
    async fn call_model(&mut self, covered: bool) -> Result<Input, Abort> {
        if !covered {
            self.journal.flush().await?;
            self.hear();
            if self.machine.has_unheard() {
                return Ok(Input::Reconsider);
            }
        }
        let stopped = self.journal.ears().stopped().clone();
        let begun = self.journal.now();
        let mut checkpoints = Vec::new();
        let answered = {
            let answer = whole_answer(self.model.as_ref(), self.machine.request());
            let patience = tokio::time::sleep(WRITE_BESIDE_AFTER);
            tokio::pin!(answer, patience);
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => break None,
                    answer = &mut answer => break Some(answer),
                    () = &mut patience, if !self.journal.is_flushed() && !patience.is_elapsed() => {}
                    saved = self.saver.when_saved() => checkpoints.extend(checkpoint(self.journal, saved)),
                }
                if let Some(answer) = self.journal.flush_beside(answer.as_mut()).await? {
                    break Some(answer);
                }
            }
        };
        for entry in &checkpoints {
            self.note(entry);
        }
        Ok(match answered {
            None => Input::Stop,
            Some(Ok(reply)) => {
                let (reply, findings) = reply::screened(*reply, self.screen, self.known);
                if !findings.is_empty() {
                    let what = format!("taken out of its answer: {}", summary(&findings));
                    let (stage, outcome) = (GuardStage::ModelCall, GuardOutcome::Changed);
                    let told = PolicyDecisionEvent::new(stage, "screen", outcome, &self.model_name, what);
                    self.journal.keep([], vec![told.into_event(self.screen, self.journal.now())]);
                }
                Input::Replied { reply: Box::new(reply), duration_ms: self.journal.now().since(begun) }
            }
            Some(Err((error, billed))) => {
                Input::ModelFailed { kind: error.kind(), message: self.screen.scrub(&error.to_string()).text, billed }
            }
        })
    }

    /// Whether a call may run. What guards decided is told with the next write.
    async fn judge(&mut self, call: &ToolCall) -> Input {
        let (stopped, now) = (self.journal.ears().stopped().clone(), self.journal.now());
        let tripped = self.breaker.tripped(now);
        let so_far = SoFar { approvals: &self.machine.state().approvals, tripped: tripped.as_ref(), now };
        let judged = tokio::select! {
            biased;
            () = stopped.cancelled() => return Input::Stop,
            judged = self.tools.judge(call, so_far) => judged,
        };
        let mut events: Vec<NewEvent> = judged.told.into_iter().map(|told| told.into_event(self.screen, now)).collect();
        let verdict = match judged.verdict {
            CallVerdict::Refuse(why) => {
                // It will not run, and so not be told of as one that does.
                events.insert(0, self.tool_call_event(call));
                CallVerdict::Refuse(self.screen.scrub(&why).text)
            }
            verdict @ (CallVerdict::Allow | CallVerdict::Ask(_) | CallVerdict::End(_)) => verdict,
        };
        self.journal.keep([], events);
        self.warnings = judged.warnings;
        Input::Judged(verdict)
    }

    /// Waits for a human's answer. When the time is over the platform is told so, and its word counts: a human may have been
    /// first.
    async fn await_approval(&mut self, gate: &Gate) -> Result<Input, Abort> {
        self.journal.flush().await?;
        let begun = self.journal.now();
        let (ears, left) = (self.journal.ears().clone(), gate.deadline.since(begun).to_std());
        let heard = tokio::select! {
            biased;
            () = ears.stopped().cancelled() => return Ok(Input::Stop),
            heard = ears.decided(&gate.request) => Some(heard),
            () = tokio::time::sleep(left) => None,
        };
        let (signal, decision) = match heard {
            Some(heard) => heard,
            None => {
                let entry = LogEntry::ApprovalExpired { request: gate.request.clone() };
                self.note(&entry);
                self.journal.write(vec![entry], Vec::new()).await?;
                tokio::select! {
                    biased;
                    () = ears.stopped().cancelled() => return Ok(Input::Stop),
                    heard = ears.decided(&gate.request) => heard,
                }
            }
        };
        let waited_ms = self.journal.now().since(begun);
        Ok(Input::Decided { request: gate.request.clone(), signal, decision, waited_ms })
    }

    /// Runs a tool; what it prints is told now and then while it runs.
    async fn run_tool(&mut self, call: ToolCall) -> Result<Input, Abort> {
        let stopped = self.journal.ears().stopped().clone();
        let begun = self.journal.now();
        let (live, mut printed) = unbounded_channel::<String>();
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LIVE_EVERY, LIVE_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A secret may be printed in pieces, over many looks.
        let mut stream = self.screen.stream();
        let mut waiting = String::new();
        let mut lasts = false;
        let running = self.tools.run(&call, live);
        let patience = tokio::time::sleep(LONG_TOOL);
        tokio::pin!(running, patience);
        let run = loop {
            tokio::select! {
                biased;
                () = stopped.cancelled() => return Ok(Input::Stop),
                run = &mut running => break run,
                Some(text) = printed.recv() => {
                    waiting.push_str(&stream.push(&text).text);
                    waiting = clip_tail(&waiting, LIVE_CHARS);
                }
                () = &mut patience, if !lasts => {
                    lasts = true;
                    for output in self.machine.handle(Input::ToolLasts) {
                        if let Output::Log(entry) = output {
                            self.journal.write(vec![entry], Vec::new()).await?;
                        }
                    }
                }
                saved = self.saver.when_saved() => {
                    for entry in checkpoint(self.journal, saved) {
                        self.breaker.observe(&entry, self.journal.now());
                        self.machine.note(&entry);
                    }
                    self.journal.flush().await?;
                }
                _ = looks.tick() => {
                    waiting.push_str(&stream.settle().text);
                    let printed = std::mem::take(&mut waiting);
                    if printed.is_empty() {
                        continue;
                    }
                    let event = NewEvent::new(EventType::AgentToolOutput, self.journal.now())
                        .with("tool_name", call.name.clone())
                        .with("chunk", clip_tail(&printed, LIVE_CHARS));
                    self.journal.write(Vec::new(), vec![event]).await?;
                },
            }
        };
        let now = self.journal.now();
        self.journal.keep([], run.told.into_iter().map(|told| told.into_event(self.screen, now)).collect::<Vec<_>>());
        let (mut findings, mut hidden) = (Vec::new(), 0);
        let content = std::mem::take(&mut self.warnings)
            .into_iter()
            .map(Content::text)
            .chain(run.content)
            .map(|part| match part {
                Content::Text { text } => {
                    let screened = self.screen.scrub(&text);
                    findings.extend(screened.findings);
                    let (text, shown) = reveal(&screened.text);
                    hidden += shown;
                    Content::Text { text: text.into_owned() }
                }
                other => other,
            })
            .collect();
        let mut changes = Vec::new();
        if !findings.is_empty() {
            changes.push(format!("taken out of its output: {}", summary(&findings)));
        }
        if hidden > 0 {
            changes.push(format!("{hidden} hidden characters of its output are shown"));
        }
        for what in changes {
            let mut told =
                PolicyDecisionEvent::new(GuardStage::ToolOutput, "screen", GuardOutcome::Changed, &call.name, what);
            told.tool_use_id = Some(call.id.clone());
            self.journal.keep([], vec![told.into_event(self.screen, self.journal.now())]);
        }
        let result = ToolResult { tool_use_id: call.id.clone(), content, is_error: run.is_error };
        Ok(Input::ToolDone { result, duration_ms: self.journal.now().since(begun) })
    }

    // -- what the world is told -----------------------------------------------------------------------------------

    fn brief(&self, text: &str) -> String {
        preview(&self.screen.scrub(text).text, PREVIEW_CHARS)
    }

    fn tool_call_event(&self, call: &ToolCall) -> NewEvent {
        let input = match &call.input {
            ToolInput::Json(value) => value.to_string(),
            ToolInput::Invalid { raw, .. } => raw.clone(),
        };
        NewEvent::new(EventType::AgentToolCall, self.journal.now())
            .with("tool_name", call.name.clone())
            .with("tool_input_preview", self.brief(&input))
            .with("argument", self.brief(main_argument(call)))
            .with("turn", self.machine.state().turn)
    }

    fn tell(&self, entry: &LogEntry, events: &mut Vec<NewEvent>) {
        let now = self.journal.now();
        match entry {
            LogEntry::ModelReplied { turn, reply, cost, duration_ms } => {
                events.push(self.turn_event(*turn, reply, *duration_ms));
                events.push(
                    NewEvent::new(EventType::AgentCostUpdate, now)
                        .with("cost_usd", cost.to_string())
                        .with("total_micro_usd", self.machine.state().spent.0)
                        .with("input_tokens", reply.usage.input_tokens)
                        .with("output_tokens", reply.usage.output_tokens)
                        .with("turn", *turn),
                );
            }
            LogEntry::ToolEnded { turn, result, duration_ms } => {
                let text = result.content.iter().map(content_text).collect::<Vec<_>>().join(" ");
                events.push(
                    NewEvent::new(EventType::AgentToolResult, now)
                        .with("tool_name", self.tool_name(&result.tool_use_id))
                        .with("is_error", result.is_error)
                        .with("content_preview", self.brief(&text))
                        .with("turn", *turn)
                        .with("duration_ms", duration_ms.0),
                );
            }
            LogEntry::ModelFailed { message, .. } => events.push(
                NewEvent::new(EventType::AgentError, now)
                    .with("error_type", "model")
                    .with("message_preview", self.brief(message)),
            ),
            LogEntry::Injected { origin, text, .. } => {
                let milestone = if origin == "nudge" { "nudge_acknowledged" } else { "stuck_steer" };
                events.push(
                    NewEvent::new(EventType::AgentMilestone, now)
                        .with("milestone", milestone)
                        .with("details", self.brief(text)),
                );
            }
            LogEntry::AgentEnded { failure, .. } => events.push(
                NewEvent::new(EventType::AgentMilestone, now).with("milestone", "agent_execution_complete").with(
                    "details",
                    failure.as_ref().map_or_else(|| Value::from("done"), |f| Value::from(self.brief(&f.message))),
                ),
            ),
            LogEntry::SessionStarted { .. }
            | LogEntry::StepStarted { .. }
            | LogEntry::StepEnded { .. }
            | LogEntry::Cloned { .. }
            | LogEntry::ToolsPinned { .. }
            | LogEntry::ConversationStarted { .. }
            | LogEntry::ModelReserved { .. }
            | LogEntry::ReservedAhead { .. }
            | LogEntry::AheadReleased { .. }
            | LogEntry::ApprovalRequested { .. }
            | LogEntry::ApprovalExpired { .. }
            | LogEntry::ApprovalSettled { .. }
            | LogEntry::ToolStarted { .. }
            | LogEntry::ContextTrimmed { .. }
            | LogEntry::Checkpoint { .. }
            | LogEntry::Churned { .. }
            | LogEntry::Verified { .. }
            | LogEntry::PushIntended { .. }
            | LogEntry::Pushed { .. }
            | LogEntry::PullRequestOpened { .. } => {}
        }
    }

    fn turn_event(&self, turn: u32, reply: &ModelReply, duration_ms: Millis) -> NewEvent {
        let thinking: String = reply
            .content
            .iter()
            .filter_map(|c| match c {
                Content::Thinking { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        NewEvent::new(EventType::AgentTurn, self.journal.now())
            .with("turn", turn)
            .with("model", self.model_name.clone())
            .with("thinking_preview", self.brief(&thinking))
            .with("text_preview", self.brief(&reply.text()))
            .with("tool_calls_count", reply.tool_calls().count())
            .with("duration_ms", duration_ms.0)
    }

    /// The tool of a call in the last answer.
    fn tool_name(&self, id: &str) -> String {
        let messages = &self.machine.state().request.messages;
        let call = messages.iter().rev().flat_map(|m| m.content.iter().rev()).find_map(|c| match c {
            Content::ToolUse(call) if call.id == id => Some(call.name.clone()),
            _ => None,
        });
        call.unwrap_or_default()
    }
}

/// Keeps a checkpoint for the next write; answers its entries, which the machine is still to be told of.
fn checkpoint(journal: &mut Journal, Saved { turn, sha, churn }: Saved) -> Vec<LogEntry> {
    let event = NewEvent::new(EventType::AgentMilestone, journal.now())
        .with("milestone", "checkpoint")
        .with("turn", turn)
        .with("details", sha.clone());
    let mut entries = vec![LogEntry::Checkpoint { turn, sha }];
    entries.extend(churn.map(|churn| LogEntry::Churned { churn }));
    journal.keep(entries.clone(), vec![event]);
    entries
}

/// The argument that says most about a call: what it runs, or where.
pub(super) fn main_argument(call: &ToolCall) -> &str {
    let ToolInput::Json(input) = &call.input else { return "" };
    ["command", "file_path", "url", "pattern", "path"].iter().find_map(|k| input.get(*k)?.as_str()).unwrap_or_default()
}

fn content_text(part: &Content) -> &str {
    match part {
        Content::Text { text } | Content::Thinking { text, .. } => text,
        Content::Image { .. } => "[image]",
        Content::ToolUse(_) | Content::ToolResult(_) => "",
    }
}

/// The whole answer, or the error and whether the provider may have billed the call: it may once it has accepted it.
async fn whole_answer(model: &dyn ModelClient, request: &ModelRequest) -> Result<Box<ModelReply>, (ModelError, bool)> {
    let mut stream = model.stream(request).await.map_err(|e| (e, false))?;
    while let Some(event) = stream.next().await {
        match event {
            Ok(ModelEvent::Done(reply)) => return Ok(reply),
            Ok(ModelEvent::TextDelta(_) | ModelEvent::ThinkingDelta(_) | ModelEvent::ToolUseStarted { .. }) => {}
            Err(error) => return Err((error, true)),
        }
    }
    Err((ModelError::new(ModelErrorKind::Network, "stream", "the answer ended before it was whole"), true))
}

#[cfg(test)]
mod tests;
