//! A worker process: an orchestrator on the server, with a backend whose sessions live elsewhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use abca::Abca;
use abca::orchestrator::WorkerConfig;
use abca_core::blueprint::PlatformDefaults;
use abca_core::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use abca_core::{Millis, SessionId};
use async_trait::async_trait;

use super::common::Ready;

pub fn platform() -> PlatformDefaults {
    let mut platform = PlatformDefaults::default();
    platform.max_concurrent_tasks = 1_000;
    platform.max_concurrent_tasks_per_user = 3;
    platform
}

/// Works until it is killed, or told to drain by SIGTERM.
pub async fn work(url: &str, spool: &Path) {
    let store = super::open(url).await;
    let mut config = WorkerConfig::default();
    config.lease = Millis(super::LEASE_MS);
    let spool = Spool(spool.to_owned());
    let abca = Abca::builder()
        .store(store)
        .compute(Arc::new(spool))
        .preparer(Arc::new(Ready))
        .platform(platform())
        .worker_config(config)
        .build()
        .await
        .unwrap();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    term.recv().await;
    abca.shutdown().await;
}

/// Sessions as files that another process acts on: `start/<id>`, then `run/<id>`, then `over/<id>`; `stop/<id>` is a tombstone.
#[derive(Debug)]
pub struct Spool(pub PathBuf);

impl Spool {
    pub fn make(&self) {
        for folder in ["start", "run", "over", "stop"] {
            fs::create_dir_all(self.0.join(folder)).unwrap();
        }
    }

    pub fn file(&self, folder: &str, session: &str) -> PathBuf {
        self.0.join(folder).join(session)
    }

    fn is(&self, folder: &str, session: &SessionId) -> bool {
        self.file(folder, session.as_str()).exists()
    }

    fn view(&self, session: &SessionId) -> SessionView {
        if self.is("over", session) {
            SessionView::Exited { code: Some(0), signal: None, detail: None }
        } else if self.is("run", session) || self.is("start", session) {
            SessionView::Running { active_at: None }
        } else if self.is("over", session) {
            // It ended between the looks.
            SessionView::Exited { code: Some(0), signal: None, detail: None }
        } else {
            SessionView::Unknown
        }
    }
}

fn failed(op: &'static str) -> impl Fn(io::Error) -> ComputeError {
    move |e| ComputeError::new(ComputeErrorKind::Unavailable, op, e.to_string())
}

#[async_trait]
impl ComputeStrategy for Spool {
    fn name(&self) -> &'static str {
        "spool"
    }

    fn capabilities(&self) -> ComputeCapabilities {
        let mut can = ComputeCapabilities::none();
        can.exit_status = true;
        can.tombstones = true;
        can.outlives_worker = true;
        can.wait = true;
        can
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        let session = request.session.as_str();
        if self.is("stop", &request.session) {
            return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", "it was stopped before"));
        }
        if self.view(&request.session) != SessionView::Unknown {
            return Ok(());
        }
        let draft = self.0.join(format!("{session}.{}", std::process::id()));
        fs::write(&draft, request.task.to_string()).map_err(failed("start"))?;
        fs::rename(&draft, self.file("start", session)).map_err(failed("start"))
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        Ok(self.view(session))
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        fs::write(self.file("stop", request.session.as_str()), "").map_err(failed("stop"))?;
        while matches!(self.view(&request.session), SessionView::Running { .. }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        loop {
            match self.view(session) {
                SessionView::Running { .. } => tokio::time::sleep(Duration::from_millis(5)).await,
                view => return Ok(view),
            }
        }
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        let mut all = Vec::new();
        for folder in ["start", "run"] {
            for entry in fs::read_dir(self.0.join(folder)).map_err(failed("sessions"))? {
                let name = entry.map_err(failed("sessions"))?.file_name();
                all.extend(SessionId::new(name.to_string_lossy()));
            }
        }
        Ok(all)
    }
}
