//! The workflow's block of the system prompt: its text, and its placeholders filled in.

use std::collections::BTreeMap;

use super::Workflow;

/// Prompt templates that ship, by reference.
pub(super) const TEMPLATES: [(&str, &str); 1] =
    [("builtin/coding_new_task", include_str!("shipped/coding-new-task-v1.md"))];

/// Why a workflow's prompt block cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A declared placeholder has no value.
    #[error("the prompt of `{workflow}` needs a value for its placeholder `{name}`")]
    MissingPlaceholder {
        /// Whose prompt.
        workflow: String,
        /// Which placeholder.
        name: String,
    },
    /// The template is a reference that this version cannot resolve.
    #[error(
        "the prompt template `{template}` of `{workflow}` cannot be resolved: use a builtin template or inline text"
    )]
    UnknownTemplate {
        /// Whose prompt.
        workflow: String,
        /// Which reference.
        template: String,
    },
}

impl Workflow {
    /// The text of the prompt block before its placeholders are filled: a shipped template, or the inline text.
    ///
    /// # Errors
    /// [`PromptError::UnknownTemplate`] when the template is a reference that cannot be resolved.
    pub fn prompt_block(&self) -> Result<&str, PromptError> {
        let template = self.prompt.template.as_str();
        match TEMPLATES.iter().find(|(name, _)| *name == template) {
            Some((_, text)) => Ok(text),
            None if template.starts_with("builtin/") || template.starts_with("registry://") => {
                Err(PromptError::UnknownTemplate { workflow: self.id.clone(), template: template.to_owned() })
            }
            None => Ok(template),
        }
    }

    /// The prompt block with its declared placeholders, written `{name}`, filled from `values`.
    ///
    /// # Errors
    /// [`PromptError`] when a declared placeholder has no value, or the template cannot be resolved.
    pub fn render_prompt(&self, values: &BTreeMap<&str, &str>) -> Result<String, PromptError> {
        let block = self.prompt_block()?;
        let mut declared = BTreeMap::new();
        for name in &self.prompt.placeholders {
            let value = values
                .get(name.as_str())
                .ok_or_else(|| PromptError::MissingPlaceholder { workflow: self.id.clone(), name: name.clone() })?;
            declared.insert(name.as_str(), *value);
        }
        Ok(render(block, &declared))
    }
}

/// Replaces each `{name}` that has a value, in one pass: values are never expanded again, and every other brace stays.
/// A name holds no brace.
pub fn render(template: &str, values: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(template.len());
    // Nothing is looked at twice: an opening brace looks for its closing one only as far as the next opening one.
    let mut pieces = template.split('{');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.split_once('}').and_then(|(name, tail)| values.get(name).map(|value| (value, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                out.push_str(tail);
            }
            None => {
                out.push('{');
                out.push_str(piece);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{NEEDS_INPUT_MARKER, resolve};

    #[test]
    fn values_are_not_expanded_again_and_other_braces_stay() {
        let values = BTreeMap::from([("a", "{b}"), ("b", "2")]);
        assert_eq!(render("{a} {b} {c} {{b}} { {a", &values), "{b} 2 {c} {2} { {a");
    }

    #[test]
    fn a_template_of_braces_alone_is_kept_but_for_the_last_name() {
        let values = BTreeMap::from([("a", "1"), ("", "empty"), ("{", "never")]);
        let open = "{".repeat(200_000);
        assert_eq!(render(&open, &values), open);
        assert_eq!(render(&format!("{open}{{a}}"), &values), format!("{open}1"));
        assert_eq!(render(&format!("{open}}}{{a"), &values), format!("{}empty{{a", "{".repeat(199_999)));
    }

    #[test]
    fn the_shipped_block_needs_its_placeholders_and_leaves_none() {
        let workflow = resolve(None, true).unwrap();
        let mut values = BTreeMap::from([("branch_name", "bgagent/x/y"), ("needs_input_marker", NEEDS_INPUT_MARKER)]);
        let missing = workflow.render_prompt(&values).unwrap_err().to_string();
        assert_eq!(missing, "the prompt of `coding/new-task-v1` needs a value for its placeholder `default_branch`");
        values.insert("default_branch", "main");
        let text = workflow.render_prompt(&values).unwrap();
        assert!(text.contains("`[[ABCA_NEEDS_INPUT]]`") && text.contains("`bgagent/x/y`"), "{text}");
        assert!(!text.contains('{'), "{text}");
    }
}
