//! Before a tool runs: what guards say of the call, and the human who is asked.

use super::{Machine, Output, Phase};
use crate::model::{Content, ToolCall, ToolResult};
use crate::policy::Severity;
use crate::session::LogEntry;
use crate::task::{Failure, Gate, GateDecision};
use crate::time::{Millis, Timestamp};

/// What guards say of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallVerdict {
    /// Run it.
    Allow,
    /// Do not; the model is told this.
    Refuse(String),
    /// A human must say.
    Ask(Box<GateDraft>),
    /// Do not, and nothing else either: the session ends with this.
    End(Failure),
}

/// A question that is not asked yet: what only the driver knows of a [`Gate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateDraft {
    /// What the call would do, screened.
    pub preview: String,
    /// The rules that ask, by id.
    pub rules: Vec<String>,
    /// Why they ask, in one line.
    pub reason: String,
    /// How bad it would be.
    pub severity: Severity,
    /// Scopes that can be approved with it.
    pub scopes: Vec<String>,
    /// Now.
    pub now: Timestamp,
    /// When it will answer itself with no. `None`: the task has too little time left to wait for anybody.
    pub deadline: Option<Timestamp>,
}

impl Machine {
    pub(super) fn judged(&mut self, verdict: CallVerdict, out: &mut Vec<Output>) {
        let Some(call) = self.state.pending.first().map(|p| p.call.clone()) else { return self.go_on(out) };
        match verdict {
            CallVerdict::Allow => self.run(call, out),
            CallVerdict::Refuse(why) => self.refuse(&call, why, out),
            CallVerdict::End(failure) => self.end(Some(failure), String::new(), out),
            CallVerdict::Ask(draft)
                if self.state.approvals.is_approved(&call, draft.rules.iter().map(String::as_str)) =>
            {
                self.run(call, out);
            }
            CallVerdict::Ask(draft) => match self.state.approvals.denial(&call) {
                Some(reason) => {
                    let text = denied_again(reason);
                    self.refuse(&call, text, out);
                }
                None => self.ask(&call, *draft, out),
            },
        }
    }

    fn run(&mut self, call: ToolCall, out: &mut Vec<Output>) {
        let turn = self.state.turn;
        self.log(LogEntry::ToolStarted { turn, call: call.id.clone(), name: call.name.clone() }, out);
        if self.state.pending.len() == 1 {
            self.reserve_ahead(out);
        }
        self.phase = Phase::Tool;
        out.push(Output::RunTool(call));
    }

    fn refuse(&mut self, call: &ToolCall, why: String, out: &mut Vec<Output>) {
        let result = ToolResult { tool_use_id: call.id.clone(), content: vec![Content::text(why)], is_error: true };
        self.tool_done(result, Millis(0), out);
    }

    fn ask(&mut self, call: &ToolCall, draft: GateDraft, out: &mut Vec<Output>) {
        // A session that takes up where another died goes on with its question, name and deadline.
        let open = self.state.approvals.open.as_ref().filter(|open| open.call == call.id).map(|open| open.gate.clone());
        let gate = match (open, draft.deadline) {
            (Some(gate), _) => gate,
            (None, _) if self.state.approvals.asked >= self.config.max_gates => {
                let text = format!(
                    "this needs a human's approval ({}), and this task has asked {} times, as often as it may: denied. Do \
                     it another way, or leave it and say so.",
                    draft.reason, self.config.max_gates
                );
                return self.refuse(call, text, out);
            }
            (None, None) => {
                let text = format!(
                    "this needs a human's approval ({}), and too little of the task's time is left to wait for one: \
                     denied. Do it another way, or leave it and say so.",
                    draft.reason
                );
                return self.refuse(call, text, out);
            }
            (None, Some(deadline)) => Gate {
                request: format!("gate-{}", self.state.approvals.asked.saturating_add(1)),
                tool: call.name.clone(),
                preview: draft.preview,
                rules: draft.rules,
                reason: draft.reason,
                severity: draft.severity,
                scopes: draft.scopes,
                asked_at: draft.now,
                deadline,
            },
        };
        let (turn, call) = (self.state.turn, call.id.clone());
        let gate = Box::new(gate);
        self.log(LogEntry::ApprovalRequested { turn, call, gate: gate.clone() }, out);
        self.phase = Phase::Gate;
        out.push(Output::AwaitApproval(gate));
    }

    /// Takes in an answer; `settled` is what is logged of it.
    pub(super) fn decided(&mut self, settled: LogEntry, out: &mut Vec<Output>) {
        let LogEntry::ApprovalSettled { request, decision, .. } = &settled else { return };
        let open = self.state.approvals.open.as_ref().filter(|open| open.gate.request == *request);
        let Some(asked_of) = open.map(|open| open.call.clone()) else { return };
        let call = self.state.pending.iter().find(|p| p.call.id == asked_of).map(|p| p.call.clone());
        let decision = decision.clone();
        self.log(settled, out);
        match call {
            Some(call) if !decision.approved => self.refuse(&call, denied(&decision), out),
            // Approved: it is judged once more, under what is approved now.
            Some(_) | None => self.go_on(out),
        }
    }
}

/// What the model is told of a no.
fn denied(decision: &GateDecision) -> String {
    match (&decision.by, &decision.reason) {
        (None, _) => {
            "nobody answered in time whether this call may run: it is denied. Do it another way, or leave it and \
                      say so."
                .to_owned()
        }
        (Some(_), Some(reason)) => format!(
            "a human denied this call. This is final: do not try to reach the same end in another way, unless they say so \
             here. They say: {reason}"
        ),
        (Some(_), None) => {
            "a human denied this call. This is final: do not try to reach the same end in another way. Leave \
                            it and say so."
                .to_owned()
        }
    }
}

fn denied_again(reason: Option<&str>) -> String {
    match reason {
        Some(reason) => {
            format!("a human has denied this very call before, and is not asked again. They said: {reason}")
        }
        None => "a human has denied this very call before, and is not asked again.".to_owned(),
    }
}
