//! A small world: a store in memory, sessions that follow a script, workers, and a clock that tokio's paused time drives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abca::guardrail::Guard;
use abca::link::{LinkSecret, StoreLink};
use abca::orchestrator::{Bell, PlainLauncher, PrepareFailure, Preparer, Wake, Worker, WorkerConfig, WorkerParts};
use abca_compute::{InProcess as InProcessCompute, SessionRunner};
use abca_core::compute::{ComputeStrategy, SessionLimits, StartSession};
use abca_core::event::{Event, EventType, NewEvent};
use abca_core::id::SignalId;
use abca_core::link::{AppendLog, LinkError, LinkReply, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::{EventQuery, NewSignal, SignalOutcome, Submit, SubmitOutcome, TaskStore};
use abca_core::task::{
    Failure, FailureReason, Prepared, SessionReport, Signal, SignalKind, Snapshot, Task, TaskSpec, TaskStatus, Verdict,
};
use abca_core::testing::SeededIds;
use abca_core::testing::fixtures;
pub use abca_core::testing::fixtures::report;
use abca_core::{Clock, EventSeq, IdSource, Millis, SessionId, TaskId, Timestamp};
use abca_store::InProcess;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Wall time that runs as tokio's time does: it stands still while anything can run.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub fn starting_now() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Registers, writes, reports success after so many seconds, and exits.
    Succeed(u64),
    /// Registers, reports a failure, and exits.
    Fail,
    /// Registers, writes, and exits without a report.
    Crash,
    /// Registers, writes that it is about to push a commit named by so many equal digits, and exits without a report.
    CrashPushing(char),
    /// The same, and reports a failure of the forge.
    FailPushing(char),
    /// The same, and does nothing more.
    HangPushing(char),
    /// Exits before it registers.
    CrashEarly,
    /// Registers, and then does nothing, but hears a stop.
    Hang,
    /// Registers, and then does nothing and hears nothing.
    Deaf,
    /// Registers and reports, but does not end.
    Linger,
    /// Says nothing and hears nothing: the test speaks for it.
    Mute,
}

/// What sessions do, by user and attempt; and what they did.
pub struct Script {
    acts: Mutex<BTreeMap<(TaskId, u32), Act>>,
    otherwise: Mutex<Act>,
    runs: Mutex<BTreeMap<SessionId, u32>>,
    live: Mutex<(usize, usize)>,
    ended: Mutex<Vec<(SessionId, String)>>,
    link: Arc<dyn SessionLink>,
    clock: Arc<TokioClock>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

struct Live<'a>(&'a Script);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.live.lock().unwrap().0 -= 1;
    }
}

#[async_trait]
impl SessionRunner for Script {
    async fn run(&self, request: StartSession, stop: CancellationToken) -> i32 {
        *self.runs.lock().unwrap().entry(request.session.clone()).or_default() += 1;
        let _live = {
            let mut live = self.live.lock().unwrap();
            live.0 += 1;
            live.1 = live.1.max(live.0);
            Live(self)
        };
        let acts = self.acts.lock().unwrap().get(&(request.task, request.attempt)).copied();
        let act = acts.unwrap_or(*self.otherwise.lock().unwrap());
        let (task, session) = (request.task, request.session);
        let ended = self.act(act, task, &session, &stop).await;
        let (code, word) = match ended {
            Ok(word) => (0, word),
            Err(error) => (1, error.to_string()),
        };
        self.ended.lock().unwrap().push((session, word));
        code
    }
}

