//! The conformance suite over both strategies, and what is particular to processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use abca_compute::process::{SESSION, SESSION_DIR, supervise};
use abca_compute::{InProcess, Process, ProcessConfig, SessionRunner};
use abca_core::compute::{ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession};
use abca_core::testing::compute::{Fixture, Script, cases, run};
use abca_core::time::{Millis, Timestamp};
use abca_core::{SessionId, TaskId};

/// The session program: does what the script in the payload says.
pub fn become_session_if_asked() {
    if std::env::args().next_back().as_deref() == Some(SESSION) {
        supervise(be_session);
    }
}

fn be_session(request: StartSession) -> i32 {
    // SAFETY: signal sets of this thread, the only one.
    let stop = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    let until_stopped = || {
        let mut signal = 0;
        // SAFETY: the set is initialised.
        unsafe { libc::sigwait(&raw const stop, &raw mut signal) };
        0
    };
    let script = Script::parse(&request.payload).unwrap();
    if matches!(script, Script::Detach | Script::DetachAndExit { .. }) {
        detach();
    }
    let dir = PathBuf::from(std::env::var_os(SESSION_DIR).unwrap());
    let runs = dir.parent().unwrap().join(format!("runs.{}", request.session));
    fs::OpenOptions::new().create(true).append(true).open(runs).unwrap().write_all(b"1").unwrap();
    eprintln!("a last word with {}", secrecy::ExposeSecret::expose_secret(&request.token));
    match script {
        Script::Exit { code } | Script::DetachAndExit { code } => code,
        Script::UntilStopped | Script::Detach => until_stopped(),
        Script::IgnoreStop => loop {
            // The signal stays blocked, and so unheard.
            std::thread::park();
        },
    }
}

fn detach() {
    // SAFETY: this process has one thread; the grandchild only sleeps.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
                loop {
                    libc::pause();
                }
            }
            libc::_exit(0);
        }
    }
}

struct Processes {
    dir: tempfile::TempDir,
}

impl Processes {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("sessions")
    }

    fn open(&self) -> Process {
        let program = std::env::current_exe().unwrap();
        Process::new(ProcessConfig { state_dir: self.state(), program, args: vec!["--for-the-test".to_owned()] })
    }

    fn marked(&self, session: &SessionId) -> Vec<i32> {
        let wanted = format!("{SESSION_DIR}={}", self.state().join(session.as_str()).display());
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
        };
        pids.filter(ours).collect()
    }
}

#[async_trait]
impl Fixture for Processes {
    fn strategy(&self) -> Arc<dyn ComputeStrategy> {
        Arc::new(self.open())
    }

    fn reopened(&self) -> Arc<dyn ComputeStrategy> {
        Arc::new(self.open())
    }

    async fn runs(&self, session: &SessionId) -> usize {
        fs::read(self.state().join(format!("runs.{session}"))).map_or(0, |runs| runs.len())
    }

    async fn alive(&self, session: &SessionId) -> usize {
        self.marked(session).len()
    }

