//! The policy of sessions that were given no engine of the embedder's.

use std::sync::Arc;

use abca_core::policy::{Judgement, PathResolver, PolicyEngine, PolicyError, PolicyRequest, PolicySettings};
use async_trait::async_trait;
use serde_json::Value;

/// The policy of sessions that were given no engine: Cedar with the built-in policies and these settings where the feature
/// `cedar` is on, else [`DefaultPolicy`].
///
/// # Errors
/// [`PolicyErrorKind::Policies`](abca_core::policy::PolicyErrorKind::Policies) for a policy that cannot be used; without
/// the feature for any settings at all.
#[cfg(feature = "cedar")]
pub(crate) fn usual_policy(settings: &PolicySettings) -> Result<Arc<dyn PolicyEngine>, PolicyError> {
    Ok(Arc::new(abca_core::policy::cedar::CedarPolicy::load(settings)?))
}

/// Without the feature `cedar` there is nothing that could read policies.
#[cfg(not(feature = "cedar"))]
pub(crate) fn usual_policy(settings: &PolicySettings) -> Result<Arc<dyn PolicyEngine>, PolicyError> {
    if settings.is_empty() {
        return Ok(Arc::new(DefaultPolicy));
    }
    let text = "policies were given and this program is built without the feature `cedar`, which reads them";
    Err(PolicyError::new(abca_core::policy::PolicyErrorKind::Policies, "load", text))
}

/// Structure only, no judgement of commands: the walls of the hands are what holds a command in.
///
/// * A read-only workflow writes no file through a tool.
/// * No tool writes git's own files; commits are made by git.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultPolicy;

#[async_trait]
impl PolicyEngine for DefaultPolicy {
    fn name(&self) -> &'static str {
        "default"
    }

    async fn judge(&self, request: &PolicyRequest, _paths: &dyn PathResolver) -> Result<Judgement, PolicyError> {
        let writes = matches!(request.tool.as_str(), "Write" | "Edit");
        if writes && request.read_only {
            return Ok(Judgement::deny("read_only", "this workflow is read-only: it may not change files"));
        }
        if writes
            && let Some(path) = request.input.get("file_path").and_then(Value::as_str)
            && path.split('/').any(|part| part == ".git")
        {
            return Ok(Judgement::deny("git_internals", "files under `.git` are git's own: use git commands"));
        }
        Ok(Judgement::allow())
    }
}

#[cfg(test)]
mod tests {
    use abca_core::policy::LexicalPaths;
    use abca_core::{TaskId, Timestamp};
    use serde_json::json;

    use super::*;

    async fn judged(tool: &str, input: Value, read_only: bool) -> &'static str {
        let request = PolicyRequest {
            task: TaskId::from_parts(Timestamp::from_millis(0), 0),
            workflow: "coding/new-task-v1".to_owned(),
            repo: "o/r".to_owned(),
            branch: "bgagent/1/x".to_owned(),
            base_branch: "main".to_owned(),
            tool: tool.to_owned(),
            input,
            read_only,
            tainted: false,
        };
        DefaultPolicy.judge(&request, &LexicalPaths::default()).await.unwrap().decision.as_str()
    }

    #[tokio::test]
    async fn git_internals_and_read_only_trees_are_not_written() {
        assert_eq!(judged("Write", json!({"file_path": "a/.git/config"}), false).await, "deny");
        assert_eq!(judged("Edit", json!({"file_path": "src/a.rs"}), true).await, "deny");
        assert_eq!(judged("Write", json!({"file_path": ".gitignore"}), false).await, "allow");
        assert_eq!(judged("Read", json!({"file_path": ".git/config"}), true).await, "allow");
    }
}
