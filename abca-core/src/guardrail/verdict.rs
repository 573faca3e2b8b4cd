//! What a guardrail answers, and the one event that tells of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{GuardrailError, GuardrailInput};
use crate::policy::{GuardOutcome, PolicyDecisionEvent, RuleMatch, RuleMode, Severity, Tier};

/// How sure a guardrail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Not very.
    Low,
    /// More so than not.
    Medium,
    /// Quite.
    High,
    /// It is so: a checksum holds, or the platform handed the value out.
    Certain,
}

impl Confidence {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Certain => "certain",
        }
    }
}

/// What came of something that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardrailAction {
    /// It is only told.
    Observed,
    /// It was taken out.
    Masked,
    /// Because of it nothing goes through.
    Blocked,
}

/// Something that was found: which policy, what kind, where; never what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// The name of the text or image.
    pub subject: String,
    /// The policy, e.g. `secrets`, `content`, `topic`.
    pub policy: String,
    /// The kind within it, e.g. `github-token`, `PROMPT_ATTACK`.
    pub category: String,
    /// How sure, where the guardrail says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// What came of it.
    pub action: GuardrailAction,
    /// How often.
    pub count: u32,
    /// Where the first begins, in characters of the text as it was given, from 1 on; where the guardrail says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<usize>,
}

impl Assessment {
    /// Policy and category as one name, e.g. `secrets/github-token`.
    pub fn rule(&self) -> String {
        format!("{}/{}", self.policy, self.category)
    }

    fn place(&self) -> String {
        let at = self.first_at.map(|at| format!(" at character {at}")).unwrap_or_default();
        let times = if self.count > 1 { format!(", {} times", self.count) } else { String::new() };
        format!("in `{}`{at}{times}", self.subject)
    }
}

impl fmt::Display for Assessment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule())?;
        if let Some(confidence) = self.confidence {
            write!(f, " ({})", confidence.as_str())?;
        }
        write!(f, " {}", self.place())
    }
}

/// What to do. Exhaustive on purpose: a new answer must break every caller.
#[derive(Clone, PartialEq, Eq)]
pub enum GuardrailOutcome {
    /// It may come in as it is.
    Allow,
    /// It may come in with these texts in place of the given ones, in their order.
    Mask {
        /// The texts.
        texts: Vec<String>,
    },
    /// It may not come in.
    Block,
}

impl fmt::Debug for GuardrailOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("Allow"),
            Self::Mask { texts } => write!(f, "Mask({} texts)", texts.len()),
            Self::Block => f.write_str("Block"),
        }
    }
}

/// A verdict: what to do, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardrailVerdict {
    /// What to do.
    pub outcome: GuardrailOutcome,
    /// What was found, worst first; empty for a plain yes.
    pub assessments: Vec<Assessment>,
}

impl GuardrailVerdict {
    /// A plain yes.
    pub const fn allow() -> Self {
        Self { outcome: GuardrailOutcome::Allow, assessments: Vec::new() }
    }

    /// What follows from what was found: a block, else masked texts if anything was masked, else a yes.
    pub fn of(mut assessments: Vec<Assessment>, texts: Vec<String>) -> Self {
        assessments.sort_by_key(|a| std::cmp::Reverse((a.action, a.confidence)));
        let outcome = match assessments.first().map(|worst| worst.action) {
            Some(GuardrailAction::Blocked) => GuardrailOutcome::Block,
            Some(GuardrailAction::Masked) => GuardrailOutcome::Mask { texts },
            Some(GuardrailAction::Observed) | None => GuardrailOutcome::Allow,
        };
        Self { outcome, assessments }
    }

