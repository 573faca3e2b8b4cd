//! The workflows that ship, and how a submission refers to one.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::{LifeCycle, Violation, ViolationCode, Workflow, excerpt};

const NEW_TASK: &str = "coding/new-task-v1";
const DEFAULT_AGENT: &str = "default/agent-v1";

/// The files that ship. A test holds every one of them valid; one that were not would be unknown to [`resolve`].
const FILES: [&str; 1] = [include_str!("shipped/coding-new-task-v1.json")];

/// Workflows of the reference platform that this version does not have yet.
const NOT_BUILT: [&str; 5] =
    ["coding/pr-iteration-v1", "coding/pr-review-v1", "coding/restack-v1", DEFAULT_AGENT, "knowledge/web-research-v1"];

static SHIPPED: LazyLock<Vec<Workflow>> = LazyLock::new(|| {
    FILES
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok())
        .filter_map(|file| Workflow::from_value(&file).ok())
        .collect()
});

/// The workflows that ship with this version.
pub fn shipped() -> &'static [Workflow] {
    &SHIPPED
}

/// A submission's reference to a workflow: `domain/name-vN`, optionally `@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkflowRef {
    id: String,
    version: Option<String>,
}

impl WorkflowRef {
    /// `domain/name-vN`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `major.minor.patch`, when it names a version.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl FromStr for WorkflowRef {
    type Err = ResolveError;

    fn from_str(text: &str) -> Result<Self, ResolveError> {
        let (id, version) = text.split_once('@').map_or((text, None), |(id, version)| (id, Some(version)));
        if split_id(id).is_none() || !version.is_none_or(is_version) {
            return Err(ResolveError::Grammar { text: excerpt(text) });
        }
        Ok(Self { id: id.to_owned(), version: version.map(str::to_owned) })
    }
}

impl fmt::Display for WorkflowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// Why a reference resolves to no workflow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The text is no reference.
    #[error(
        "`{text}` is not a workflow reference: write `domain/name-vN`, e.g. `coding/new-task-v1`, optionally with `@version`"
    )]
    Grammar {
        /// The text.
        text: String,
    },
    /// No workflow has this id.
    #[error("there is no workflow `{id}`: use one of {}", known())]
    Unknown {
        /// The id.
        id: String,
    },
    /// The workflow is there, in another version.
    #[error("`{id}` is version {shipped}, not {asked}: write `{id}@{shipped}`, or leave the version out")]
    OtherVersion {
        /// The id.
        id: String,
        /// The version that was asked for.
        asked: String,
        /// The version that is there.
        shipped: String,
    },
    /// The reference platform has this workflow, this version of abca has not.
    #[error("the workflow `{id}` is not available in this version of abca: use one of {}", known())]
    NotBuilt {
        /// The id.
        id: String,
    },
    /// Neither a workflow nor a repository was named, and the workflow without a repository is not available.
    #[error(
        "a task without a repository needs the workflow `default/agent-v1`, which is not available in this version of abca: name a repository"
    )]
    RepoNeeded,
}

fn known() -> String {
    shipped().iter().map(|w| format!("`{}`", w.id)).collect::<Vec<_>>().join(", ")
}

/// Finds the workflow that a submission refers to. Without a reference it is `coding/new-task-v1` when there is a
/// repository; without either it would be `default/agent-v1`, which this version does not have.
///
/// # Errors
/// [`ResolveError`] when the reference is malformed, or names what is not there.
pub fn resolve(workflow_ref: Option<&str>, has_repo: bool) -> Result<&'static Workflow, ResolveError> {
    let wanted: WorkflowRef = match workflow_ref {
        Some(text) => text.parse()?,
        None if has_repo => WorkflowRef { id: NEW_TASK.to_owned(), version: None },
        None => return Err(ResolveError::RepoNeeded),
    };
    let Some(workflow) = shipped().iter().find(|w| w.id == wanted.id && w.status == LifeCycle::Production) else {
        let id = excerpt(&wanted.id);
        return Err(match NOT_BUILT.contains(&wanted.id.as_str()) {
            true => ResolveError::NotBuilt { id },
            false => ResolveError::Unknown { id },
        });
    };
    match wanted.version {
        Some(asked) if asked != workflow.version => {
            Err(ResolveError::OtherVersion { id: wanted.id, asked: excerpt(&asked), shipped: workflow.version.clone() })
        }
        _ => Ok(workflow),
    }
}

