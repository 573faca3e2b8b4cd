//! Records what a model answers.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest, ModelStream,
    Role, TokenCount,
};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::fingerprint::Fingerprint;
use super::trajectory::{Match, Recorded, Trajectory, header_line, line};

/// A [`ModelClient`] over another one that writes every whole answer into a trajectory.
///
/// A line is written, and flushed, before the answer is given out; if that fails the call fails
/// ([`ModelErrorKind::Config`]), since a recording was asked for. Errors of the model are not recorded: put the
/// [`Retry`](crate::Retry) layer inside. One recorder records one conversation.
pub struct Recorder<C> {
    client: C,
    tape: Arc<Tape>,
}

struct Tape {
    path: PathBuf,
    mode: Match,
    file: Mutex<File>,
}

impl<C: ModelClient> fmt::Debug for Recorder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("client", &self.client).field("path", &self.tape.path).finish_non_exhaustive()
    }
}

impl<C: ModelClient> Recorder<C> {
    /// Records into a new file, in mode [`Match::Normalised`] if you do not care.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: the file exists or cannot be made.
    pub fn create(client: C, path: impl AsRef<Path>, mode: Match) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let mut file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|e| broken(path, &e))?;
        file.write_all(header_line(mode).as_bytes()).map_err(|e| broken(path, &e))?;
        Ok(Self::over(client, path, mode, file))
    }

    /// Goes on with a recording, or begins one: for a session that resumes. A last line that a crash cut is dropped.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: the file is no recording or cannot be written.
    pub fn resume(client: C, path: impl AsRef<Path>, mode: Match) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::create(client, path, mode),
            Err(e) => return Err(broken(path, &e)),
        };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole == 0 {
            return Err(broken(path, &"it has no line of a trajectory"));
        }
        // A recording that has not got a step yet is one, too.
        let mode = if text[..whole].lines().count() == 1 {
            serde_json::from_str::<super::trajectory::Header>(&text[..whole]).map_err(|e| broken(path, &e))?.mode
        } else {
            Trajectory::parse(&text[..whole]).map_err(|e| broken(path, &e))?.mode
        };
        let file = OpenOptions::new().append(true).open(path).map_err(|e| broken(path, &e))?;
        file.set_len(whole as u64).map_err(|e| broken(path, &e))?;
        Ok(Self::over(client, path, mode, file))
    }

    fn over(client: C, path: &Path, mode: Match, file: File) -> Self {
        Self { client, tape: Arc::new(Tape { path: path.to_owned(), mode, file: Mutex::new(file) }) }
    }
}

impl Tape {
    fn write(&self, call: usize, request: Fingerprint, reply: &ModelReply) -> Result<(), ModelError> {
        let text = line(&Recorded { call, request, reply: reply.clone() });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(|e| broken(&self.path, &e))
    }
}

fn broken(path: &Path, e: &dyn fmt::Display) -> ModelError {
    let what = format!("cannot record into `{}`: {e}; name a file that does not exist", path.display());
    ModelError::new(ModelErrorKind::Config, "record", what)
}

#[async_trait]
impl<C: ModelClient> ModelClient for Recorder<C> {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        self.client.capabilities(model)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let stream = self.client.stream(request).await?;
        let call = request.messages.iter().filter(|m| m.role == Role::Assistant).count() + 1;
        let mut print = Some(Fingerprint::of(request, self.tape.mode));
        let tape = self.tape.clone();
        Ok(Box::pin(stream.map(move |event| {
            let event = event?;
            if let (ModelEvent::Done(reply), Some(print)) =
                (&event, print.take_if(|_| matches!(event, ModelEvent::Done(_))))
            {
                tape.write(call, print, reply)?;
            }
            Ok(event)
        })))
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        self.client.count_tokens(request).await
    }
}