impl Script {
    async fn act(
        &self,
        act: Act,
        task: TaskId,
        session: &SessionId,
        stop: &CancellationToken,
    ) -> Result<String, LinkError> {
        if act == Act::CrashEarly {
            return Ok("crashed early".to_owned());
        }
        if act == Act::Mute {
            std::future::pending::<()>().await;
        }
        let registered = self.link.register(task, session).await?;
        if act == Act::Deaf {
            std::future::pending::<()>().await;
        }
        let next = registered.log.len() as u64 + 1;
        let entry = LogEntry::SessionStarted { attempt: registered.task.attempt, walls: vec!["none".to_owned()] };
        let mut entries = vec![entry];
        if let Act::CrashPushing(digit) | Act::FailPushing(digit) | Act::HangPushing(digit) = act {
            entries.push(LogEntry::PushIntended { branch: "b".to_owned(), sha: digit.to_string().repeat(40) });
        }
        let record = |entry| LogRecord { session: session.clone(), at: self.clock.now(), entry };
        let records = entries.into_iter().map(record).collect();
        let events = vec![NewEvent::new(EventType::SessionWalls, self.clock.now())];
        let append = AppendLog { task, session: session.clone(), expect_seq: next, records, events };
        let reply = self.link.append(&append).await?;
        let work = async {
            match act {
                Act::Succeed(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                Act::Hang | Act::HangPushing(_) => std::future::pending().await,
                Act::CrashPushing(_) | Act::FailPushing(_) => {}
                Act::Fail | Act::Crash | Act::CrashEarly | Act::Deaf | Act::Linger | Act::Mute => {}
            }
        };
        let told = tokio::select! {
            () = work => None,
            why = self.told_to_stop(task, session, reply) => Some(why),
            () = stop.cancelled() => Some("the backend stops it".to_owned()),
        };
        if let Some(why) = told {
            self.link.report(task, session, &report(Verdict::Cancelled)).await?;
            return Ok(format!("stopped: {why}"));
        }
        match act {
            Act::Succeed(_) => self.link.report(task, session, &report(Verdict::Succeeded)).await?,
            Act::Fail => self.link.report(task, session, &report(Verdict::Failed)).await?,
            Act::FailPushing(_) => {
                let failure = Failure::new(FailureReason::Delivery, "the pull request is not open");
                let report = SessionReport { failure: Some(failure), ..report(Verdict::Failed) };
                self.link.report(task, session, &report).await?;
            }
            Act::Linger => {
                self.link.report(task, session, &report(Verdict::Succeeded)).await?;
                std::future::pending::<()>().await;
            }
            Act::Crash
            | Act::CrashPushing(_)
            | Act::HangPushing(_)
            | Act::CrashEarly
            | Act::Hang
            | Act::Deaf
            | Act::Mute => return Ok("crashed".to_owned()),
        }
        Ok("reported".to_owned())
    }

    async fn told_to_stop(&self, task: TaskId, session: &SessionId, mut reply: LinkReply) -> String {
        let mut known = Vec::new();
        loop {
            if let Some(why) = reply.stop {
                return why;
            }
            // What was heard is not asked for again: the link would answer at once, for ever.
            known.extend(reply.signals.iter().map(|s| s.id.clone()));
            reply = match self.link.listen(task, session, &known).await {
                Ok(reply) => reply,
                Err(error) => return error.to_string(),
            };
        }
    }
}

/// Prepares at once.
#[derive(Debug)]
pub struct Ready;

#[async_trait]
impl Preparer for Ready {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        if task.spec.task_description.as_deref() == Some("unpreparable") {
            let failure = Failure::new(FailureReason::Preflight, "the repository is gone");
            return Err(PrepareFailure { failure, retryable: false });
        }
        Ok(Prepared { branch: format!("bgagent/{}/x", task.id), ..fixtures::prepared() })
    }
}

pub struct World {
    pub store: Arc<dyn TaskStore>,
    pub compute: Arc<dyn ComputeStrategy>,
    pub script: Arc<Script>,
    pub link: Arc<StoreLink>,
    pub clock: Arc<TokioClock>,
    pub ids: Arc<SeededIds>,
    pub bell: Bell,
}

impl World {
    /// Sessions do what `otherwise` says, unless told apart.
    pub fn new(otherwise: Act) -> Self {
        let bell = Bell::default();
        let store: Arc<dyn TaskStore> = Arc::new(Wake::new(Arc::new(InProcess::new()), bell.clone()));
        let clock = Arc::new(TokioClock::starting_now());
        let link = Arc::new(StoreLink::new(store.clone(), clock.clone(), bell.clone()));
        let script = Arc::new(Script {
            acts: Mutex::default(),
            otherwise: Mutex::new(otherwise),
            runs: Mutex::default(),
            live: Mutex::default(),
            ended: Mutex::default(),
            link: link.clone(),
            clock: clock.clone(),
        });
        let compute: Arc<dyn ComputeStrategy> = Arc::new(InProcessCompute::new(script.clone()));
        Self { store, compute, script, link, clock, ids: Arc::new(SeededIds::new(7)), bell }
    }

    pub fn parts(&self) -> WorkerParts {
        WorkerParts {
            store: self.store.clone(),
            bell: self.bell.clone(),
            compute: self.compute.clone(),
            preparer: Arc::new(Ready),
            guard: Guard::default(),
            launcher: Arc::new(PlainLauncher {
                secret: LinkSecret::random(&*self.ids),
                payload: "{}".to_owned(),
                secrets: BTreeMap::new(),
                limits: SessionLimits::default(),
            }),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        }
    }

    pub fn worker(&self) -> Worker {
        Worker::start(self.parts(), WorkerConfig::default()).unwrap()
    }

    pub fn act(&self, task: TaskId, attempt: u32, act: Act) {
        self.script.acts.lock().unwrap().insert((task, attempt), act);
    }

