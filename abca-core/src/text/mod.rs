//! Texts: their length, and cutting them. Everything here takes time linear in its input.

mod clip;
mod screen;
mod tokens;

pub use clip::{clip_head, clip_middle, clip_tail, preview};
pub use screen::{Finding, Screen, Screened};
pub use tokens::{estimate, utf16_len};
