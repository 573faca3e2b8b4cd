//! A backend as one process reaches it.

use std::sync::Arc;

use async_trait::async_trait;

use super::Process;
use super::process::Luck;
use crate::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use crate::id::SessionId;

/// A [`ComputeStrategy`] as a [`Process`] reaches it.
#[derive(Debug)]
pub struct FaultyCompute {
    inner: Arc<dyn ComputeStrategy>,
    process: Process,
}

impl FaultyCompute {
    pub(super) const fn new(inner: Arc<dyn ComputeStrategy>, process: Process) -> Self {
        Self { inner, process }
    }

    async fn reads(&self, op: &'static str) -> Result<(), ComputeError> {
        match self.process.compute_luck(false).await {
            Ok(Luck::DiesAfter) => self.process.die().await,
            Ok(Luck::Plain | Luck::Twice | Luck::AnswerLost | Luck::LandsLater(_)) => Ok(()),
            Err(()) => Err(trouble(op)),
        }
    }
}

fn trouble(op: &'static str) -> ComputeError {
    ComputeError::new(ComputeErrorKind::Unavailable, op, "fault: it goes wrong by chance")
}

macro_rules! changes {
    ($self:ident, $op:ident($arg:ident)) => {{
        let op = stringify!($op);
        match $self.process.compute_luck(true).await.map_err(|()| trouble(op))? {
            Luck::Plain => $self.inner.$op($arg).await,
            Luck::Twice => {
                $self.inner.$op($arg).await?;
                $self.inner.$op($arg).await
            }
            Luck::AnswerLost => {
                $self.inner.$op($arg).await?;
                Err(trouble(op))
            }
            Luck::LandsLater(wait) => {
                let (inner, owned) = ($self.inner.clone(), $arg.to_owned());
                $self.process.later(
                    wait,
                    Box::pin(async move {
                        let _nobody_waits = inner.$op(&owned).await;
                    }),
                );
                Err(trouble(op))
            }
            Luck::DiesAfter => {
                let _nobody_waits = $self.inner.$op($arg).await;
                $self.process.die().await
            }
        }
    }};
}

#[async_trait]
impl ComputeStrategy for FaultyCompute {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> ComputeCapabilities {
        self.inner.capabilities()
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        changes!(self, start(request))
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.reads("observe").await?;
        self.inner.observe(session).await
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        changes!(self, stop(request))
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.reads("wait").await?;
        self.inner.wait(session).await
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        self.reads("sessions").await?;
        self.inner.sessions().await
    }
}
