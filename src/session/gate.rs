//! Judging a tool call: the workflow's tools, the project's own denials, the policy engine, what humans approved.

use abca_core::model::{ToolCall, ToolInput};
use abca_core::policy::{
    Ask, GuardOutcome, GuardStage, Judgement, PathResolver, PolicyDecision, PolicyDecisionEvent, PolicyError,
    PolicyErrorKind, PolicyRequest, ResolvedPath, RuleMatch, Severity,
};
use abca_core::session::{BreakerAction, CallVerdict, GateDraft, Tripped};
use abca_core::task::{Failure, FailureReason, GATE_PREVIEW_CHARS, InitialScope, limits};
use abca_core::text::preview;
use abca_core::workflow::Tier;
use abca_core::{Millis, Timestamp};
use async_trait::async_trait;
use serde_json::Value;

use super::agent::{Judged, SoFar, main_argument};
use super::hands::Hands;
use super::host::Host;
use super::mcp::Servers;
use super::tools;

impl Host {
    /// Judges a call. Whatever is no plain yes is told in an event.
    pub(super) async fn judged(&self, call: &ToolCall, so_far: SoFar<'_>) -> Judged {
        if let Some(tripped) = so_far.tripped {
            return self.broken(call, tripped, so_far.now);
        }
        if !self.allowed.contains(&call.name) {
            return self.unknown(call);
        }
        // Nobody is to be asked about a call that cannot run.
        let readable = match &self.servers {
            Some(servers) if Servers::is_theirs(&call.name) => servers.check(call),
            Some(_) | None => tools::parse(call).map(drop),
        };
        if let Err(why) = readable {
            return Judged::refused(why);
        }
        let request = self.request(call);
        let root = self.workspace.root_of_hands().to_string_lossy().into_owned();
        if let Some(rule) = self.settings.denying(&call.name, &request.input, &root) {
            let why = format!("the project's `.claude/settings.json` denies this call: `{}`", rule.as_str());
            let told = self.denied("project_settings", &call.name, why.clone());
            return Judged { told: vec![told], ..Judged::refused(why) };
        }
        let judged = self.policy.judge(&request, &PathsOfHands(self.workspace.hands())).await;
        self.settle(call, &request, judged, so_far)
    }

    /// What is not offered is not run. That a tool was asked for which this task has not got is told.
    fn unknown(&self, call: &ToolCall) -> Judged {
        let known: Vec<&str> = self.allowed.iter().map(String::as_str).collect();
        let why = format!("there is no tool {}; there are: {}", excerpt(&call.name), known.join(", "));
        let exists = Tier::Elevated.allows(&call.name);
        let told = exists.then(|| {
            let reason = match self.tier.allows(&call.name) {
                true => format!("the workflow `{}` does not grant it", self.workflow),
                false => format!("it is not in the tier `{}`", self.tier),
            };
            self.denied("tool_tier", &call.name, reason)
        });
        Judged { told: told.into_iter().collect(), ..Judged::refused(why) }
    }