    async fn pause(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[derive(Debug, Default)]
struct Tasks {
    runs: Mutex<BTreeMap<SessionId, usize>>,
    alive: Mutex<BTreeMap<SessionId, usize>>,
}

struct Alive<'a>(&'a Tasks, SessionId);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        *self.0.alive.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

#[async_trait]
impl SessionRunner for Tasks {
    async fn run(&self, request: StartSession, stop: CancellationToken) -> i32 {
        *self.runs.lock().unwrap().entry(request.session.clone()).or_default() += 1;
        *self.alive.lock().unwrap().entry(request.session.clone()).or_default() += 1;
        let _alive = Alive(self, request.session.clone());
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

struct InThis {
    tasks: Arc<Tasks>,
    strategy: Arc<InProcess>,
}

#[async_trait]
impl Fixture for InThis {
    fn strategy(&self) -> Arc<dyn ComputeStrategy> {
        Arc::clone(&self.strategy) as Arc<dyn ComputeStrategy>
    }

    fn reopened(&self) -> Arc<dyn ComputeStrategy> {
        panic!("sessions of this process do not outlive it")
    }

    async fn runs(&self, session: &SessionId) -> usize {
        self.tasks.runs.lock().unwrap().get(session).copied().unwrap_or(0)
    }

    async fn alive(&self, session: &SessionId) -> usize {
        self.tasks.alive.lock().unwrap().get(session).copied().unwrap_or(0)
    }

    async fn pause(&self) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn processes_keep_the_contract() {
    let report = run(async |_| Box::new(Processes::new()) as Box<dyn Fixture>, &[]).await;
    assert_eq!(report.passed, cases());
}

#[tokio::test]
async fn tasks_of_this_process_keep_the_contract() {
    let skips = ["a_session_outlives_its_worker", "a_new_worker_stops_an_old_session", "tombstones_outlive_the_worker"];
    let fixture = async |_| {
        let tasks = Arc::new(Tasks::default());
        let strategy = Arc::new(InProcess::new(Arc::clone(&tasks) as Arc<dyn SessionRunner>));
        Box::new(InThis { tasks, strategy }) as Box<dyn Fixture>
    };
    let report = run(fixture, &skips).await;
    assert_eq!(report.skipped, skips);
}

fn request(script: &Script) -> StartSession {
    let task = TaskId::from_parts(Timestamp::from_millis(0), 1);
    StartSession {
        session: SessionId::of(task, 1),
        task,
        attempt: 1,
        payload: script.payload(),
        token: "token-canary-5d1".to_owned().into(),
        secrets: BTreeMap::from([("KEY".to_owned(), "secret-canary-91c".to_owned().into())]),
        limits: Default::default(),
    }
}

async fn begun(f: &Processes, session: &SessionId) {
    while f.runs(session).await == 0 {
        f.pause().await;
    }
}

fn names(f: &Processes, session: &SessionId) -> (i32, i32) {
    let file = f.state().join(session.as_str()).join("processes.json");
    let names: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let pid = |who: &str| names[who]["pid"].as_i64().unwrap() as i32;
    (pid("supervisor"), pid("brain"))
}

fn kill(pid: i32) {
    // SAFETY: a process that this test has started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[tokio::test]
async fn a_killed_brain_is_seen_with_its_signal_and_last_word() {
    let (f, req) = (Processes::new(), request(&Script::Detach));
    let strategy = f.open();
    strategy.start(&req).await.unwrap();
    begun(&f, &req.session).await;
    kill(names(&f, &req.session).1);
    let detail = Some("a last word with [redacted]".to_owned());
    let end = SessionView::Exited { code: None, signal: Some(libc::SIGKILL), detail };
    assert_eq!(strategy.wait(&req.session).await.unwrap(), end);
    assert_eq!(f.marked(&req.session), Vec::<i32>::new());
}

#[tokio::test]
async fn a_killed_supervisor_takes_everything_with_it() {
    let (f, req) = (Processes::new(), request(&Script::Detach));
    let strategy = f.open();
    strategy.start(&req).await.unwrap();
    begun(&f, &req.session).await;
    kill(names(&f, &req.session).0);
    let detail = Some("the session's supervisor was killed".to_owned());
    let end = SessionView::Exited { code: None, signal: None, detail };
    assert_eq!(strategy.wait(&req.session).await.unwrap(), end);
    assert_eq!(f.marked(&req.session), Vec::<i32>::new());
    strategy.start(&req).await.unwrap();
    assert_eq!(f.runs(&req.session).await, 1, "an ended session is not started again");
}

#[tokio::test]
async fn secrets_are_in_no_argument_environment_or_file() {
    let (f, req) = (Processes::new(), request(&Script::UntilStopped));
    let strategy = f.open();
    strategy.start(&req).await.unwrap();
    begun(&f, &req.session).await;
    for pid in f.marked(&req.session) {
        for file in ["cmdline", "environ"] {
            let text = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned();
            assert!(!text.contains("canary"), "{file}: {text}");
            assert!(!text.contains("CARGO"), "the worker's environment is not inherited: {text}");
        }
    }
    strategy.stop(&StopSession { session: req.session.clone(), grace_ms: Millis(10_000) }).await.unwrap();
    for entry in fs::read_dir(f.state().join(req.session.as_str())).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("canary"), "{}: {text}", path.display());
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(f.state().join(req.session.as_str())).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_program_that_does_not_know_sessions_is_named() {
    let (f, req) = (Processes::new(), request(&Script::UntilStopped));
    for (program, says) in [("/bin/false", "did not take over the session"), ("/no/such", "cannot start the program")] {
        let config = ProcessConfig { state_dir: f.state(), program: Path::new(program).into(), args: Vec::new() };
        let strategy = Process::new(config);
        let error = strategy.start(&req).await.unwrap_err();
        assert_eq!(error.kind(), ComputeErrorKind::Invalid);
        assert!(error.message().contains(says) && error.message().contains(program), "{error}");
        assert_eq!(strategy.observe(&req.session).await.unwrap(), SessionView::Unknown);
    }
}
