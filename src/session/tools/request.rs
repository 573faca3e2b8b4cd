//! Tool calls as types.

use std::collections::BTreeMap;

use abca_core::Millis;
use serde::{Deserialize, Serialize};

use super::DEFAULT_TIMEOUT_MS;
use crate::session::hands::{DEFAULT_OUTPUT_BYTES, ExecRequest, Program};

/// A tool call whose arguments are of the right shape and within the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRequest {
    /// Run a command line.
    Bash(BashArgs),
    /// What a background command has said since.
    BashOutput(BashOutputArgs),
    /// Stop a background command.
    KillShell(KillShellArgs),
    /// Show a file.
    Read(ReadArgs),
    /// Write a whole file.
    Write(WriteArgs),
    /// Replace text in a file.
    Edit(EditArgs),
    /// Find files by name.
    Glob(GlobArgs),
    /// Find text in files.
    Grep(GrepArgs),
    /// Get a page of the web. Runs in the brain, not in the hands.
    WebFetch(WebFetchArgs),
    /// Note what is to do.
    TodoWrite(TodoWriteArgs),
}

impl ToolRequest {
    /// The tool's name, as the model knows it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bash(_) => "Bash",
            Self::BashOutput(_) => "BashOutput",
            Self::KillShell(_) => "KillShell",
            Self::Read(_) => "Read",
            Self::Write(_) => "Write",
            Self::Edit(_) => "Edit",
            Self::Glob(_) => "Glob",
            Self::Grep(_) => "Grep",
            Self::WebFetch(_) => "WebFetch",
            Self::TodoWrite(_) => "TodoWrite",
        }
    }
}

/// Arguments of `Bash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashArgs {
    /// The command line.
    pub command: String,
    /// Its time limit.
    pub timeout_ms: Millis,
    /// What the model says it does.
    pub description: Option<String>,
    /// Do not wait for it. The time limit does not apply then.
    pub run_in_background: bool,
    /// Variables over those of the hands. Not the model's to say: they are the project's.
    pub env: BTreeMap<String, String>,
}

impl BashArgs {
    /// A command line with the default time limit.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            timeout_ms: Millis(DEFAULT_TIMEOUT_MS),
            description: None,
            run_in_background: false,
            env: BTreeMap::new(),
        }
    }

    pub(crate) fn exec(&self) -> ExecRequest {
        ExecRequest {
            program: Program::Shell(self.command.clone()),
            cwd: None,
            env: self.env.clone(),
            timeout_ms: (!self.run_in_background).then_some(self.timeout_ms),
            stdin: Vec::new(),
            output_bytes: DEFAULT_OUTPUT_BYTES,
            merge_stderr: true,
        }
    }
}

/// Arguments of `WebFetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebFetchArgs {
    /// The page's address.
    pub url: String,
    /// Characters of its text to leave out.
    pub offset: u64,
}

/// Arguments of `BashOutput`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashOutputArgs {
    /// The background command.
    pub bash_id: String,
}

/// Arguments of `KillShell`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillShellArgs {
    /// The background command.
    pub shell_id: String,
}

/// Arguments of `Read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadArgs {
    /// The file.
    pub file_path: String,
    /// First line, from 1.
    pub offset: u64,
    /// Most lines.
    pub limit: u64,
}

/// Arguments of `Write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteArgs {
    /// The file.
    pub file_path: String,
    /// All of its content.
    pub content: String,
}

/// Arguments of `Edit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditArgs {
    /// The file.
    pub file_path: String,
    /// What to replace.
    pub old_string: String,
    /// What by.
    pub new_string: String,
    /// Every occurrence, not the only one.
    pub replace_all: bool,
}

/// Arguments of `Glob`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobArgs {
    /// The pattern, relative to `path`.
    pub pattern: String,
    /// The folder; default the work tree.
    pub path: Option<String>,
}

/// What `Grep` shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrepMode {
    /// Matching lines.
    Content,
    /// Paths of files that match.
    #[default]
    FilesWithMatches,
    /// How many lines match, per file.
    Count,
}

/// Arguments of `Grep`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrepArgs {
    /// A regular expression of the `regex` crate.
    pub pattern: String,
    /// A file or folder; default the work tree.
    pub path: Option<String>,
    /// Only files whose name or path matches.
    pub glob: Option<String>,
    /// Only files of a type, as ripgrep names them.
    pub file_type: Option<String>,
    /// What to show.
    pub mode: GrepMode,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Line numbers.
    pub line_numbers: bool,
    /// Lines shown before each match.
    pub before: u64,
    /// Lines shown after each match.
    pub after: u64,
    /// Most lines or files to show; zero is no limit but the text's.
    pub head_limit: u64,
    /// Lines or files to leave out first.
    pub offset: u64,
    /// A match may span lines.
    pub multiline: bool,
}

/// Arguments of `TodoWrite`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TodoWriteArgs {
    /// The whole list.
    pub todos: Vec<Todo>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Todo {
    /// What, as an order: `run the tests`.
    pub content: String,
    /// How far.
    pub status: TodoStatus,
    /// What, as it is being done: `running the tests`.
    pub active_form: String,
}

/// How far something to do is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TodoStatus {
    /// Not begun.
    Pending,
    /// Being done.
    InProgress,
    /// Done.
    Completed,
}
