use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::compute::{
    ComputeCapabilities, ComputeErrorKind, ComputeStrategy, SessionLimits, SessionView, StartSession, StopSession,
};
use crate::id::{SessionId, TaskId};
use crate::time::{Millis, Timestamp};

/// What a session of the suite does; the session's payload is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Script {
    /// Ends at once with this exit code.
    Exit {
        /// The code.
        code: i32,
    },
    /// Runs until it is asked to stop, then ends with code 0.
    UntilStopped,
    /// Runs, and does not listen when it is asked to stop.
    IgnoreStop,
    /// Starts a process that leaves its session (double fork, `setsid`) and never ends by itself, then runs until it
    /// is asked to stop. A backend without processes of its own runs until stopped.
    Detach,
    /// As `Detach`, but ends at once with this exit code, leaving the detached process behind.
    DetachAndExit {
        /// The code.
        code: i32,
    },
}

impl Script {
    /// The script as a session's payload.
    pub fn payload(&self) -> String {
        serde_json::to_string(self).expect("a script is plain data")
    }

    /// Reads a payload back.
    ///
    /// # Errors
    /// The JSON error, when the payload is not a script.
    pub fn parse(payload: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(payload)
    }
}

/// What the suite needs from a backend under test. One fixture serves one case.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The strategy under test.
    fn strategy(&self) -> Arc<dyn ComputeStrategy>;

    /// The strategy as a new worker opens it: another object over the same state. Only asked for with
    /// `capabilities().outlives_worker`.
    fn reopened(&self) -> Arc<dyn ComputeStrategy>;

    /// How often the session's program has begun.
    async fn runs(&self, session: &SessionId) -> usize;

    /// How many processes (or tasks) of the session exist right now, detached ones included.
    async fn alive(&self, session: &SessionId) -> usize;

    /// Lets a little time pass, some milliseconds.
    async fn pause(&self);
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that the backend's capabilities rule out; equal to the list that was given.
    pub skipped: Vec<&'static str>,
}

type CaseFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

struct Case {
    name: &'static str,
    needs: fn(&ComputeCapabilities) -> bool,
    run: for<'a> fn(&'a dyn Fixture) -> CaseFuture<'a>,
}

