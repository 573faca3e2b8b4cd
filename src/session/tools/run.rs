//! Running a tool: the brain's half, and the hands' half for file tools.

use abca_core::Millis;
use abca_core::model::Content;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::image::{self, Image};
use super::path::Place;
use super::request::ToolRequest;
use super::todo::Todos;
use super::{MAX_RESULT_CHARS, edit, glob, grep, read, shell, text, write};
use crate::session::hands::{Chunk, Client, HandsError, HandsErrorKind};

/// What a tool call came to, as the model is to see it once it is screened.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutcome {
    /// Text and images only.
    pub content: Vec<Content>,
    /// Whether the tool failed: the model should not take it for done.
    pub is_error: bool,
    /// How long it took.
    pub duration_ms: Millis,
}

impl ToolOutcome {
    /// A failure in words.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            content: vec![Content::text(text::clip(message.into(), MAX_RESULT_CHARS))],
            is_error: true,
            duration_ms: Millis(0),
        }
    }
}

/// Runs a tool. `on_output` gets a command's output while it runs, in printable pieces, for showing; the result has it all
/// the same. `todos` is the session's list, for `TodoWrite`.
///
/// What the hands answer is not believed further than it is checked: text is clipped, images are what they say they are.
///
/// # Errors
/// Only when the hands are of no use any more ([`HandsError::needs_restart`]): start them anew and tell the model that the
/// call was interrupted. Whatever else goes wrong is an outcome with `is_error`.
///
/// # Cancel safety
/// Dropping the future stops a running command and everything it started. A file operation that has begun may still be
/// completed; it is atomic.
pub async fn run(
    client: &Client,
    request: &ToolRequest,
    todos: &mut Todos,
    mut on_output: impl FnMut(String) + Send,
) -> Result<ToolOutcome, HandsError> {
    let started = Instant::now();
    let done = match request {
        // The session answers it before it comes here: the hands reach nobody.
        ToolRequest::WebFetch(_) => return Ok(ToolOutcome::error("`WebFetch` does not run in the hands")),
        ToolRequest::TodoWrite(args) => Ok((vec![Content::text(todos.replace(&args.todos))], false)),
        ToolRequest::Bash(args) if !args.run_in_background => {
            client.exec(args.exec(), |chunk| on_output(live(&chunk))).await.map(|done| {
                let (said, failed) = shell::result(&done, args.timeout_ms.0);
                (vec![Content::text(text::clip(said, MAX_RESULT_CHARS))], failed)
            })
        }
        ToolRequest::Bash(_)
        | ToolRequest::BashOutput(_)
        | ToolRequest::KillShell(_)
        | ToolRequest::Read(_)
        | ToolRequest::Write(_)
        | ToolRequest::Edit(_)
        | ToolRequest::Glob(_)
        | ToolRequest::Grep(_) => client.tool(request).await.map(|(reply, body)| {
            let mut content = vec![Content::text(text::clip(reply.text, MAX_RESULT_CHARS))];
            let mut is_error = reply.is_error;
            if let Some(media_type) = reply.image {
                match image::content(&media_type, &body) {
                    Some(image) => content.push(image),
                    None => {
                        content = vec![Content::text("the image that came back is not one; it is withheld")];
                        is_error = true;
                    }
                }
            }
            (content, is_error)
        }),
    };
    let duration_ms = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    match done {
        Ok((content, is_error)) => Ok(ToolOutcome { content, is_error, duration_ms }),
        Err(e) if e.kind() == HandsErrorKind::Refused => {
            Ok(ToolOutcome { duration_ms, ..ToolOutcome::error(e.message()) })
        }
        Err(e) => Err(e),
    }
}

fn live(chunk: &Chunk) -> String {
    let mut out = text::printable(&String::from_utf8_lossy(&chunk.bytes));
    if chunk.skipped_bytes > 0 {
        out.push_str(&format!("\n[... {} bytes not shown ...]\n", chunk.skipped_bytes));
    }
    out
}

/// What a tool makes in the hands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub text: String,
    pub is_error: bool,
    pub image: Option<Image>,
}

impl From<String> for Made {
    fn from(text: String) -> Self {
        Self { text, is_error: false, image: None }
    }
}

impl Made {
    pub fn error(text: String) -> Self {
        Self { text, is_error: true, image: None }
    }
}

/// The file tools, in the hands. Blocking.
pub(crate) fn run_here(place: &Place, request: &ToolRequest, cancel: &CancellationToken) -> Result<Made, String> {
    match request {
        ToolRequest::Read(args) => read::run(place, args, cancel),
        ToolRequest::Write(args) => write::run(place, args),
        ToolRequest::Edit(args) => edit::run(place, args),
        ToolRequest::Glob(args) => glob::run(place, args, cancel),
        ToolRequest::Grep(args) => grep::run(place, args, cancel),
        ToolRequest::Bash(_)
        | ToolRequest::BashOutput(_)
        | ToolRequest::KillShell(_)
        | ToolRequest::WebFetch(_)
        | ToolRequest::TodoWrite(_) => Err(format!("`{}` is no file tool", request.name())),
    }
}