/// Rule 10: of each id, at most one version is in production.
pub fn check_lineages(workflows: &[Workflow]) -> Vec<Violation> {
    let production = |w: &&Workflow| w.status == LifeCycle::Production;
    let mut found = Vec::new();
    for (i, workflow) in workflows.iter().enumerate().filter(|(_, w)| production(w)) {
        if workflows.iter().take(i).filter(production).any(|w| w.id == workflow.id) {
            let message = format!("`{}` is in production in two versions: deprecate one", excerpt(&workflow.id));
            found.push(Violation::new(ViolationCode::OneProduction, format!("[{i}].status"), message));
        }
    }
    found
}

/// Domain, name and major number of an id `domain/name-vN`: lower case, digits, hyphens between them.
pub(super) fn split_id(id: &str) -> Option<(&str, &str, &str)> {
    let (domain, rest) = id.split_once('/')?;
    let (name, major) = rest.rsplit_once("-v")?;
    let words = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.split('-').all(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    };
    (id.len() <= 128 && words(domain) && words(name) && is_number(major)).then_some((domain, name, major))
}

/// Whether it is `major.minor.patch` in digits.
pub(super) fn is_version(version: &str) -> bool {
    version.split('.').count() == 3 && version.split('.').all(is_number)
}

/// A decimal number without leading zeros, as semantic versions want it, that fits 64 bits.
fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) && text.parse::<u64>().is_ok()
}

/// The N of an id's `-vN`, also of an id that is otherwise malformed.
pub(super) fn id_major(id: &str) -> Option<&str> {
    id.rsplit_once("-v").map(|(_, major)| major).filter(|major| is_number(major))
}

/// The major number of a version, also of one that is otherwise malformed.
pub(super) fn version_major(version: &str) -> Option<&str> {
    version.split('.').next().filter(|major| is_number(major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_file_is_valid_and_in_production_once() {
        for text in FILES {
            let file = serde_json::from_str(text).unwrap();
            assert_eq!(crate::workflow::validate(&file), []);
        }
        assert_eq!(shipped().len(), FILES.len());
        assert_eq!(check_lineages(shipped()), []);
    }

    #[test]
    fn two_versions_in_production_are_found() {
        let one = shipped().first().unwrap().clone();
        let mut two = one.clone();
        two.version = "1.1.0".to_owned();
        let found = check_lineages(&[one.clone(), two.clone()]);
        assert_eq!(found.iter().map(|v| v.code).collect::<Vec<_>>(), [ViolationCode::OneProduction]);
        two.status = LifeCycle::Deprecated;
        assert_eq!(check_lineages(&[one, two]), []);
    }

    #[test]
    fn a_reference_resolves_or_says_why_not() {
        let id = |r: Option<&str>| resolve(r, true).map(|w| w.id.as_str());
        assert_eq!(id(None), Ok("coding/new-task-v1"));
        assert_eq!(id(Some("coding/new-task-v1")), Ok("coding/new-task-v1"));
        assert_eq!(id(Some("coding/new-task-v1@1.0.0")), Ok("coding/new-task-v1"));
        assert_eq!(resolve(None, false), Err(ResolveError::RepoNeeded));
        for text in [
            "",
            "new-task-v1",
            "coding/new-task",
            "Coding/new-task-v1",
            "coding/new_task-v1",
            "coding/-v1",
            "coding/a--b-v1",
            "coding/new-task-v1@",
            "coding/new-task-v1@ 1.0.0",
            "coding/new-task-v1@1.0",
            "coding/new-task-v1@01.0.0",
            "a/b/c-v1",
            "coding/new-task-v1 ",
            "coding/new-task-v01",
        ] {
            assert_eq!(id(Some(text)), Err(ResolveError::Grammar { text: text.to_owned() }), "{text}");
        }
        assert_eq!(
            id(Some("coding/new-task-v2")).unwrap_err().to_string(),
            "there is no workflow `coding/new-task-v2`: use one of `coding/new-task-v1`"
        );
        assert_eq!(
            id(Some("coding/new-task-v1@1.0.1")).unwrap_err().to_string(),
            "`coding/new-task-v1` is version 1.0.0, not 1.0.1: write `coding/new-task-v1@1.0.0`, or leave the version out"
        );
        for not_built in NOT_BUILT {
            assert_eq!(id(Some(not_built)), Err(ResolveError::NotBuilt { id: not_built.to_owned() }));
        }
    }
}
