//! One form for what every guard of the platform decided.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decision::wire_words;
use super::{Judgement, PolicyDecision, PolicyError, PolicyRequest, RuleMatch};
use crate::event::{EventType, NewEvent};
use crate::id::TaskId;
use crate::text::{Screen, preview};
use crate::time::Timestamp;

/// Longest text in an event, in characters.
const TEXT_CHARS: usize = 256;
/// Most rules, and most parts of a call for each, that an event tells of.
const RULES: usize = 16;
const PARTS: usize = 4;

wire_words! {
    /// Where a guard stands: the rows of the design's table.
    GuardStage {
        /// A task is submitted.
        Submit = "submit";
        /// A task waits for its slots and budgets.
        Admission = "admission";
        /// A task is about to be prepared.
        PreFlight = "pre_flight";
        /// Context is assembled.
        Hydration = "hydration";
        /// Somebody spoke to a running task.
        Nudge = "nudge";
        /// Memory is read.
        MemoryRead = "memory_read";
        /// Memory is written.
        MemoryWrite = "memory_write";
        /// The model is about to be called.
        ModelCall = "model_call";
        /// A tool is about to run.
        ToolCall = "tool_call";
        /// A tool's output is about to be shown to the model.
        ToolOutput = "tool_output";
        /// The hands want to reach a host.
        Egress = "egress";
        /// Work is about to be pushed or proposed.
        Push = "push";
    }
}

wire_words! {
    /// What a guard made of it.
    GuardOutcome {
        /// It went through, by a rule that says so. Told only by guards that log every decision.
        Allowed = "allowed";
        /// It went through; a rule noted it.
        Observed = "observed";
        /// It went through, with a warning.
        Warned = "warned";
        /// It went through because a human had approved it before.
        Granted = "granted";
        /// It went through, changed: secrets were taken out, text was sanitised.
        Changed = "changed";
        /// It waits, for a slot or a budget.
        Queued = "queued";
        /// A human is asked.
        Asked = "asked";
        /// It did not go through.
        Denied = "denied";
        /// It did not go through because the guard itself failed.
        Failed = "failed";
    }
}

/// What a guard decided, when it was no plain yes.
///
/// Made for people and for programs that count; secrets are screened out and texts are cut when it becomes an event.
/// A submission that is refused has no task to keep events: its decision goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDecisionEvent {
    /// Whose; `None` when there is no task (yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Where the guard stands.
    pub stage: GuardStage,
    /// The guard's name, e.g. `cedar`.
    pub guard: String,
    /// What it made of it.
    pub outcome: GuardOutcome,
    /// What it is about: a tool, a host, a ref, a field.
    pub subject: String,
    /// More of it: the command, the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The rules behind it, ordered by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleMatch>,
    /// The tool call, by the id that the model gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_use_id: Option<String>,
}

