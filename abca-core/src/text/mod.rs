//! Texts: their length, cutting them, and cleaning what came from outside. Everything here takes time linear in its input.

mod clip;
mod reveal;
mod sanitize;
mod screen;
mod tokens;

pub use clip::{clip_head, clip_middle, clip_tail, preview};
pub use reveal::reveal;
#[cfg(test)]
pub(crate) use sanitize::seen;
pub use sanitize::{Change, ChangeKind, MAX_CHANGES, Sanitized, sanitize, sanitized, without_word};
pub use screen::{
    Checksum, Finding, MAX_PATTERN_BYTES, MAX_REACH_BYTES, MIN_KEYWORD_BYTES, PersonalData, Rule, RuleError, RuleKind,
    RulePlace, Screen, ScreenBuilder, ScreenConfig, ScreenStream, Screened, Severity, Tail, summary,
};
pub use tokens::{estimate, utf16_len};
