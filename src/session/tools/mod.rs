//! The tools of a session: what the model is told of them, how its calls are read, and what they do.
//!
//! Names and arguments are those of Claude Code, which models know. `Bash` and its companions, `Read`, `Write`, `Edit`,
//! `Glob` and `Grep` run in the hands; `TodoWrite` touches nothing and is answered here. Results are text of at most
//! [`MAX_RESULT_CHARS`] characters, or an image.

mod edit;
pub(crate) mod files;
mod glob;
mod grep;
mod image;
mod parse;
mod path;
mod read;
mod request;
mod run;
mod shell;
mod spec;
mod text;
mod todo;
mod walk;
mod write;

pub(crate) use image::of_base64 as image_of;
pub use parse::{parse, parse_allowed};
pub(crate) use path::Place;
pub use request::{
    BashArgs, BashOutputArgs, EditArgs, GlobArgs, GrepArgs, GrepMode, KillShellArgs, ReadArgs, Todo, TodoStatus,
    TodoWriteArgs, ToolRequest, WebFetchArgs, WriteArgs,
};
pub(crate) use run::{Made, run_here};
pub use run::{ToolOutcome, run};
pub(crate) use shell::{shell_killed, shell_news, shell_started};
pub use spec::{offered, specs};
pub use todo::Todos;

/// Longest text of a tool result, in characters.
pub const MAX_RESULT_CHARS: usize = 30_000;
/// Longest `content` of `Write`, and `old_string` and `new_string` of `Edit`, in bytes.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Longest command line of `Bash`, in bytes: Linux takes at most 128 KiB for one argument.
pub const MAX_COMMAND_BYTES: usize = 100 << 10;
/// Time limit of `Bash` when the model says none.
pub const DEFAULT_TIMEOUT_MS: u64 = 120_000;
/// Longest time limit of `Bash`.
pub const MAX_TIMEOUT_MS: u64 = 600_000;
/// Largest image, in bytes of base64: the limit of the providers, 5 MiB.
pub const MAX_IMAGE_BASE64_BYTES: usize = 5 << 20;