impl PolicyDecisionEvent {
    /// A decision without rules of its own.
    pub fn new(
        stage: GuardStage,
        guard: impl Into<String>,
        outcome: GuardOutcome,
        subject: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            task_id: None,
            stage,
            guard: guard.into(),
            outcome,
            subject: subject.into(),
            detail: None,
            reason: reason.into(),
            rules: Vec::new(),
            tool_use_id: None,
        }
    }

    /// What a policy engine said of a tool call; `None` for a plain yes.
    pub fn of_call(guard: &str, request: &PolicyRequest, judged: &Result<Judgement, PolicyError>) -> Option<Self> {
        let (outcome, reason, rules) = match judged {
            Err(error) => (GuardOutcome::Failed, error.to_string(), Vec::new()),
            Ok(judged) => {
                let mut rules = judged.decision.rules().to_vec();
                rules.extend(judged.noted.iter().cloned());
                let outcome = match &judged.decision {
                    PolicyDecision::Deny { .. } => GuardOutcome::Denied,
                    PolicyDecision::Ask(_) => GuardOutcome::Asked,
                    PolicyDecision::Allow if judged.warnings().next().is_some() => GuardOutcome::Warned,
                    PolicyDecision::Allow if !judged.noted.is_empty() => GuardOutcome::Observed,
                    PolicyDecision::Allow => return None,
                };
                (outcome, super::decision::summary(&rules), rules)
            }
        };
        let detail = ["command", "file_path", "path", "url", "pattern"]
            .iter()
            .find_map(|key| request.input.get(*key)?.as_str())
            .map(str::to_owned);
        Some(Self {
            task_id: Some(request.task),
            detail,
            rules,
            ..Self::new(GuardStage::ToolCall, guard, outcome, request.tool.clone(), reason)
        })
    }

    /// As an event of the task, secrets screened out, texts cut.
    pub fn into_event(self, screen: &Screen, at: Timestamp) -> NewEvent {
        let event = self.screened(screen);
        let mut out = NewEvent::new(EventType::PolicyDecision, at);
        if let Ok(Value::Object(map)) = serde_json::to_value(&event) {
            out.metadata = map;
            out.metadata.remove("task_id");
        }
        out
    }

    /// The same without secrets, with texts cut and lists bounded.
    #[must_use]
    pub fn screened(mut self, screen: &Screen) -> Self {
        let brief = |text: &str| preview(&screen.scrub(text).text, TEXT_CHARS);
        self.subject = brief(&self.subject);
        self.detail = self.detail.as_deref().map(brief);
        self.reason = brief(&self.reason);
        self.rules.truncate(RULES);
        for rule in &mut self.rules {
            rule.reason = brief(&rule.reason);
            rule.because.truncate(PARTS);
            for part in &mut rule.because {
                part.part = brief(&part.part);
                part.path = part.path.as_deref().map(brief);
                part.attributes.truncate(RULES);
                for (_, value) in &mut part.attributes {
                    *value = brief(value);
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::{Because, PolicyErrorKind, RuleMode, Tier};

    fn request() -> PolicyRequest {
        PolicyRequest {
            task: TaskId::from_parts(Timestamp::from_millis(0), 0),
            workflow: "coding/new-task-v1".to_owned(),
            repo: "o/r".to_owned(),
            branch: "b".to_owned(),
            base_branch: "main".to_owned(),
            tool: "Bash".to_owned(),
            input: json!({"command": "curl -H 'Authorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789' x.y"}),
            read_only: false,
            tainted: true,
        }
    }

    #[test]
    fn a_plain_yes_is_no_event_and_everything_else_is() {
        let told = |judged| PolicyDecisionEvent::of_call("cedar", &request(), &judged).map(|e| e.outcome);
        let noted = |mode| Judgement::of(vec![RuleMatch { mode, ..RuleMatch::new(Tier::Hard, "r", "why") }]);
        assert_eq!(told(Ok(Judgement::allow())), None);
        assert_eq!(told(Ok(noted(RuleMode::Observe))), Some(GuardOutcome::Observed));
        assert_eq!(told(Ok(noted(RuleMode::Warn))), Some(GuardOutcome::Warned));
        assert_eq!(told(Ok(Judgement::ask("r", "why"))), Some(GuardOutcome::Asked));
        assert_eq!(told(Ok(Judgement::deny("r", "why"))), Some(GuardOutcome::Denied));
        let error = PolicyError::new(PolicyErrorKind::Evaluation, "judge", "no");
        assert_eq!(told(Err(error)), Some(GuardOutcome::Failed));
    }

    #[test]
    fn an_event_has_one_form_and_no_secrets() {
        let secret = "Bearer abcdefghijklmnopqrstuvwxyz0123456789";
        let mut rule = RuleMatch::new(Tier::Soft, "hosts", format!("it says {secret}"));
        rule.because = vec![Because {
            part: format!("curl -H '{secret}'"),
            path: None,
            attributes: vec![("args".to_owned(), secret.to_owned())],
        }];
        let judged = Ok(Judgement::of(vec![rule]));
        let event = PolicyDecisionEvent::of_call("cedar", &request(), &judged).unwrap();
        let event = event.into_event(&Screen::default(), Timestamp::from_millis(0));
        let text = serde_json::to_string(&event.metadata).unwrap();
        assert!(!text.contains("abcdefghijklmnopqrstuvwxyz"), "{text}");
        assert_eq!(event.event_type, EventType::PolicyDecision);
        let brief: Vec<(&str, &Value)> =
            ["stage", "guard", "outcome", "subject"].iter().map(|k| (*k, &event.metadata[*k])).collect();
        assert_eq!(
            brief,
            [
                ("stage", &json!("tool_call")),
                ("guard", &json!("cedar")),
                ("outcome", &json!("asked")),
                ("subject", &json!("Bash"))
            ]
        );
        let back: PolicyDecisionEvent = serde_json::from_value(Value::Object(event.metadata)).unwrap();
        assert_eq!(back.rules.first().unwrap().rule, "hosts");
    }
}
