//! The prompt's version: 12 hex characters that change when any text of the prompt does.
//!
//! SHA-256 over length-prefixed parts, in this order:
//!
//! 1. the scheme, `abca-prompt-1`;
//! 2. the system prompt as [`SystemPrompt::render`] writes it, with the task's own facts replaced by fixed ones: the task
//!    id, its branch, and what was found before the work. So all templates, the workflow's block, the overrides, the project
//!    files as far as they are shown, the branch that the work starts from and the turn cap are in it;
//! 3. name and command of each configured check;
//! 4. the wordings for what can be found before the work, and the fixed texts of the user prompt;
//! 5. name, description and schema of each tool, in order.
//!
//! Not in it: task id, branch, results of checks, and the issue, comments, description and memories of the user prompt.
//! So two tasks of the same configuration share a version, and any edit of a prompt's text changes it.

use sha2::{Digest, Sha256};

use super::hydrate;
use super::system::{SystemPrompt, every_wording};
use crate::model::ToolSpec;

/// Length of a version in characters.
const LEN: usize = 12;

impl SystemPrompt<'_> {
    /// The version of the prompt with these tools; see the module's words for what it covers.
    pub fn version(&self, tools: &[ToolSpec]) -> String {
        let wordings = every_wording();
        let common = SystemPrompt { task_id: "{task_id}", branch: "{branch_name}", verification: &wordings, ..*self };
        let mut hash = Sha256::new();
        feed(&mut hash, "abca-prompt-1");
        feed(&mut hash, &common.render());
        // The section reads differently where no check is configured.
        feed(&mut hash, &SystemPrompt { verification: &[], ..common }.render());
        count(&mut hash, self.verification.len());
        for v in self.verification {
            feed(&mut hash, &v.name);
            feed(&mut hash, &v.command);
        }
        hydrate::templates().iter().for_each(|text| feed(&mut hash, text));
        count(&mut hash, tools.len());
        for tool in tools {
            feed(&mut hash, &tool.name);
            feed(&mut hash, &tool.description);
            feed(&mut hash, &tool.input_schema.to_string());
        }
        let mut out = String::with_capacity(LEN);
        for byte in hash.finalize().iter().take(LEN / 2) {
            out.push_str(&format!("{byte:02x}"));
        }
        out
    }
}

fn count(hash: &mut Sha256, n: usize) {
    hash.update(u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes());
}

fn feed(hash: &mut Sha256, text: &str) {
    count(hash, text.len());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compute::NetworkMode;
    use crate::task::{CheckResult, Verification};

    fn check(command: &str, before: Option<CheckResult>) -> Vec<Verification> {
        vec![Verification {
            name: "test".into(),
            command: command.into(),
            before,
            after: None,
            output_tail: "x".into(),
        }]
    }

    fn tool(description: &str) -> Vec<ToolSpec> {
        let input_schema = json!({ "type": "object" });
        vec![ToolSpec { name: "Bash".into(), description: description.into(), input_schema }]
    }

    const PROMPT: SystemPrompt<'static> = SystemPrompt {
        workflow_block: "Work on `{branch_name}`.",
        branch: "bgagent/1/a",
        base_branch: "main",
        task_id: "1",
        max_turns: 10,
        verification: &[],
        project_files: &[],
        overrides: None,
        read_only: false,
        network: NetworkMode::Off,
    };

    #[test]
    fn two_tasks_of_one_configuration_share_it() {
        let (one, two) = (check("make", Some(CheckResult::Passed)), check("make", Some(CheckResult::Failed)));
        let a = SystemPrompt { verification: &one, ..PROMPT };
        let b = SystemPrompt { task_id: "2", branch: "bgagent/2/b", verification: &two, ..PROMPT };
        assert_ne!(a.render(), b.render());
        assert_eq!(a.version(&tool("x")), b.version(&tool("x")));
        let version = a.version(&tool("x"));
        assert!(version.len() == LEN && version.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{version}");
    }

    #[test]
    fn every_part_of_a_configuration_changes_it() {
        let files = vec![("CLAUDE.md".to_owned(), "Use tabs.".to_owned())];
        let settings = vec![(".claude/settings.json".to_owned(), r#"{"permissions":{"deny":["Edit"]}}"#.to_owned())];
        let (make, just) = (check("make", None), check("just", None));
        let prompts = [
            PROMPT,
            SystemPrompt { workflow_block: "Work on `{branch_name}`!", ..PROMPT },
            SystemPrompt { workflow_block: "Work on `bgagent/1/a`.", ..PROMPT },
            SystemPrompt { base_branch: "dev", ..PROMPT },
            SystemPrompt { max_turns: 11, ..PROMPT },
            SystemPrompt { network: NetworkMode::Host, ..PROMPT },
            SystemPrompt { verification: &make, ..PROMPT },
            SystemPrompt { verification: &just, ..PROMPT },
            SystemPrompt { project_files: &files, ..PROMPT },
            SystemPrompt { project_files: &settings, ..PROMPT },
            SystemPrompt { overrides: Some("Be brief."), ..PROMPT },
            SystemPrompt { read_only: true, ..PROMPT },
        ];
        let mut seen: Vec<String> = prompts.iter().map(|p| p.version(&tool("x"))).collect();
        seen.push(PROMPT.version(&tool("y")));
        seen.push(PROMPT.version(&[]));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
