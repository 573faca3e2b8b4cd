//! Prompts: what the model is told, which version of it that was, and what the pull request says in the end.
//!
//! Everything is a pure function of its input, in time linear in it: equal input gives equal text, on any machine.
//!
//! | item | one sentence |
//! | --- | --- |
//! | [`hydrate_with`] | the first user message, from issue, comments, description and memories |
//! | [`SystemPrompt`] | the system prompt, and the version of the whole |
//! | [`ProjectSettings`], [`DenyRule`] | what of `.claude/settings.json` bears on a session |
//! | [`pull_request_text`] | title and body of the pull request |
//! | [`title_of_task`] | its title when no commit gives one |

mod deny;
mod hydrate;
mod markdown;
mod pr_body;
mod project;
mod settings;
mod system;
mod title;
mod version;

pub use deny::{DenyRule, InvalidRule};
pub use hydrate::{
    Hydrated, HydrationInput, MEMORY_BUDGET_TOKENS, PROMPT_BUDGET_TOKENS, Trust, from_outside, hydrate_with, web_page,
};
pub use pr_body::{PullRequestText, TitleAndBody, pull_request_text, task_of};
pub use project::{PROJECT_FILE_CHARS, PROJECT_FILES_CHARS};
pub use settings::{ProjectSettings, SETTINGS_PATH, denied_tools};
pub use system::SystemPrompt;
pub use title::title_of_task;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compute::NetworkMode;
    use crate::id::TaskId;
    use crate::money::MicroUsd;
    use crate::task::{DiffStat, Verification};
    use crate::text::utf16_len;
    use crate::time::Timestamp;

    /// Long runs of what parsers choke on: anything worse than linear would not end.
    #[test]
    fn hostile_runs_end() {
        let task_id = TaskId::from_parts(Timestamp::from_millis(0), 7);
        for piece in ["`", "``` ", "<a", "@", "fix: ", "fix:#", "external_content", "project_file", "\n", "[x](", "👀"]
        {
            let text = piece.repeat(300_000 / piece.len());
            let comments: Vec<crate::git::Comment> = (0..200)
                .map(|id| crate::git::Comment {
                    id,
                    number: 1,
                    body: text.chars().take(10_000).collect(),
                    author: "a".into(),
                    created_at: Timestamp::from_millis(0),
                })
                .collect();
            let issue = crate::git::Issue {
                number: 1,
                url: String::new(),
                title: text.clone(),
                body: text.clone(),
                open: true,
                author: text.clone(),
                created_at: Timestamp::from_millis(0),
            };
            let input = HydrationInput {
                task_id,
                repo: None,
                issue: Some(issue),
                comments,
                description: Some("x".into()),
                memory: vec![text.clone()],
                budget_tokens: PROMPT_BUDGET_TOKENS,
            };
            let hydrated = hydrate_with(&input, str::to_owned);
            assert!(hydrated.token_estimate <= PROMPT_BUDGET_TOKENS, "{piece}: {}", hydrated.token_estimate);
            let files = vec![
                ("CLAUDE.md".to_owned(), text.clone()),
                (
                    SETTINGS_PATH.to_owned(),
                    format!("{{\"permissions\":{{\"deny\":[\"Bash({})\"]}}}}", "*a".repeat(200)),
                ),
            ];
            let verification = [Verification {
                name: text.clone(),
                command: text.clone(),
                before: None,
                after: None,
                output_tail: String::new(),
            }];
            let prompt = SystemPrompt {
                workflow_block: &text,
                branch: "b",
                base_branch: "main",
                task_id: "1",
                max_turns: 1,
                verification: &verification,
                project_files: &files,
                overrides: Some(&text),
                read_only: false,
                network: NetworkMode::Off,
            };
            assert!(prompt.render().len() > text.trim().len());
            let command = serde_json::json!({ "command": format!("{}a", text.replace('`', "a")) });
            let settings = ProjectSettings::of(&files);
            assert_eq!(settings.denying("Bash", &command, "/w").is_some(), piece.contains(['a', '`']), "{piece}");
        }
    }

    proptest! {
        #[test]
        fn a_body_always_fits_and_ends_in_its_marker(description in "(?s).{0,400}", subject in ".{0,300}", notes in "(?s).{0,400}") {
            let task = TaskId::from_parts(Timestamp::from_millis(0), 7);
            let got = pull_request_text(&PullRequestText {
                task,
                attempt: 1,
                issue_number: None,
                description: Some(&description),
                title: &subject,
                commits: std::slice::from_ref(&subject),
                verification: &[],
                diff: DiffStat::default(),
                cost: MicroUsd::ZERO,
                turns: 1,
                model: None,
                prompt_version: "",
                notes: &notes,
            });
            prop_assert!(utf16_len(&got.body) <= 65_536);
            prop_assert!(!got.title.is_empty() && got.title.chars().count() <= 256 && !got.title.chars().any(char::is_control));
            prop_assert_eq!(task_of(&got.body), Some((task, 1)));
            prop_assert_eq!(got.body.matches("<!--").count(), 1);
        }
    }
}
