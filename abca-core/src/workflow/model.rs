//! The workflow file as types. Names on the wire are the reference platform's.

use serde::{Deserialize, Serialize};

use super::names::{
    DeliverTarget, DiscoveredConfig, Domain, GateMode, HydrationSource, InputName, LifeCycle, OnFailure, Outcome,
    PrStrategy, StepKind, Tier, VcsProvider,
};
use super::{Violation, ViolationCode, excerpt};
use crate::money::MicroUsd;

/// A kind of task: what goes in, which steps run, what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Workflow {
    /// `domain/name-vN`; N is the major number of `version`.
    pub id: String,
    /// `major.minor.patch`.
    pub version: String,
    /// What kind of work it is.
    pub domain: Domain,
    /// One line for people who choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When to use it. Not part of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// Whether it needs a repository; see [`Workflow::needs_repo`] for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_repo: Option<bool>,
    /// Whether it may change nothing. Default no.
    #[serde(default)]
    pub read_only: bool,
    /// Its block of the system prompt.
    pub prompt: Prompt,
    /// Where context comes from.
    pub hydration: Hydration,
    /// What the agent gets.
    pub agent_config: AgentConfig,
    /// What of the repository counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_config: Option<RepoConfig>,
    /// What a submission must bring.
    #[serde(default)]
    pub required_inputs: RequiredInputs,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Reserved: always empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_hooks: Vec<String>,
    /// What it is done for.
    pub terminal_outcomes: TerminalOutcomes,
    /// Limits that hold when neither task, repository nor platform sets them.
    #[serde(default)]
    pub limits: WorkflowLimits,
    /// What a version must pass before production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_gate: Option<PromotionGate>,
    /// Where the version stands.
    pub status: LifeCycle,
}

/// A block of the system prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Prompt {
    /// `builtin/<name>`, or the text itself.
    pub template: String,
    /// Names that the text may use as `{name}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placeholders: Vec<String>,
}

/// Where context comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Hydration {
    /// At least one.
    pub sources: Vec<HydrationSource>,
}

/// What the agent gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AgentConfig {
    /// The ceiling of everything below.
    pub tier: Tier,
    /// Tools by name.
    pub allowed_tools: Vec<String>,
    /// The model that suits this work best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelPreference>,
    /// MCP servers by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<String>,
    /// Policy modules by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cedar_policy_modules: Vec<String>,
    /// Skills by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
    /// Plugins by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
    /// Subagents by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subagents: Vec<String>,
    /// Prompt fragments by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt_fragments: Vec<String>,
}

/// A preferred model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelPreference {
    /// The model's id.
    pub id: String,
    /// Whether a task or a repository may name another. Default yes.
    #[serde(default = "yes")]
    pub allow_task_override: bool,
}

/// What of the repository counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RepoConfig {
    /// Who hosts it; unset is whichever forge the platform uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<VcsProvider>,
    /// Whether agent configuration in the repository is honoured. Default yes.
    #[serde(default = "yes")]
    pub discover: bool,
    /// What of it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<DiscoveredConfig>,
}

const fn yes() -> bool {
    true
}

/// What a submission must bring.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RequiredInputs {
    /// At least one of these, unless empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<InputName>,
    /// Every one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all_of: Vec<InputName>,
}

/// One step. The fields after `on_failure` belong to single kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// Its name in milestones; default: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What follows its failure.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// For `ensure_pr`; default `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<PrStrategy>,
    /// For `verify_build` and `verify_lint`; default `regression_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateMode>,
    /// For `deliver_artifact`; default `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<DeliverTarget>,
}

/// What a workflow is done for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TerminalOutcomes {
    /// A step produces it, or the task fails.
    pub primary: Outcome,
    /// Welcome besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<Outcome>,
}

/// Limits that hold when nobody else sets them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkflowLimits {
    /// Model turns, 1 to 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Most that may be spent, $0.01 to $100; a number of dollars with at most six decimals on the wire.
    #[serde(rename = "max_budget_usd", with = "usd_number", skip_serializing_if = "Option::is_none")]
    pub max_budget: Option<MicroUsd>,
}

/// What a version must pass before production.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PromotionGate {
    /// Names of checks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

