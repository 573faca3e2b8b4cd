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

mod deny;
mod hydrate;
mod markdown;
mod pr_body;
mod project;
mod settings;
mod system;
mod version;

pub use deny::{DenyRule, InvalidRule};
pub use hydrate::{Hydrated, HydrationInput, MEMORY_BUDGET_TOKENS, PROMPT_BUDGET_TOKENS, Trust, hydrate_with};
pub use pr_body::{PullRequestText, TitleAndBody, pull_request_text, task_of};
pub use project::{PROJECT_FILE_CHARS, PROJECT_FILES_CHARS};
pub use settings::{ProjectSettings, SETTINGS_PATH, denied_tools};
pub use system::SystemPrompt;
