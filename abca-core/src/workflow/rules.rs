//! The rules across fields of a workflow file, on the raw JSON: what has the wrong shape counts as absent.

use serde_json::Value;

use super::names::{DeliverTarget, Domain, HydrationSource, InputName, Outcome, PrStrategy, StepKind, Tier};
use super::prompt::TEMPLATES;
use super::registry::{id_major, version_major};
use super::{Violation, ViolationCode as Code, excerpt};

/// Tools that write files.
const MUTATING_TOOLS: [&str; 2] = ["Write", "Edit"];
/// Fields of `agent_config` that need the tier `elevated`.
const ELEVATED_FIELDS: [&str; 3] = ["mcp_servers", "plugins", "skills"];
/// Fields of `agent_config` that hold references, the registry's kinds they may name, and the builtins that exist.
const REFERENCES: [(&str, &[&str]); 6] = [
    ("cedar_policy_modules", &["hard_deny", "soft_deny"]),
    ("mcp_servers", &["linear"]),
    ("skills", &[]),
    ("plugins", &[]),
    ("subagents", &[]),
    ("prompt_fragments", &[]),
];

/// Every rule that a file breaks, in the order of their numbers.
pub(super) fn check(file: &Value) -> Vec<Violation> {
    let file = File(file);
    let mut found = Vec::new();
    file.id_version(&mut found);
    file.one_agent_run(&mut found);
    file.repo_less(&mut found);
    file.read_only(&mut found);
    file.policy_floor(&mut found);
    file.tier_ceiling(&mut found);
    file.repo_config(&mut found);
    file.references(&mut found);
    file.required_inputs(&mut found);
    file.outcome(&mut found);
    file.side_effects(&mut found);
    file.provider(&mut found);
    found
}

/// Lenient reading of a file.
struct File<'a>(&'a Value);

struct RawStep<'a> {
    path: String,
    step: &'a Value,
    kind: Option<&'a str>,
}

impl RawStep<'_> {
    fn is(&self, kind: StepKind) -> bool {
        self.kind == Some(kind.as_str())
    }

    fn known(&self) -> Option<StepKind> {
        self.kind.and_then(StepKind::from_name)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.step.get(field).and_then(Value::as_str)
    }

    /// The target, by default the artifact store; `None` when it names no deliverer.
    fn target(&self) -> Option<DeliverTarget> {
        self.step
            .get("target")
            .map_or(Some(DeliverTarget::default()), |t| t.as_str().and_then(DeliverTarget::from_name))
    }
}