macro_rules! suite {
    ($($name:ident needs $needs:expr;)+) => {
        const CASES: &[Case] = &[$(Case { name: stringify!($name), needs: $needs, run: |f| Box::pin($name(f)) }),+];
        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

suite! {
    unknown_is_unknown needs |_| true;
    start_is_idempotent needs |_| true;
    concurrent_starts_start_once needs |_| true;
    exit_codes_are_seen needs |c| c.exit_status;
    a_start_after_the_end_finds_the_end needs |c| c.exit_status;
    wait_answers_at_the_end needs |c| c.wait;
    wait_on_unknown_answers_unknown needs |c| c.wait;
    stop_ends_a_session needs |_| true;
    stop_ends_one_that_does_not_listen needs |_| true;
    stop_ends_detached_processes needs |_| true;
    the_end_of_a_session_ends_detached_processes needs |_| true;
    stop_is_absorbing needs |c| c.tombstones;
    stop_of_unknown_succeeds_and_refuses_a_later_start needs |c| c.tombstones;
    stop_of_an_ended_session_keeps_its_end needs |c| c.exit_status;
    sessions_lists_what_runs needs |_| true;
    a_session_outlives_its_worker needs |c| c.outlives_worker;
    a_new_worker_stops_an_old_session needs |c| c.outlives_worker;
    tombstones_outlive_the_worker needs |c| c.outlives_worker && c.tombstones;
}

/// The names of all cases, in the order in which they run.
pub fn cases() -> &'static [&'static str] {
    NAMES
}

/// Runs every case on a fixture of its own.
///
/// `skips` must name exactly the cases that the backend's capabilities rule out.
///
/// # Panics
/// When a case fails (the panic's message names what was expected), and when the skip list does not match.
pub async fn run<F, Fut>(factory: F, skips: &[&str]) -> Report
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Box<dyn Fixture>>,
{
    let mut report = Report { passed: Vec::new(), skipped: Vec::new() };
    for skip in skips {
        assert!(NAMES.contains(skip), "the skip list names `{skip}`, which is no case of the compute suite");
    }
    for case in CASES {
        let fixture = factory(case.name).await;
        let possible = (case.needs)(&fixture.strategy().capabilities());
        let listed = skips.contains(&case.name);
        match (possible, listed) {
            (true, true) => panic!("case `{}` is on the skip list, but the backend can do it", case.name),
            (false, false) => panic!("case `{}` cannot run here: put it on the skip list", case.name),
            (false, true) => report.skipped.push(case.name),
            (true, false) => {
                let guard = Naming(case.name);
                (case.run)(fixture.as_ref()).await;
                std::mem::forget(guard);
                report.passed.push(case.name);
            }
        }
    }
    report
}

/// Says which case was running when a panic passes through.
struct Naming(&'static str);

impl Drop for Naming {
    fn drop(&mut self) {
        eprintln!("compute conformance: case `{}` failed", self.0);
    }
}

fn request(number: u128, script: &Script) -> StartSession {
    let task = TaskId::from_parts(Timestamp::from_millis(1_700_000_000_000), number);
    StartSession {
        session: SessionId::of(task, 1),
        task,
        attempt: 1,
        payload: script.payload(),
        token: "conformance-token".to_owned().into(),
        secrets: BTreeMap::new(),
        limits: SessionLimits::default(),
    }
}

fn stop_of(request: &StartSession, grace_ms: u64) -> StopSession {
    StopSession { session: request.session.clone(), grace_ms: Millis(grace_ms) }
}

/// Time enough for a session that listens; one that listens never uses it up.
const GRACE_MS: u64 = 10_000;

async fn until_ended(f: &dyn Fixture, session: &SessionId) -> SessionView {
    loop {
        let view = f.strategy().observe(session).await.expect("observe");
        match view {
            SessionView::Running { .. } | SessionView::Suspended => f.pause().await,
            SessionView::Exited { .. } | SessionView::Unknown => return view,
        }
    }
}

async fn until_begun(f: &dyn Fixture, session: &SessionId) {
    while f.runs(session).await == 0 {
        f.pause().await;
    }
}

/// The program of a session says that it has begun before it detaches anything.
async fn until_alive(f: &dyn Fixture, session: &SessionId, at_least: usize) {
    for _ in 0..2_000 {
        if f.alive(session).await >= at_least {
            return;
        }
        f.pause().await;
    }
    panic!("`{session}` never had {at_least} processes");
}

fn running(view: &SessionView) -> bool {
    matches!(view, SessionView::Running { .. })
}

fn exited(view: &SessionView) -> bool {
    matches!(view, SessionView::Exited { .. })
}

async fn unknown_is_unknown(f: &dyn Fixture) {
    let req = request(1, &Script::UntilStopped);
    assert_eq!(f.strategy().observe(&req.session).await.expect("observe"), SessionView::Unknown);
    assert_eq!(f.strategy().sessions().await.expect("sessions"), Vec::new(), "nothing was started");
    assert_eq!(
        f.strategy().observe(&req.session).await.expect("observe"),
        SessionView::Unknown,
        "observe changes nothing"
    );
}

async fn start_is_idempotent(f: &dyn Fixture) {
    let (s, req) = (f.strategy(), request(2, &Script::UntilStopped));
    s.start(&req).await.expect("start");
    assert!(running(&s.observe(&req.session).await.expect("observe")), "what was started is found");
    until_begun(f, &req.session).await;
    s.start(&req).await.expect("a second start finds the first");
    s.stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    assert_eq!(f.runs(&req.session).await, 1, "the session began once");
}

async fn concurrent_starts_start_once(f: &dyn Fixture) {
    let req = request(3, &Script::UntilStopped);
    let strategies: Vec<Arc<dyn ComputeStrategy>> = (0..4)
        .map(|i| if i % 2 == 1 && f.strategy().capabilities().outlives_worker { f.reopened() } else { f.strategy() })
        .collect();
    let mut starts: Vec<_> = strategies.iter().map(|s| Some(s.start(&req))).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for slot in &mut starts {
            if let Some(start) = slot {
                match start.as_mut().poll(cx) {
                    Poll::Ready(result) => {
                        result.expect("every start succeeds");
                        *slot = None;
                    }
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    until_begun(f, &req.session).await;
    f.strategy().stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    assert_eq!(f.runs(&req.session).await, 1, "four starts, one session");
}

async fn exit_codes_are_seen(f: &dyn Fixture) {
    for (number, code) in [(4, 0), (5, 3)] {
        let req = request(number, &Script::Exit { code });
        f.strategy().start(&req).await.expect("start");
        match until_ended(f, &req.session).await {
            SessionView::Exited { code: Some(seen), signal: None, .. } => assert_eq!(seen, code),
            other => panic!("a session that exits with {code} is seen as {other:?}"),
        }
    }
}

async fn a_start_after_the_end_finds_the_end(f: &dyn Fixture) {
    let req = request(6, &Script::Exit { code: 3 });
    f.strategy().start(&req).await.expect("start");
    let end = until_ended(f, &req.session).await;
    f.strategy().start(&req).await.expect("a start of an ended session finds it");
    assert_eq!(f.strategy().observe(&req.session).await.expect("observe"), end);
    assert_eq!(f.runs(&req.session).await, 1);
}

async fn wait_answers_at_the_end(f: &dyn Fixture) {
    let (s, req) = (f.strategy(), request(7, &Script::UntilStopped));
    s.start(&req).await.expect("start");
    until_begun(f, &req.session).await;
    {
        let mut wait = pin!(s.wait(&req.session));
        let early = std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_ready())).await;
        assert!(!early, "wait answered while the session runs");
    }
    let waiting = s.wait(&req.session);
    s.stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    let view = waiting.await.expect("wait");
    assert!(exited(&view), "wait answered {view:?}");
    assert_eq!(view, s.observe(&req.session).await.expect("observe"));
    assert_eq!(view, s.wait(&req.session).await.expect("wait on an ended session answers at once"));
}

async fn wait_on_unknown_answers_unknown(f: &dyn Fixture) {
    let req = request(8, &Script::UntilStopped);
    assert_eq!(f.strategy().wait(&req.session).await.expect("wait"), SessionView::Unknown);
}

async fn ends_by_stop(f: &dyn Fixture, req: &StartSession, at_least: usize, grace_ms: u64) {
    let s = f.strategy();
    s.start(req).await.expect("start");
    until_begun(f, &req.session).await;
    until_alive(f, &req.session, at_least).await;
    s.stop(&stop_of(req, grace_ms)).await.expect("stop");
    assert_eq!(f.alive(&req.session).await, 0, "stop answers once nothing of the session runs");
    let view = s.observe(&req.session).await.expect("observe");
    assert!(exited(&view), "a stopped session is seen as {view:?}");
}

async fn stop_ends_a_session(f: &dyn Fixture) {
    ends_by_stop(f, &request(9, &Script::UntilStopped), 1, GRACE_MS).await;
}

async fn stop_ends_one_that_does_not_listen(f: &dyn Fixture) {
    ends_by_stop(f, &request(10, &Script::IgnoreStop), 1, 20).await;
    ends_by_stop(f, &request(11, &Script::IgnoreStop), 1, 0).await;
}

async fn stop_ends_detached_processes(f: &dyn Fixture) {
    ends_by_stop(f, &request(12, &Script::Detach), 1, GRACE_MS).await;
}

async fn the_end_of_a_session_ends_detached_processes(f: &dyn Fixture) {
    let req = request(13, &Script::DetachAndExit { code: 0 });
    f.strategy().start(&req).await.expect("start");
    until_ended(f, &req.session).await;
    assert_eq!(f.alive(&req.session).await, 0, "nothing of an ended session is left");
}

async fn refused(s: &dyn ComputeStrategy, req: &StartSession) {
    let refused = s.start(req).await.expect_err("a start after a stop is refused");
    assert_eq!(refused.kind(), ComputeErrorKind::Stopped, "{refused}");
}

async fn stop_is_absorbing(f: &dyn Fixture) {
    let (s, req) = (f.strategy(), request(14, &Script::UntilStopped));
    s.start(&req).await.expect("start");
    until_begun(f, &req.session).await;
    s.stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    s.stop(&stop_of(&req, GRACE_MS)).await.expect("a second stop succeeds");
    refused(s.as_ref(), &req).await;
    assert_eq!(f.runs(&req.session).await, 1);
}

async fn stop_of_unknown_succeeds_and_refuses_a_later_start(f: &dyn Fixture) {
    let (s, req) = (f.strategy(), request(15, &Script::UntilStopped));
    s.stop(&stop_of(&req, 0)).await.expect("stop of an unknown session");
    refused(s.as_ref(), &req).await;
    assert_eq!(f.runs(&req.session).await, 0);
    let view = s.observe(&req.session).await.expect("observe");
    assert!(!running(&view), "a session that never ran is seen as {view:?}");
}

async fn stop_of_an_ended_session_keeps_its_end(f: &dyn Fixture) {
    let (s, req) = (f.strategy(), request(16, &Script::Exit { code: 3 }));
    s.start(&req).await.expect("start");
    let end = until_ended(f, &req.session).await;
    s.stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    assert_eq!(s.observe(&req.session).await.expect("observe"), end);
}

async fn sessions_lists_what_runs(f: &dyn Fixture) {
    let (s, one, two) = (f.strategy(), request(17, &Script::UntilStopped), request(18, &Script::UntilStopped));
    s.start(&one).await.expect("start");
    s.start(&two).await.expect("start");
    let mut listed = s.sessions().await.expect("sessions");
    listed.sort();
    let mut expected = vec![one.session.clone(), two.session.clone()];
    expected.sort();
    assert_eq!(listed, expected);
    s.stop(&stop_of(&one, GRACE_MS)).await.expect("stop");
    assert_eq!(s.sessions().await.expect("sessions"), vec![two.session.clone()]);
    s.stop(&stop_of(&two, GRACE_MS)).await.expect("stop");
    assert_eq!(s.sessions().await.expect("sessions"), Vec::new());
}

async fn a_session_outlives_its_worker(f: &dyn Fixture) {
    let req = request(19, &Script::UntilStopped);
    f.strategy().start(&req).await.expect("start");
    until_begun(f, &req.session).await;
    let new = f.reopened();
    assert!(running(&new.observe(&req.session).await.expect("observe")), "a new worker finds the session running");
    assert_eq!(new.sessions().await.expect("sessions"), vec![req.session.clone()]);
    new.start(&req).await.expect("a start by the new worker finds it");
    f.strategy().stop(&stop_of(&req, GRACE_MS)).await.expect("stop");
    let view = new.observe(&req.session).await.expect("observe");
    assert!(exited(&view), "a new worker sees the end as {view:?}");
    assert_eq!(f.runs(&req.session).await, 1);
}

async fn a_new_worker_stops_an_old_session(f: &dyn Fixture) {
    let req = request(20, &Script::Detach);
    f.strategy().start(&req).await.expect("start");
    until_begun(f, &req.session).await;
    f.reopened().stop(&stop_of(&req, GRACE_MS)).await.expect("stop by a new worker");
    assert_eq!(f.alive(&req.session).await, 0);
}

async fn tombstones_outlive_the_worker(f: &dyn Fixture) {
    let req = request(21, &Script::UntilStopped);
    f.strategy().stop(&stop_of(&req, 0)).await.expect("stop");
    refused(f.reopened().as_ref(), &req).await;
}