    /// A guard's no to a call, as an event.
    pub(super) fn denied(&self, guard: &str, subject: &str, reason: String) -> PolicyDecisionEvent {
        PolicyDecisionEvent {
            task_id: Some(self.task),
            ..PolicyDecisionEvent::new(GuardStage::ToolCall, guard, GuardOutcome::Denied, subject, reason)
        }
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

    /// What follows from what the engine said, and from what humans approved.
    fn settle(
        &self,
        call: &ToolCall,
        request: &PolicyRequest,
        judged: Result<Judgement, PolicyError>,
        so_far: SoFar<'_>,
    ) -> Judged {
        let SoFar { approvals, now, .. } = so_far;
        let mut told = PolicyDecisionEvent::of_call(self.policy.name(), request, &judged);
        let (verdict, warnings) = match judged {
            Err(error) => {
                let why = format!("the policy could not decide, so the call is denied: {error}");
                (CallVerdict::Refuse(why), Vec::new())
            }
            Ok(judged) => {
                let warnings =
                    judged.warnings().map(|r| format!("policy warning `{}`: {}", r.rule, r.reason)).collect();
                let verdict = match judged.decision {
                    PolicyDecision::Allow => CallVerdict::Allow,
                    PolicyDecision::Deny { rules } => {
                        CallVerdict::Refuse(format!("denied by policy: {}", reasons(&rules)))
                    }
                    PolicyDecision::Ask(ask) => {
                        let granted: Vec<InitialScope> =
                            self.granted.iter().chain(&approvals.granted).cloned().collect();
                        let approved =
                            |left: &Ask| approvals.is_approved(call, left.rules.iter().map(|r| r.rule.as_str()));
                        match ask.left(request, &granted).filter(|left| !approved(left)) {
                            Some(left) => CallVerdict::Ask(Box::new(self.draft(call, request, &left, now))),
                            None => {
                                if let Some(told) = &mut told {
                                    told.outcome = GuardOutcome::Granted;
                                }
                                CallVerdict::Allow
                            }
                        }
                    }
                };
                (verdict, warnings)
            }
        };
        Judged { verdict, warnings, told: told.into_iter().collect() }
    }

    /// What follows from a circuit breaker that has tripped.
    fn broken(&self, call: &ToolCall, tripped: &Tripped, now: Timestamp) -> Judged {
        let (verdict, outcome) = match tripped.action {
            BreakerAction::End => {
                let text = format!("circuit breaker: {}", tripped.reason);
                (CallVerdict::End(Failure::new(FailureReason::CircuitBreaker, text)), GuardOutcome::Denied)
            }
            BreakerAction::Ask => {
                let draft = GateDraft {
                    preview: self.preview(call),
                    rules: vec![tripped.rule.to_owned()],
                    reason: format!("`{}`: {}; may the task go on?", tripped.rule, tripped.reason),
                    severity: Severity::High,
                    scopes: Vec::new(),
                    now,
                    deadline: self.patience.deadline(None, now),
                };
                (CallVerdict::Ask(Box::new(draft)), GuardOutcome::Asked)
            }
        };
        let told = PolicyDecisionEvent {
            task_id: Some(self.task),
            ..PolicyDecisionEvent::new(
                GuardStage::ToolCall,
                "circuit_breaker",
                outcome,
                call.name.clone(),
                tripped.reason.clone(),
            )
        };
        Judged { verdict, warnings: Vec::new(), told: vec![told] }
    }

    fn preview(&self, call: &ToolCall) -> String {
        let text = match (main_argument(call), &call.input) {
            // What says most about a call of somebody else's tool is not known: all of it.
            (_, ToolInput::Json(input)) if Servers::is_theirs(&call.name) => input.to_string(),
            (said, _) => said.to_owned(),
        };
        preview(&self.screen.scrub(&text).text, GATE_PREVIEW_CHARS)
    }

    fn draft(&self, call: &ToolCall, request: &PolicyRequest, ask: &Ask, now: Timestamp) -> GateDraft {
        GateDraft {
            preview: self.preview(call),
            rules: ask.rules.iter().map(|r| r.rule.clone()).collect(),
            reason: self.screen.scrub(&reasons(&ask.rules)).text,
            severity: ask.severity(),
            scopes: ask.scopes(request).iter().map(|s| self.screen.scrub(&s.to_string()).text).collect(),
            now,
            deadline: self.patience.deadline(ask.approval_timeout_ms(), now),
        }
    }
}

/// How long a task can wait for a human.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Longest wait, where no rule says less.
    pub(crate) approval: Millis,
    /// The end of the task's time.
    pub(crate) until: Timestamp,
}

/// What must be left of a task's time after a wait (`behaviour.md` 6.6).
const LEFT_AFTER: Millis = Millis::secs(120);

impl Patience {
    /// When a gate that is asked now answers itself; `None` where there is no time for one.
    fn deadline(&self, rules: Option<Millis>, now: Timestamp) -> Option<Timestamp> {
        let wanted = rules.map_or(self.approval, |r| r.min(self.approval));
        let left = Millis(self.until.since(now).0.saturating_sub(LEFT_AFTER.0));
        let wait = wanted.min(left);
        (wait >= Millis::secs(u64::from(*limits::APPROVAL_TIMEOUT_SECS.start()))).then(|| now.after(wait))
    }
}

/// Asks the hands where paths lead: they see what the command will see.
#[derive(Debug)]
struct PathsOfHands<'a>(&'a Hands);

#[async_trait]
impl PathResolver for PathsOfHands<'_> {
    async fn resolve(&self, paths: &[String]) -> Result<Vec<ResolvedPath>, PolicyError> {
        let lead_to = async { self.0.client().await?.lead_to(paths).await };
        let found = lead_to.await.map_err(|e| {
            PolicyError::new(PolicyErrorKind::Unavailable, "resolve", "the hands do not say where paths lead")
                .with_source(e)
        })?;
        Ok(found.into_iter().map(|path| ResolvedPath { path, looked: true }).collect())
    }
}

/// A name that a model made up: as it is, but short.
fn excerpt(name: &str) -> String {
    format!("`{}`", preview(name, 100))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_waits_as_long_as_its_rules_the_task_and_the_time_left_allow() {
        let now = Timestamp::from_millis(1_000_000);
        let wait = |approval, left, rules: Option<u64>| {
            let patience = Patience { approval: Millis::secs(approval), until: now.after(Millis::secs(left)) };
            patience.deadline(rules.map(Millis::secs), now).map(|d| d.since(now).0 / 1_000)
        };
        assert_eq!(wait(300, 9_000, None), Some(300));
        assert_eq!(wait(300, 9_000, Some(60)), Some(60));
        assert_eq!(wait(300, 9_000, Some(600)), Some(300), "not longer than the task says");
        assert_eq!(wait(300, 200, None), Some(80), "two minutes are left to end well");
        assert_eq!(wait(300, 149, None), None);
        assert_eq!(wait(300, 0, None), None);
    }
}
