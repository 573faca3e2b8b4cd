//! The public suites over both parts: what every backend of yours should run among its tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use abca::abca_compute::SessionRunner;
use abca::abca_core::SessionId;
use abca::abca_core::compute::{ComputeStrategy, StartSession};
use abca::abca_core::model::{Content, ModelClient, ModelError, ModelErrorKind, ModelRequest, ToolInput};
use abca::abca_core::testing::compute::{self, Fixture, Script};
use abca::abca_core::testing::model::{self, ModelHarness, Step};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::house_model::{Engine, HouseModel, MODEL, Piece};
use crate::threads::Threads;

/// Panics, naming the case, when a promise is not kept.
pub async fn run() {
    // What the capabilities rule out has to be listed, and nothing else may be.
    let skips = ["a_session_outlives_its_worker", "a_new_worker_stops_an_old_session", "tombstones_outlive_the_worker"];
    let fixture = async |_| {
        let sessions = Arc::new(Scripted::default());
        let strategy = Arc::new(Threads::new(sessions.clone()));
        Box::new(OnThreads { sessions, strategy }) as Box<dyn Fixture>
    };
    let report = compute::run(fixture, &skips).await;
    println!("compute: {} cases passed, {} skipped", report.passed.len(), report.skipped.len());

    let report = model::run(&House, &[]).await;
    println!("model: {} cases passed, {} skipped", report.passed.len(), report.skipped.len());
}

/// Sessions that do what the suite's script says, and are counted.
#[derive(Debug, Default)]
struct Scripted {
    runs: Mutex<BTreeMap<SessionId, usize>>,
    alive: Mutex<BTreeMap<SessionId, usize>>,
}

struct Alive<'a>(&'a Scripted, SessionId);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        *self.0.alive.lock().unwrap().entry(self.1.clone()).or_default() -= 1;
    }
}

#[async_trait]
impl SessionRunner for Scripted {
    async fn run(&self, request: StartSession, stop: CancellationToken) -> i32 {
        *self.alive.lock().unwrap().entry(request.session.clone()).or_default() += 1;
        let _alive = Alive(self, request.session.clone());
        *self.runs.lock().unwrap().entry(request.session.clone()).or_default() += 1;
        match Script::parse(&request.payload).unwrap() {
            Script::Exit { code } | Script::DetachAndExit { code } => code,
            Script::UntilStopped | Script::Detach => {
                stop.cancelled().await;
                0
            }
            Script::IgnoreStop => std::future::pending().await,
        }
    }
}

struct OnThreads {
    sessions: Arc<Scripted>,
    strategy: Arc<Threads>,
}

#[async_trait]
impl Fixture for OnThreads {
    fn strategy(&self) -> Arc<dyn ComputeStrategy> {
        self.strategy.clone()
    }

    fn reopened(&self) -> Arc<dyn ComputeStrategy> {
        unreachable!("threads do not outlive their process, and their capabilities say so")
    }

    async fn runs(&self, session: &SessionId) -> usize {
        self.sessions.runs.lock().unwrap().get(session).copied().unwrap_or(0)
    }

    async fn alive(&self, session: &SessionId) -> usize {
        self.sessions.alive.lock().unwrap().get(session).copied().unwrap_or(0)
    }

    async fn pause(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The client over an engine that says what the suite wants.
struct House;

#[async_trait]
impl ModelHarness for House {
    fn model(&self) -> String {
        MODEL.to_owned()
    }

    async fn client(&self, script: Vec<Step>) -> Option<Arc<dyn ModelClient>> {
        Some(Arc::new(HouseModel(Arc::new(Lines(Mutex::new(script.into()))))))
    }
}

#[derive(Debug)]
struct Lines(Mutex<VecDeque<Step>>);

impl Engine for Lines {
    fn answer(&self, _: &ModelRequest) -> Result<Vec<Piece>, ModelError> {
        let over = || ModelError::new(ModelErrorKind::BadRequest, "stream", "the script is over");
        match self.0.lock().unwrap().pop_front().ok_or_else(over)? {
            Step::Reply(reply) => {
                let end = Piece::End { stop: reply.stop, usage: reply.usage };
                Ok(reply.content.into_iter().map(piece).chain([end]).collect())
            }
            Step::Cut(text) => Ok(vec![Piece::Text(text)]),
            Step::Fail(kind, wait) => Err(ModelError::new(kind, "stream", "as scripted").with_retry_after(wait)),
            Step::Silent => unreachable!("an engine in this program always answers"),
        }
    }
}

fn piece(content: Content) -> Piece {
    match content {
        Content::Text { text } => Piece::Text(text),
        Content::Thinking { text, signature } => Piece::Thinking { text, signature },
        Content::ToolUse(call) => {
            let arguments = match call.input {
                ToolInput::Json(json) => json.to_string(),
                ToolInput::Invalid { raw, .. } => raw,
            };
            Piece::Call { id: call.id, name: call.name, arguments }
        }
        Content::Image { .. } | Content::ToolResult(_) => unreachable!("a model says neither"),
    }
}
