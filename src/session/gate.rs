//! Judging a tool call: the workflow's tools, the project's own denials, the policy engine, what humans approved.

use abca_core::model::{ToolCall, ToolInput};
use abca_core::policy::{
    GuardOutcome, GuardStage, Judgement, LexicalPaths, PolicyDecision, PolicyDecisionEvent, PolicyError, PolicyRequest,
    RuleMatch,
};
use serde_json::Value;

use super::agent::Judged;
use super::host::Host;

impl Host {
    /// Judges a call. Whatever is no plain yes is told in an event.
    pub(super) async fn judged(&self, call: &ToolCall) -> Judged {
        if !self.allowed.contains(&call.name) {
            let known: Vec<&str> = self.allowed.iter().map(String::as_str).collect();
            return Judged::refused(format!("there is no tool `{}`; there are: {}", call.name, known.join(", ")));
        }
        let request = self.request(call);
        let root = self.workspace.root_of_hands().to_string_lossy().into_owned();
        if let Some(rule) = self.settings.denying(&call.name, &request.input, &root) {
            let why = format!("the project's `.claude/settings.json` denies this call: `{}`", rule.as_str());
            let told = PolicyDecisionEvent {
                task_id: Some(self.task),
                ..PolicyDecisionEvent::new(
                    GuardStage::ToolCall,
                    "project_settings",
                    GuardOutcome::Denied,
                    call.name.clone(),
                    why.clone(),
                )
            };
            return Judged { told: vec![told], ..Judged::refused(why) };
        }
        let paths = LexicalPaths { root, home: HOME_OF_HANDS.to_owned() };
        let judged = self.policy.judge(&request, &paths).await;
        self.settle(&request, judged)
    }

    fn request(&self, call: &ToolCall) -> PolicyRequest {
        PolicyRequest {
            task: self.task,
            workflow: self.workflow.clone(),
            repo: self.repo.clone(),
            branch: self.branch.clone(),
            base_branch: self.base_branch.clone(),
            tool: call.name.clone(),
            input: match &call.input {
                ToolInput::Json(value) => value.clone(),
                ToolInput::Invalid { .. } => Value::Null,
            },
            read_only: self.read_only,
            tainted: self.tainted,
        }
    }

    /// What follows from what the engine said.
    fn settle(&self, request: &PolicyRequest, judged: Result<Judgement, PolicyError>) -> Judged {
        let mut told = PolicyDecisionEvent::of_call(self.policy.name(), request, &judged);
        let (refusal, warnings) = match judged {
            Err(error) => (Some(format!("the policy could not decide, so the call is denied: {error}")), Vec::new()),
            Ok(judged) => {
                let warnings =
                    judged.warnings().map(|r| format!("policy warning `{}`: {}", r.rule, r.reason)).collect();
                let refusal = match judged.decision {
                    PolicyDecision::Allow => None,
                    PolicyDecision::Deny { rules } => Some(format!("denied by policy: {}", reasons(&rules))),
                    PolicyDecision::Ask(ask) => match ask.left(request, &self.granted) {
                        None => {
                            if let Some(told) = &mut told {
                                told.outcome = GuardOutcome::Granted;
                            }
                            None
                        }
                        Some(ask) => Some(format!(
                            "this needs a human's approval, which cannot be asked for yet, so it is denied: {}. Do it \
                             another way, or leave it and say so.",
                            reasons(&ask.rules)
                        )),
                    },
                };
                (refusal, warnings)
            }
        };
        Judged { refusal, warnings, told: told.into_iter().collect() }
    }
}

/// Where `~` leads in the hands.
const HOME_OF_HANDS: &str = "/tmp/home";

/// Rules, reasons and what they looked at, for the model.
fn reasons(rules: &[RuleMatch]) -> String {
    let one = |rule: &RuleMatch| {
        let part = rule.because.first().map(|b| b.path.as_deref().unwrap_or(&b.part)).filter(|p| !p.is_empty());
        match part {
            Some(part) => format!("`{}` ({part}): {}", rule.rule, rule.reason),
            None => format!("`{}`: {}", rule.rule, rule.reason),
        }
    };
    rules.iter().map(one).collect::<Vec<_>>().join("; ")
}
