//! The guardrail in the real path: what it is, from settings; and what stands before submissions, prompts and nudges.

mod guard;
mod settings;

pub use guard::Guard;
pub use settings::GuardrailSettings;
