//! What a policy engine answers: a decision, and the rules behind it.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

macro_rules! wire_words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $wire:literal; )+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $( $(#[$vdoc])* #[serde(rename = $wire)] $variant, )+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The word on the wire and in annotations.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }

            /// The value of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use wire_words;

wire_words! {
    /// How absolute a rule is.
    Tier {
        /// Never: no human can approve it.
        Hard = "hard";
        /// A human may approve it.
        Soft = "soft";
    }
}

wire_words! {
    /// What a rule that matches does. Meant to be walked through in this order when a rule is new.
    RuleMode {
        /// It is told in an event, nothing else.
        Observe = "observe";
        /// The call runs, and the model is told as well.
        Warn = "warn";
        /// It denies or asks.
        Enforce = "enforce";
    }
}

wire_words! {
    /// How bad it would be.
    Severity {
        /// Little.
        Low = "low";
        /// Some: what holds when a rule says nothing.
        Medium = "medium";
        /// Much.
        High = "high";
    }
}

/// What made a rule match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Because {
    /// The part of the call: a simple command in its normal form; empty when the rule looked at the call as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// The file that would be read, written or deleted, if it is about one: as a policy sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The attributes that the rule tested, with their values, e.g. `git_operation` and `push`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMatch {
    /// Its id.
    pub rule: String,
    /// How absolute it is.
    pub tier: Tier,
    /// What it does.
    pub mode: RuleMode,
    /// How bad it would be.
    pub severity: Severity,
    /// The kind of harm, in the rule's own word, e.g. `destructive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// How long a human may take, where the rule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_timeout_ms: Option<Millis>,
    /// Why, in words for the model and the human.
    pub reason: String,
    /// What made it match, each part of the call for itself. Never empty for a rule of the Cedar engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Because>,
}

impl RuleMatch {
    /// An enforced rule of medium severity.
    pub fn new(tier: Tier, rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            tier,
            mode: RuleMode::Enforce,
            severity: Severity::Medium,
            category: None,
            approval_timeout_ms: None,
            reason: reason.into(),
            because: Vec::new(),
        }
    }
}

/// A human must say: the soft rules that matched and are enforced, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The rules, ordered by id.
    pub rules: Vec<RuleMatch>,
}

impl Ask {
    /// How bad it would be: the worst of the rules.
    pub fn severity(&self) -> Severity {
        self.rules.iter().map(|r| r.severity).max().unwrap_or(Severity::Medium)
    }

    /// How long a human may take: the shortest of the rules, within
    /// [`APPROVAL_TIMEOUT_SECS`](crate::task::limits::APPROVAL_TIMEOUT_SECS). `None` when no rule says: then the task's own.
    pub fn approval_timeout_ms(&self) -> Option<Millis> {
        let range = crate::task::limits::APPROVAL_TIMEOUT_SECS;
        let shortest = self.rules.iter().filter_map(|r| r.approval_timeout_ms).min()?;
        Some(shortest.max(Millis::secs(u64::from(*range.start()))).min(Millis::secs(u64::from(*range.end()))))
    }

    /// The rules and their reasons in one line.
    pub fn summary(&self) -> String {
        summary(&self.rules)
    }
}

/// What a policy says. Exhaustive on purpose: a new answer must break every caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum PolicyDecision {
    /// Go on.
    Allow,
    /// No; the model is told why.
    Deny {
        /// The rules that say so, ordered by id, at least one.
        rules: Vec<RuleMatch>,
    },
    /// A human must say.
    Ask(Ask),
}

impl PolicyDecision {
    /// The word on the wire: `allow`, `deny`, `ask`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
            Self::Ask(_) => "ask",
        }
    }

    /// The rules behind it.
    pub fn rules(&self) -> &[RuleMatch] {
        match self {
            Self::Allow => &[],
            Self::Deny { rules } => rules,
            Self::Ask(ask) => &ask.rules,
        }
    }
}

/// A call, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// What to do.
    #[serde(flatten)]
    pub decision: PolicyDecision,
    /// Rules that matched and only observe or warn, ordered by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noted: Vec<RuleMatch>,
}

impl Judgement {
    /// A plain yes.
    pub const fn allow() -> Self {
        Self { decision: PolicyDecision::Allow, noted: Vec::new() }
    }

