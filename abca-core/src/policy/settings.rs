//! Policies of one's own, as configuration: read by the Cedar engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RuleMode;

/// Who wrote policies: what they may say depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyOrigin {
    /// The platform or its operator: both tiers, annotations needed.
    Operator,
    /// A repository: one policy without annotations for each; it becomes a soft rule `legacy_extra_<n>`.
    Repository,
}

/// A text of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// What errors call it: a file's name.
    pub name: String,
    /// Policies, in Cedar's language.
    pub text: String,
    /// Who wrote it.
    pub origin: PolicyOrigin,
}

/// Policies beside the built-in ones, and what the operator says of single rules.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Further policies.
    pub sources: Vec<PolicySource>,
    /// What rules do, by id, over what they say themselves. `base_permit` has none.
    pub modes: BTreeMap<String, RuleMode>,
    /// What every rule does that `modes` does not name, over what it says itself.
    pub mode: Option<RuleMode>,
}

impl PolicySettings {
    /// These and a repository's own policies, one each.
    #[must_use]
    pub fn with_repository(mut self, policies: &[String]) -> Self {
        let source = |(n, text): (usize, &String)| PolicySource {
            name: format!("cedar_policies[{n}]"),
            text: text.clone(),
            origin: PolicyOrigin::Repository,
        };
        self.sources.extend(policies.iter().enumerate().map(source));
        self
    }

    /// Whether they say anything.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.modes.is_empty() && self.mode.is_none()
    }
}