    pub fn task(&self, change: impl FnOnce(&mut Task)) -> Task {
        let now = self.clock.now();
        let mut task = fixtures::task_at(TaskId::from_parts(now, self.ids.random()), now);
        task.spec.repo = Some("acme/web".parse().unwrap());
        task.spec.task_description = Some("fix it".to_owned());
        task.spec.limits.slots = vec![TaskSpec::user_slot(&task.user, 10)];
        change(&mut task);
        task
    }

    pub async fn submit(&self, task: Task) -> TaskId {
        let id = task.id;
        let event = NewEvent::new(EventType::TaskCreated, self.clock.now());
        let submit = Submit { task, payload_hash: id.to_string(), events: vec![event], due_at: self.clock.now() };
        let outcomes = self.store.submit(&[submit]).await.unwrap();
        assert!(matches!(outcomes[0], SubmitOutcome::Created(_)));
        id
    }

    pub async fn cancel(&self, task: TaskId) -> SignalOutcome {
        let id = SignalId::new("cancel").unwrap();
        let kind = SignalKind::Cancel { by: "bob".to_owned() };
        let signal = NewSignal { task, signal: Signal { id, at: self.clock.now(), kind }, expect_session: None };
        self.store.signal(&[signal]).await.unwrap()[0]
    }

    pub async fn nudge(&self, task: TaskId, id: &str) {
        let kind = SignalKind::Nudge { message: format!("please {id}") };
        let signal = Signal { id: SignalId::new(id).unwrap(), at: self.clock.now(), kind };
        self.store.signal(&[NewSignal { task, signal, expect_session: None }]).await.unwrap();
    }

    pub async fn snapshot(&self, task: TaskId) -> Snapshot {
        self.store.load(&[task]).await.unwrap().remove(0).unwrap()
    }

    pub async fn events(&self, task: TaskId) -> Vec<Event> {
        self.store.events(&EventQuery { task, after: EventSeq::ZERO, limit: 10_000 }).await.unwrap()
    }

    pub async fn names(&self, task: TaskId) -> Vec<&'static str> {
        self.events(task).await.into_iter().map(|e| e.event_type.as_str()).collect()
    }

    /// Waits until something of a task is so. Fails when virtual time runs out.
    pub async fn until(&self, task: TaskId, what: &str, so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut ring = self.bell.task(task);
        let wait = async {
            loop {
                let snapshot = self.snapshot(task).await;
                if so(&snapshot) {
                    return snapshot;
                }
                tokio::select! {
                    () = ring.rung() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(3 * 24 * 3600), wait).await {
            Ok(snapshot) => snapshot,
            Err(_) => panic!("never {what}: {:#?}", self.snapshot(task).await),
        }
    }

    pub async fn until_status(&self, task: TaskId, status: TaskStatus) -> Snapshot {
        self.until(task, status.as_str(), |s| s.task.status == status).await
    }

    /// Waits for the end, and checks what holds for every ended task.
    pub async fn end(&self, task: TaskId) -> Task {
        let snapshot = self.until(task, "ended", |s| s.task.status.is_terminal()).await;
        assert!(snapshot.held.is_empty() && snapshot.owed.is_empty(), "{snapshot:#?}");
        let events = self.events(task).await;
        let numbers: Vec<u64> = events.iter().map(|e| e.seq.0).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "events are numbered without gaps");
        let ends: Vec<bool> = events.iter().map(|e| e.event_type.is_terminal()).collect();
        assert_eq!(ends.iter().filter(|e| **e).count(), 1, "{events:#?}");
        assert_eq!(ends.last(), Some(&true), "nothing comes after the end");
        for (session, runs) in self.script.runs.lock().unwrap().iter() {
            assert_eq!(*runs, 1, "session {session} was started once");
        }
        snapshot.task
    }

    /// Nothing is held, and no session runs.
    pub async fn quiet(&self) {
        let held: Vec<_> = self.store.slots().await.unwrap().into_iter().filter(|s| !s.holders.is_empty()).collect();
        assert_eq!(held, [], "every slot is free");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(self.script.live.lock().unwrap().0, 0, "no session runs");
    }

    /// How many sessions ran, and the most at once.
    pub fn sessions(&self) -> (usize, usize) {
        (self.script.runs.lock().unwrap().len(), self.script.live.lock().unwrap().1)
    }

    /// The last words of sessions, in order.
    pub fn last_words(&self) -> Vec<String> {
        self.script.ended.lock().unwrap().iter().map(|(_, word)| word.clone()).collect()
    }

    /// How long it took since the world began.
    pub fn elapsed(&self) -> Millis {
        self.clock.now().since(Timestamp::from_millis(1_700_000_000_000))
    }
}