    /// A no by one rule.
    pub fn deny(rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::of(vec![RuleMatch::new(Tier::Hard, rule, reason)])
    }

    /// A question by one rule.
    pub fn ask(rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::of(vec![RuleMatch::new(Tier::Soft, rule, reason)])
    }

    /// What follows from the rules that matched: an enforced hard one denies, else an enforced soft one asks.
    pub fn of(mut matched: Vec<RuleMatch>) -> Self {
        matched.sort_by(|a, b| a.rule.cmp(&b.rule));
        let (enforced, noted): (Vec<_>, Vec<_>) = matched.into_iter().partition(|r| r.mode == RuleMode::Enforce);
        let (hard, soft): (Vec<_>, Vec<_>) = enforced.into_iter().partition(|r| r.tier == Tier::Hard);
        let decision = match (hard.is_empty(), soft.is_empty()) {
            (true, true) => PolicyDecision::Allow,
            (true, false) => PolicyDecision::Ask(Ask { rules: soft }),
            (false, _) => PolicyDecision::Deny { rules: hard },
        };
        Self { decision, noted }
    }

    /// Whether nothing matched at all.
    pub fn is_plain_allow(&self) -> bool {
        self.decision == PolicyDecision::Allow && self.noted.is_empty()
    }

    /// Rules of mode `warn`: what the model is told beside the result.
    pub fn warnings(&self) -> impl Iterator<Item = &RuleMatch> {
        self.noted.iter().filter(|r| r.mode == RuleMode::Warn)
    }
}

/// Rules and reasons in one line, e.g. `` `force_push`: rewrites what others may have ``.
pub(super) fn summary(rules: &[RuleMatch]) -> String {
    rules.iter().map(|r| format!("`{}`: {}", r.rule, r.reason)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tier: Tier, mode: RuleMode, id: &str) -> RuleMatch {
        RuleMatch { mode, ..RuleMatch::new(tier, id, "r") }
    }

    #[test]
    fn a_hard_rule_wins_over_soft_ones_and_what_is_not_enforced_only_notes() {
        use RuleMode::{Enforce, Observe, Warn};
        let judged = |matched: &[(Tier, RuleMode)]| {
            let rules = matched.iter().enumerate().map(|(i, (t, m))| rule(*t, *m, &format!("r{i}"))).collect();
            let judged = Judgement::of(rules);
            (judged.decision.as_str(), judged.decision.rules().len(), judged.noted.len(), judged.is_plain_allow())
        };
        assert_eq!(judged(&[]), ("allow", 0, 0, true));
        assert_eq!(judged(&[(Tier::Hard, Observe), (Tier::Soft, Warn)]), ("allow", 0, 2, false));
        assert_eq!(judged(&[(Tier::Soft, Enforce), (Tier::Soft, Enforce)]), ("ask", 2, 0, false));
        assert_eq!(judged(&[(Tier::Soft, Enforce), (Tier::Hard, Enforce), (Tier::Hard, Warn)]), ("deny", 1, 1, false));
    }

    #[test]
    fn an_ask_takes_the_shortest_time_and_the_worst_severity() {
        let with = |seconds: Option<u64>, severity| RuleMatch {
            approval_timeout_ms: seconds.map(Millis::secs),
            severity,
            ..RuleMatch::new(Tier::Soft, "r", "r")
        };
        let ask = Ask { rules: vec![with(Some(600), Severity::Low), with(Some(300), Severity::High)] };
        assert_eq!((ask.approval_timeout_ms(), ask.severity()), (Some(Millis::secs(300)), Severity::High));
        let ask = Ask { rules: vec![with(Some(1), Severity::Low), with(None, Severity::Medium)] };
        assert_eq!((ask.approval_timeout_ms(), ask.severity()), (Some(Millis::secs(30)), Severity::Medium));
        assert_eq!(Ask { rules: vec![with(None, Severity::Low)] }.approval_timeout_ms(), None);
    }

    #[test]
    fn a_judgement_survives_the_wire() {
        let judged =
            Judgement::of(vec![rule(Tier::Soft, RuleMode::Enforce, "a"), rule(Tier::Hard, RuleMode::Warn, "b")]);
        let json = serde_json::to_value(&judged).unwrap();
        assert_eq!(json["decision"], "ask");
        assert_eq!(serde_json::from_value::<Judgement>(json).unwrap(), judged);
    }
}
