//! Texts: their length, cutting them, and cleaning what came from outside. Everything here takes time linear in its input.

mod clip;
mod sanitize;
mod screen;
mod tokens;

pub use clip::{clip_head, clip_middle, clip_tail, preview};
pub use sanitize::sanitize;
pub use screen::{Finding, Screen, Screened};
pub use tokens::{estimate, utf16_len};