    /// What of it is behind the outcome, in words; empty for a plain yes.
    pub fn summary(&self) -> String {
        let Some(worst) = self.assessments.first() else { return String::new() };
        let behind = self.assessments.iter().filter(|a| a.action == worst.action);
        behind.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// The event that tells of a verdict; `None` for a plain yes.
pub fn decision_of(
    guard: &str,
    input: &GuardrailInput,
    judged: &Result<GuardrailVerdict, GuardrailError>,
) -> Option<PolicyDecisionEvent> {
    let (outcome, reason, found): (_, _, &[Assessment]) = match judged {
        Err(error) => (GuardOutcome::Failed, error.to_string(), &[]),
        Ok(verdict) => {
            let outcome = match &verdict.outcome {
                GuardrailOutcome::Block => GuardOutcome::Denied,
                GuardrailOutcome::Mask { .. } => GuardOutcome::Changed,
                GuardrailOutcome::Allow if !verdict.assessments.is_empty() => GuardOutcome::Observed,
                GuardrailOutcome::Allow => return None,
            };
            (outcome, verdict.summary(), &verdict.assessments)
        }
    };
    let mut subjects: Vec<&str> = match judged {
        Ok(_) => found.iter().map(|a| a.subject.as_str()).collect(),
        Err(_) => {
            input.texts.iter().map(|t| t.name.as_str()).chain(input.images.iter().map(|i| i.name.as_str())).collect()
        }
    };
    subjects.sort_unstable();
    subjects.dedup();
    let mut rules: Vec<RuleMatch> = found.iter().map(rule_of).collect();
    rules.sort_by(|a, b| a.rule.cmp(&b.rule));
    Some(PolicyDecisionEvent {
        task_id: input.task,
        rules,
        ..PolicyDecisionEvent::new(input.stage.row(), guard, outcome, subjects.join(", "), reason)
    })
}

fn rule_of(found: &Assessment) -> RuleMatch {
    RuleMatch {
        mode: match found.action {
            GuardrailAction::Observed => RuleMode::Observe,
            GuardrailAction::Masked | GuardrailAction::Blocked => RuleMode::Enforce,
        },
        severity: match found.confidence {
            Some(Confidence::Low) => Severity::Low,
            Some(Confidence::Medium) | None => Severity::Medium,
            Some(Confidence::High | Confidence::Certain) => Severity::High,
        },
        category: Some(found.policy.clone()),
        ..RuleMatch::new(Tier::Hard, found.rule(), found.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardrail::{GuardrailErrorKind, GuardrailStage};

    fn found(category: &str, action: GuardrailAction) -> Assessment {
        Assessment {
            subject: "task_description".to_owned(),
            policy: "secrets".to_owned(),
            category: category.to_owned(),
            confidence: Some(Confidence::High),
            action,
            count: 2,
            first_at: Some(7),
        }
    }

    #[test]
    fn the_worst_of_what_was_found_decides_and_the_summary_is_about_it() {
        use GuardrailAction::{Blocked, Masked, Observed};
        let of = |actions: &[GuardrailAction]| {
            let all = actions.iter().enumerate().map(|(i, a)| found(&format!("r{i}"), *a)).collect();
            GuardrailVerdict::of(all, vec!["x".to_owned()])
        };
        assert_eq!(of(&[]), GuardrailVerdict::allow());
        assert_eq!(of(&[Observed]).outcome, GuardrailOutcome::Allow);
        assert_eq!(of(&[Observed, Masked]).outcome, GuardrailOutcome::Mask { texts: vec!["x".to_owned()] });
        let blocked = of(&[Observed, Blocked, Masked]);
        assert_eq!(blocked.outcome, GuardrailOutcome::Block);
        assert_eq!(blocked.summary(), "secrets/r1 (high) in `task_description` at character 7, 2 times");
    }

    #[test]
    fn every_verdict_but_a_plain_yes_is_one_event() {
        let input = GuardrailInput::new(GuardrailStage::Submission).text("task_description", "secret words");
        let told = |judged| decision_of("local", &input, &judged);
        assert_eq!(told(Ok(GuardrailVerdict::allow())), None);
        let outcome = |action| {
            let event = told(Ok(GuardrailVerdict::of(vec![found("jwt", action)], vec!["m".to_owned()]))).unwrap();
            let rules: Vec<String> = event.rules.iter().map(|r| format!("{} {}", r.rule, r.mode)).collect();
            (event.outcome, event.subject, rules.join(" "))
        };
        let about = "task_description".to_owned();
        let rule = |mode: &str| format!("secrets/jwt {mode}");
        use GuardrailAction::{Blocked, Masked, Observed};
        assert_eq!(outcome(Observed), (GuardOutcome::Observed, about.clone(), rule("observe")));
        assert_eq!(outcome(Masked), (GuardOutcome::Changed, about.clone(), rule("enforce")));
        assert_eq!(outcome(Blocked), (GuardOutcome::Denied, about.clone(), rule("enforce")));
        let failed = told(Err(GuardrailError::new(GuardrailErrorKind::Throttled, "check", "too often"))).unwrap();
        assert_eq!((failed.outcome, failed.subject), (GuardOutcome::Failed, about));
        assert_eq!(failed.reason, "check: throttled: too often");
    }
}
