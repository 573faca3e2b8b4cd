//! Hands that are started anew when they have died.

use std::any::Any;
use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::client::Client;
use super::error::{HandsError, HandsErrorKind};
use super::protocol::HandsConfig;

/// A server that was started.
pub struct Launched {
    /// Its standard output.
    pub from: Box<dyn AsyncRead + Unpin + Send>,
    /// Its standard input.
    pub to: Box<dyn AsyncWrite + Unpin + Send>,
    /// Whatever has to live as long as it, e.g. a child process that is killed on drop.
    pub guard: Box<dyn Any + Send>,
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launched").finish_non_exhaustive()
    }
}

/// Starts a hands server: in a sandbox, or without one.
#[async_trait]
pub trait Launch: fmt::Debug + Send + Sync + 'static {
    /// Starts one. Nothing of an earlier one may be left when it answers.
    ///
    /// # Errors
    /// [`HandsErrorKind::Launch`], with the reason.
    async fn launch(&self) -> Result<Launched, HandsError>;
}

/// A session's hands: a connection that is made when first needed, and made again after a death.
///
/// A call in flight at a death is not repeated: its error says so, and whoever called decides. Background commands die
/// with the server; the work tree stays.
#[derive(Debug)]
pub struct Hands {
    launcher: Box<dyn Launch>,
    config: HandsConfig,
    most_starts: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Client>,
    guard: Option<Box<dyn Any + Send>>,
    starts: u32,
}

impl Hands {
    /// How often a session's hands are started unless said otherwise: once, and 20 times anew.
    pub const DEFAULT_STARTS: u32 = 21;

    /// Hands that are not started yet.
    pub fn new(launcher: impl Launch, config: HandsConfig) -> Self {
        Self { launcher: Box::new(launcher), config, most_starts: Self::DEFAULT_STARTS, state: Mutex::default() }
    }

    /// Changes how often they are started at most.
    #[must_use]
    pub const fn most_starts(mut self, starts: u32) -> Self {
        self.most_starts = starts;
        self
    }

    /// A living connection; starts the hands if there is none. Cancel-safe.
    ///
    /// # Errors
    /// [`HandsErrorKind::Launch`] when the start fails or there were too many; else as [`Client::connect`].
    pub async fn client(&self) -> Result<Client, HandsError> {
        let mut state = self.state.lock().await;
        if let Some(client) = &state.client
            && client.death().is_none()
        {
            return Ok(client.clone());
        }
        // The old one first: its guard may have to be gone before a new one can be made.
        state.client = None;
        state.guard = None;
        if state.starts >= self.most_starts {
            return Err(HandsError::new(
                HandsErrorKind::Launch,
                format!("they were started {} times already and died each time", state.starts),
            ));
        }
        state.starts += 1;
        let Launched { from, to, guard } = self.launcher.launch().await?;
        let client = Client::connect(from, to, &self.config).await?;
        state.client = Some(client.clone());
        state.guard = Some(guard);
        Ok(client)
    }

    /// Gives the living connection up, e.g. after [`HandsErrorKind::Unresponsive`]: the next call starts anew.
    pub async fn discard(&self) {
        let mut state = self.state.lock().await;
        state.client = None;
        state.guard = None;
    }

    /// How often they were started.
    pub async fn starts(&self) -> u32 {
        self.state.lock().await.starts
    }
}