impl<'a> File<'a> {
    fn at(&self, path: &[&str]) -> Option<&'a Value> {
        path.iter().try_fold(self.0, |value, key| value.get(key))
    }

    fn text(&self, path: &[&str]) -> Option<&'a str> {
        self.at(path).and_then(Value::as_str)
    }

    fn list(&self, path: &[&str]) -> &'a [Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The strings of a list, with their places.
    fn texts(&self, path: &[&str]) -> impl Iterator<Item = (String, &'a str)> + use<'a> {
        let at = path.join(".");
        self.list(path).iter().enumerate().filter_map(move |(i, v)| Some((format!("{at}[{i}]"), v.as_str()?)))
    }

    fn has_text(&self, path: &[&str], text: &str) -> bool {
        self.list(path).iter().any(|v| v.as_str() == Some(text))
    }

    fn steps(&self) -> impl Iterator<Item = RawStep<'a>> + use<'a> {
        self.list(&["steps"]).iter().enumerate().map(|(i, step)| RawStep {
            path: format!("steps[{i}]"),
            step,
            kind: step.get("kind").and_then(Value::as_str),
        })
    }

    fn is_read_only(&self) -> bool {
        self.at(&["read_only"]).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether the file is known to need no repository.
    fn is_repo_less(&self) -> bool {
        match self.at(&["requires_repo"]) {
            Some(flag) => flag.as_bool() == Some(false),
            None => match self.text(&["domain"]).and_then(Domain::from_name) {
                Some(Domain::Knowledge | Domain::Hybrid) => true,
                Some(Domain::Coding) | None => false,
            },
        }
    }

    fn id_version(&self, found: &mut Vec<Violation>) {
        let (Some(id), Some(version)) = (self.text(&["id"]), self.text(&["version"])) else { return };
        if let (Some(of_id), Some(of_version)) = (id_major(id), version_major(version))
            && of_id != of_version
        {
            found.push(Violation::new(
                Code::IdVersion,
                "version",
                format!("major version {} does not fit `{}`: make both the same", excerpt(of_version), excerpt(id)),
            ));
        }
    }

    fn one_agent_run(&self, found: &mut Vec<Violation>) {
        let count = self.steps().filter(|s| s.is(StepKind::RunAgent)).count();
        if count != 1 {
            found.push(Violation::new(
                Code::OneAgentRun,
                "steps",
                format!("has {count} steps of kind `run_agent`: declare exactly one"),
            ));
        }
    }

    fn repo_less(&self, found: &mut Vec<Violation>) {
        if !self.is_repo_less() {
            return;
        }
        for step in self.steps() {
            if let Some(kind) = step.known().filter(|k| k.needs_repo()) {
                let message = format!(
                    "`{kind}` needs a repository and this workflow has none: remove it, or set `requires_repo`"
                );
                found.push(Violation::new(Code::RepoLess, step.path, message));
            }
        }
        for (path, source) in self.texts(&["hydration", "sources"]) {
            match HydrationSource::from_name(source) {
                Some(s @ (HydrationSource::Issue | HydrationSource::PullRequest)) => found.push(Violation::new(
                    Code::RepoLess,
                    path,
                    format!("`{s}` needs a repository and this workflow has none: remove it, or set `requires_repo`"),
                )),
                Some(
                    HydrationSource::Memory
                    | HydrationSource::Attachments
                    | HydrationSource::Urls
                    | HydrationSource::TaskDescription,
                )
                | None => {}
            }
        }
    }

    fn read_only(&self, found: &mut Vec<Violation>) {
        if !self.is_read_only() {
            return;
        }
        for (path, tool) in self.texts(&["agent_config", "allowed_tools"]) {
            if MUTATING_TOOLS.contains(&tool) {
                let message = format!("`{tool}` writes files and this workflow is read-only: remove it");
                found.push(Violation::new(Code::ReadOnly, path, message));
            }
        }
        for step in self.steps().filter(|s| s.is(StepKind::EnsurePr)) {
            let strategy = step.text("strategy").map_or(Some(PrStrategy::default()), PrStrategy::from_name);
            match strategy {
                Some(s @ (PrStrategy::Create | PrStrategy::PushResolve)) => found.push(Violation::new(
                    Code::ReadOnly,
                    format!("{}.strategy", step.path),
                    format!("`{s}` pushes and this workflow is read-only: use `resolve`, or remove the step"),
                )),
                Some(PrStrategy::Resolve) | None => {}
            }
        }
    }

    fn policy_floor(&self, found: &mut Vec<Violation>) {
        let path = ["agent_config", "cedar_policy_modules"];
        if !self.is_read_only() && !self.has_text(&path, "builtin/soft_deny") {
            found.push(Violation::new(
                Code::PolicyFloor,
                path.join("."),
                "lacks `builtin/soft_deny`, which a workflow that may write always carries: add it",
            ));
        }
    }

    fn tier_ceiling(&self, found: &mut Vec<Violation>) {
        let tier = match self.text(&["agent_config", "tier"]).and_then(Tier::from_name) {
            Some(Tier::Elevated) | None => return,
            Some(tier @ (Tier::Standard | Tier::ReadOnly)) => tier,
        };
        if tier == Tier::ReadOnly {
            for (path, tool) in self.texts(&["agent_config", "allowed_tools"]) {
                if MUTATING_TOOLS.contains(&tool) {
                    let message = format!("`{tool}` is beyond the tier `read-only`: remove it, or raise the tier");
                    found.push(Violation::new(Code::TierCeiling, path, message));
                }
            }
        }
        for field in ELEVATED_FIELDS {
            let path = ["agent_config", field];
            if !self.list(&path).is_empty() {
                let message = format!("is beyond the tier `{tier}`: remove it, or set the tier `elevated`");
                found.push(Violation::new(Code::TierCeiling, path.join("."), message));
            }
        }
    }

    fn repo_config(&self, found: &mut Vec<Violation>) {
        let Some(config) = self.at(&["repo_config"]).and_then(Value::as_object).filter(|_| self.is_repo_less()) else {
            return;
        };
        // Absent is the default, which is to discover.
        if config.get("discover") != Some(&Value::Bool(false)) {
            let message = "discovers configuration in a repository and this workflow has none: set it to `false`";
            found.push(Violation::new(Code::RepoConfig, "repo_config.discover", message));
        }
        if config.contains_key("provider") {
            let message = "names a provider of repositories and this workflow has none: remove it";
            found.push(Violation::new(Code::RepoConfig, "repo_config.provider", message));
        }
    }

    fn references(&self, found: &mut Vec<Violation>) {
        for step in self.steps() {
            if let (Some(name), None) = (step.kind, step.known()) {
                let message = format!("`{}` has no handler: use one of {}", excerpt(name), StepKind::NAMES.join(", "));
                found.push(Violation::new(Code::References, format!("{}.kind", step.path), message));
            }
            if let (true, Some(target), None) = (step.is(StepKind::DeliverArtifact), step.text("target"), step.target())
            {
                let names = DeliverTarget::NAMES.join(", ");
                let message = format!("`{}` is no place to deliver to: use one of {names}", excerpt(target));
                found.push(Violation::new(Code::References, format!("{}.target", step.path), message));
            }
        }
        for (field, builtins) in REFERENCES {
            for (path, reference) in self.texts(&["agent_config", field]) {
                if let Some(message) = unresolved(reference, builtins) {
                    found.push(Violation::new(Code::References, path, message));
                }
            }
        }
        if let Some(template) = self.text(&["prompt", "template"])
            && (template.starts_with("builtin/") && !TEMPLATES.iter().any(|(name, _)| *name == template)
                || template.starts_with("registry://") && !is_registry_reference(template))
        {
            let message =
                format!("`{}` is no template that exists: use a builtin one, or inline text", excerpt(template));
            found.push(Violation::new(Code::References, "prompt.template", message));
        }
    }

    fn required_inputs(&self, found: &mut Vec<Violation>) {
        let supplied = |input: InputName| self.has_text(&["hydration", "sources"], source_of(input).as_str());
        for (path, name) in self.texts(&["required_inputs", "all_of"]) {
            if let Some(input) = InputName::from_name(name).filter(|i| !supplied(*i)) {
                let message =
                    format!("`{input}` is read by no source: add `{}` to `hydration.sources`", source_of(input));
                found.push(Violation::new(Code::RequiredInputs, path, message));
            }
        }
        let one_of: Vec<InputName> =
            self.texts(&["required_inputs", "one_of"]).filter_map(|(_, name)| InputName::from_name(name)).collect();
        if !one_of.is_empty() && !one_of.iter().any(|i| supplied(*i)) {
            let sources: Vec<_> = one_of.iter().map(|i| source_of(*i).as_str()).collect();
            let message =
                format!("none of them is read by a source: add one of {} to `hydration.sources`", sources.join(", "));
            found.push(Violation::new(Code::RequiredInputs, "required_inputs.one_of", message));
        }
    }

    fn outcome(&self, found: &mut Vec<Violation>) {
        let Some(outcome) = self.text(&["terminal_outcomes", "primary"]).and_then(Outcome::from_name) else { return };
        let produces = |step: &RawStep<'_>| match outcome {
            Outcome::PrUrl => step.is(StepKind::EnsurePr),
            Outcome::ReviewPosted => step.is(StepKind::PostReview),
            Outcome::Artifact | Outcome::Comment => {
                step.is(StepKind::DeliverArtifact) && step.target().is_some_and(|t| t.produces(outcome))
            }
        };
        if !self.steps().any(|s| produces(&s)) {
            let needed = match outcome {
                Outcome::PrUrl => "`ensure_pr`",
                Outcome::ReviewPosted => "`post_review`",
                Outcome::Artifact => "`deliver_artifact` with the target `s3` or `s3_and_comment`",
                Outcome::Comment => "`deliver_artifact` with the target `comment` or `s3_and_comment`",
            };
            let message = format!("no step produces `{outcome}`: add a step {needed}");
            found.push(Violation::new(Code::Outcome, "terminal_outcomes.primary", message));
        }
    }

    fn side_effects(&self, found: &mut Vec<Violation>) {
        for step in self.steps() {
            if let Some(kind) = step.known().filter(|k| k.is_side_effecting())
                && step.text("on_failure") == Some("continue")
            {
                let message = format!("`{kind}` may not fail unnoticed: use `fail` or `skip_remaining`");
                found.push(Violation::new(Code::SideEffect, format!("{}.on_failure", step.path), message));
            }
        }
    }

    fn provider(&self, found: &mut Vec<Violation>) {
        match self.text(&["repo_config", "provider"]) {
            None | Some("github") => {}
            Some(other) => {
                let message = format!(
                    "`{}` is not supported: use `github`, or leave it out for the platform's forge",
                    excerpt(other)
                );
                found.push(Violation::new(Code::Provider, "repo_config.provider", message));
            }
        }
    }
}