/// Which inputs a submission brings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SuppliedInputs {
    /// There is an issue number.
    pub issue_number: bool,
    /// There is a description that is more than white space.
    pub task_description: bool,
    /// There is the number of a pull request.
    pub pr_number: bool,
}

impl SuppliedInputs {
    /// Whether the submission brings this input.
    pub const fn has(self, name: InputName) -> bool {
        match name {
            InputName::IssueNumber => self.issue_number,
            InputName::TaskDescription => self.task_description,
            InputName::PrNumber => self.pr_number,
        }
    }
}

/// A submission lacks what its workflow needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingInputs {
    /// None of these is there, one must be.
    #[error("`{workflow}` needs one of {}: give at least one", list(.names))]
    OneOf {
        /// The workflow.
        workflow: String,
        /// Its alternatives.
        names: Vec<InputName>,
    },
    /// These are not there, all must be.
    #[error("`{workflow}` needs {}: give what is missing", list(.names))]
    AllOf {
        /// The workflow.
        workflow: String,
        /// What is missing.
        names: Vec<InputName>,
    },
}

fn list(names: &[InputName]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

impl Workflow {
    /// Whether it needs a repository: as it says, else yes in the domain `coding` and no elsewhere.
    pub fn needs_repo(&self) -> bool {
        self.requires_repo.unwrap_or(match self.domain {
            Domain::Coding => true,
            Domain::Knowledge | Domain::Hybrid => false,
        })
    }

    /// Whether it works on a pull request that is there: `pr_number` is then required, and elsewhere forbidden.
    pub fn takes_pull_request(&self) -> bool {
        let RequiredInputs { one_of, all_of } = &self.required_inputs;
        one_of.iter().chain(all_of).any(|name| *name == InputName::PrNumber)
    }

    /// The first step of a kind.
    pub fn step(&self, kind: StepKind) -> Option<&Step> {
        self.steps.iter().find(|s| s.kind == kind)
    }

    /// What is done about a pull request; `None` without such a step.
    pub fn pr_strategy(&self) -> Option<PrStrategy> {
        self.step(StepKind::EnsurePr).map(|s| s.strategy.unwrap_or_default())
    }

    /// Checks that a submission brings what the workflow needs.
    ///
    /// # Errors
    /// [`MissingInputs`] names what is missing.
    pub fn check_inputs(&self, supplied: SuppliedInputs) -> Result<(), MissingInputs> {
        let RequiredInputs { one_of, all_of } = &self.required_inputs;
        let missing: Vec<InputName> = all_of.iter().copied().filter(|n| !supplied.has(*n)).collect();
        if !missing.is_empty() {
            return Err(MissingInputs::AllOf { workflow: self.id.clone(), names: missing });
        }
        if !one_of.is_empty() && !one_of.iter().any(|n| supplied.has(*n)) {
            return Err(MissingInputs::OneOf { workflow: self.id.clone(), names: one_of.clone() });
        }
        Ok(())
    }

    /// Rule 13: the preferred model is on the platform's allow-list; an empty list allows every model.
    pub fn check_model(&self, allowed: &[String]) -> Option<Violation> {
        let id = &self.agent_config.model.as_ref()?.id;
        if allowed.is_empty() || allowed.contains(id) {
            return None;
        }
        Some(Violation::new(
            ViolationCode::Model,
            "agent_config.model.id",
            format!("`{}` is not a model that this platform allows: allow it, or name another", excerpt(id)),
        ))
    }
}

/// Dollars as a JSON number, read exactly.
mod usd_number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::money::MicroUsd;

    pub(super) fn serialize<S: Serializer>(amount: &Option<MicroUsd>, s: S) -> Result<S::Ok, S::Error> {
        match amount {
            // Exact within the allowed range: the shortest decimal of the nearest float has at most six decimals.
            Some(MicroUsd(micro)) => s.serialize_f64(*micro as f64 / 1e6),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<MicroUsd>, D::Error> {
        Option::<serde_json::Number>::deserialize(d)?
            .map(|n| n.to_string().parse().map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_budget_survives_the_wire_exactly(micro in 10_000u64..=100_000_000) {
            let limits = WorkflowLimits { max_turns: None, max_budget: Some(MicroUsd(micro)) };
            let wire = serde_json::to_string(&limits).unwrap();
            prop_assert_eq!(serde_json::from_str::<WorkflowLimits>(&wire).unwrap(), limits);
        }
    }
}
