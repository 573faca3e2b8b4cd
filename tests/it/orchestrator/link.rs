//! The session link over the store and over the socket.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use abca::link::{LinkSecret, LinkServer, SocketLink};
use abca::orchestrator::Worker;
use abca_core::id::{SignalId, WorkerId};
use abca_core::link::{AppendLog, LinkErrorKind, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::task::{Signal, TaskStatus, Verdict};
use abca_core::{Clock, IdSource, Millis, SessionId, TaskId};
use secrecy::SecretString;

use super::world::{Act, World, report};

/// A task whose first session is expected, and played by the test.
pub struct Stage {
    pub world: World,
    _worker: Worker,
    pub task: TaskId,
    pub session: SessionId,
}

impl Stage {
    pub async fn set() -> Self {
        let world = World::new(Act::Mute);
        let worker = world.worker();
        let task = world.submit(world.task(|_| {})).await;
        world.until(task, "starting", |s| s.task.session.is_some()).await;
        Self { world, _worker: worker, task, session: SessionId::of(task, 1) }
    }

    pub fn append(&self, expect_seq: u64, entry: LogEntry) -> AppendLog {
        let record = LogRecord { session: self.session.clone(), at: self.world.clock.now(), entry };
        let (task, session) = (self.task, self.session.clone());
        AppendLog { task, session, expect_seq, records: vec![record], events: Vec::new() }
    }

    async fn server(&self, dir: &Path, secret: &LinkSecret) -> LinkServer {
        let worker = WorkerId::from_parts(self.world.clock.now(), self.world.ids.random());
        LinkServer::start(dir, worker, self.world.link.clone(), secret.clone()).await.unwrap()
    }

    fn client(&self, dir: &Path, secret: &LinkSecret) -> SocketLink {
        SocketLink::new(dir, self.task, self.session.clone(), secret.token(&self.session))
    }
}

fn checkpoint(sha: &str) -> LogEntry {
    LogEntry::Checkpoint { turn: 1, sha: sha.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn words_may_be_repeated_and_foreign_ones_are_refused() {
    let stage = Stage::set().await;
    let (link, task, session) = (stage.world.link.clone(), stage.task, stage.session.clone());
    let first = link.register(task, &session).await.unwrap();
    assert_eq!(first.task.status, TaskStatus::Running);
    assert_eq!(link.register(task, &session).await.unwrap().log, []);
    let stranger = SessionId::of(task, 2);
    assert_eq!(link.register(task, &stranger).await.unwrap_err().kind(), LinkErrorKind::Refused);
    assert_eq!(link.heartbeat(task, &stranger).await.unwrap_err().kind(), LinkErrorKind::Refused);

    let one = stage.append(1, checkpoint("a"));
    link.append(&one).await.unwrap();
    link.append(&one).await.unwrap();
    let other = link.append(&stage.append(1, checkpoint("b"))).await.unwrap_err();
    assert_eq!(other.kind(), LinkErrorKind::Conflict, "{other}");
    link.append(&stage.append(2, checkpoint("b"))).await.unwrap();
    assert_eq!(link.register(task, &session).await.unwrap().log.len(), 2);

    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    assert_eq!(stage.world.end(task).await.status, TaskStatus::Completed);
    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    let late = link.register(task, &session).await.unwrap_err();
    assert_eq!(late.kind(), LinkErrorKind::Refused);
    assert!(late.message().contains("COMPLETED"), "{late}");
}

#[tokio::test(start_paused = true)]
async fn a_nudge_is_heard_until_the_log_acknowledges_it() {
    let stage = Stage::set().await;
    let (link, task, session) = (stage.world.link.clone(), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    stage.world.nudge(task, "n1").await;
    stage.world.nudge(task, "n2").await;
    let ids = |signals: Vec<Signal>| signals.into_iter().map(|s| s.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(link.heartbeat(task, &session).await.unwrap().signals), ["n1", "n2"]);
    let known = [SignalId::new("n1").unwrap()];
    assert_eq!(ids(link.listen(task, &session, &known).await.unwrap().signals), ["n2"]);
    let heard = LogEntry::Injected { signal: Some("n1".to_owned()), origin: "nudge".to_owned(), text: "x".to_owned() };
    assert_eq!(ids(link.append(&stage.append(1, heard)).await.unwrap().signals), ["n2"]);
    assert_eq!(ids(link.heartbeat(task, &session).await.unwrap().signals), ["n2"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_stopping_may_still_save_and_report_but_not_begin() {
    let stage = Stage::set().await;
    let (link, task, session) = (stage.world.link.clone(), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    let listening = link.listen(task, &session, &[]);
    let (reply, _) = tokio::join!(listening, stage.world.cancel(task));
    assert_eq!(reply.unwrap().stop.as_deref(), Some("cancelled by bob"));
    stage.world.until(task, "stopping", |s| s.owed.iter().any(|o| o.effect.key.as_str().ends_with("stop"))).await;
    assert_eq!(link.register(task, &session).await.unwrap_err().kind(), LinkErrorKind::Refused);
    assert!(link.append(&stage.append(1, checkpoint("a"))).await.unwrap().stop.is_some());
    link.report(task, &session, &report(Verdict::Cancelled)).await.unwrap();
    let task_after = stage.world.end(task).await;
    assert_eq!((task_after.status, task_after.report.unwrap().verdict), (TaskStatus::Cancelled, Verdict::Cancelled));
    assert_eq!(link.append(&stage.append(2, checkpoint("a"))).await.unwrap_err().kind(), LinkErrorKind::Refused);
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_the_session_up_without_an_orchestrator() {
    let stage = Stage::set().await;
    stage._worker.shutdown().await;
    let error = stage.world.link.register(stage.task, &stage.session).await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
}

// -- over the socket, in real time: nothing here waits longer than it takes ----------------------------------------

#[tokio::test]
async fn a_whole_session_over_the_socket() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let server = stage.server(dir.path(), &secret).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(server.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (link, task, session) = (stage.client(dir.path(), &secret), stage.task, stage.session.clone());
    assert_eq!(link.register(task, &session).await.unwrap().log, []);
    let large = "x".repeat(3 << 20);
    for seq in 1..=3 {
        link.append(&stage.append(seq, checkpoint(&large))).await.unwrap();
    }
    // 9 MiB of log come in parts.
    let log = stage.client(dir.path(), &secret).register(task, &session).await.unwrap().log;
    assert_eq!(log.iter().map(|r| r.entry.clone()).collect::<Vec<_>>(), vec![checkpoint(&large); 3]);
    let conflict = link.append(&stage.append(1, checkpoint("b"))).await.unwrap_err();
    assert_eq!(conflict.kind(), LinkErrorKind::Conflict);
    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    server.shutdown().await;
    assert!(!server.path().exists(), "the socket is removed");
}

#[tokio::test]
async fn a_cancel_reaches_a_listening_session() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let _server = stage.server(dir.path(), &secret).await;
    let (link, task, session) = (stage.client(dir.path(), &secret), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    let listening = link.listen(task, &session, &[]);
    let cancelling = async {
        // Words pass while the session listens.
        link.heartbeat(task, &session).await.unwrap();
        stage.world.cancel(task).await;
    };
    let (reply, ()) = tokio::join!(listening, cancelling);
    assert_eq!(reply.unwrap().stop.as_deref(), Some("cancelled by bob"));
}

#[tokio::test]
async fn another_worker_takes_the_connection_over() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let first = stage.server(dir.path(), &secret).await;
    let (link, task, session) = (stage.client(dir.path(), &secret), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    drop(first);
    let append = stage.append(1, checkpoint("a"));
    let speaking = link.append(&append);
    let coming = async {
        tokio::task::yield_now().await;
        stage.server(dir.path(), &secret).await
    };
    let (reply, _second) = tokio::join!(speaking, coming);
    assert_eq!(reply.unwrap().stop, None);
}

#[tokio::test]
async fn patience_ends_with_a_retryable_error() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let link = stage.client(dir.path(), &secret).patience(Millis(0));
    let error = link.heartbeat(stage.task, &stage.session).await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Unavailable);
    assert!(error.message().contains("no worker listens in"), "{error}");
}

#[tokio::test]
async fn a_token_is_bound_to_its_session() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let _server = stage.server(dir.path(), &secret).await;
    let (task, session) = (stage.task, stage.session.clone());
    let second = SessionId::of(task, 2);
    let other_task = TaskId::from_parts(stage.world.clock.now(), 99);
    let tokens = [
        (task, session.clone(), SecretString::from("guess")),
        (task, session.clone(), secret.token(&second)),
        (task, session.clone(), LinkSecret::random(&*stage.world.ids).token(&session)),
        (other_task, session.clone(), secret.token(&session)),
    ];
    for (task, session, token) in tokens {
        let link = SocketLink::new(dir.path(), task, session.clone(), token);
        assert_eq!(link.register(task, &session).await.unwrap_err().kind(), LinkErrorKind::Access);
    }
    let link = stage.client(dir.path(), &secret);
    assert_eq!(link.heartbeat(task, &second).await.unwrap_err().kind(), LinkErrorKind::Access);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works_and_dead_sockets_are_removed() {
    let stage = Stage::set().await;
    let (root, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let dir = root.path().join("x".repeat(150));
    std::fs::create_dir(&dir).unwrap();
    let live = stage.server(&dir, &secret).await;
    stage.client(&dir, &secret).register(stage.task, &stage.session).await.unwrap();

    // A worker that was killed leaves its socket behind.
    let dead = root.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let left = dir.join("dead.sock");
    std::fs::rename(dead, &left).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for path in [left.as_path(), live.path()] {
        let ok = std::process::Command::new("touch").args(["-d", "@1700000000"]).arg(path).status().unwrap();
        assert!(ok.success() && std::fs::metadata(path).unwrap().modified().unwrap() < long_ago);
    }
    let _second = stage.server(&dir, &secret).await;
    assert!(!left.exists(), "the dead socket is gone");
    assert!(live.path().exists(), "the live one stays");
}

#[tokio::test]
async fn the_link_is_an_object() {
    let stage = Stage::set().await;
    let (dir, secret) = (tempfile::tempdir().unwrap(), LinkSecret::random(&*stage.world.ids));
    let link: Arc<dyn SessionLink> = Arc::new(stage.client(dir.path(), &secret));
    let token = secrecy::ExposeSecret::expose_secret(&secret.token(&stage.session)).to_owned();
    assert!(!format!("{link:?}").contains(&token));
}