/// The source that reads an input.
const fn source_of(input: InputName) -> HydrationSource {
    match input {
        InputName::IssueNumber => HydrationSource::Issue,
        InputName::PrNumber => HydrationSource::PullRequest,
        InputName::TaskDescription => HydrationSource::TaskDescription,
    }
}

/// Why a reference cannot be resolved: neither a builtin that exists nor the registry's form.
fn unresolved(reference: &str, builtins: &[&str]) -> Option<String> {
    let known = match reference.strip_prefix("builtin/") {
        Some(name) => builtins.contains(&name),
        None => is_registry_reference(reference),
    };
    if known {
        return None;
    }
    let known = if builtins.is_empty() {
        String::new()
    } else {
        format!("one of {}, or ", builtins.iter().map(|b| format!("`builtin/{b}`")).collect::<Vec<_>>().join(", "))
    };
    Some(format!("`{}` does not resolve: use {known}`registry://kind/name`", excerpt(reference)))
}

/// `registry://kind/name`, or `registry://kind/namespace/name@constraint` with an exact, `^` or `~` version.
fn is_registry_reference(reference: &str) -> bool {
    let Some(rest) = reference.strip_prefix("registry://") else { return false };
    let (path, constraint) = rest.split_once('@').map_or((rest, None), |(p, c)| (p, Some(c)));
    let segment = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    };
    let pinned = constraint.is_none_or(|c| {
        let version = c.strip_prefix(['^', '~']).unwrap_or(c);
        semver::Version::parse(version).is_ok_and(|v| v.build.is_empty())
    });
    matches!(path.split('/').count(), 2 | 3) && path.split('/').all(segment) && pinned
}
