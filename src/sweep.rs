//! Removes the work folders that nobody needs any more, away from every task's path.
//!
//! A session that ends in order gives its folder up ([`give_up`]). One that was cancelled, killed or lost leaves it: of
//! these the sweeper asks the store and the backend, and takes no chances.

mod ended;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use abca_core::compute::ComputeStrategy;
use abca_core::store::{StoreError, TaskStore};
use abca_core::task::Task;
use abca_core::{Clock, Millis, TaskId};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::orchestrator::{load_readable, session_state, task_of};

/// Names what is to be removed: whoever is done with a folder renames it so, in one step.
const GONE: &str = ".gone-";
/// How often the sweeper looks for folders that were given up.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Every so many looks it asks whose folders the others are.
const ASK_EVERY: u32 = 5;
/// A session that this worker cannot see may live on so long after its task has ended: it hears of the end at its next word
/// to the platform, which comes every ten seconds.
const UNSEEN: Millis = Millis::secs(600);
/// Every so many looks it lets folders of sessions go, where that is wanted.
const RETAIN_EVERY: u32 = 150;
/// How long work is kept that is nowhere else: its session died before it could save it at the hidden ref.
const KEEP_UNSAVED: Millis = Millis::secs(7 * 24 * 3600);

/// Hands a folder over to the sweeper of whatever worker comes by. Answers at once, however large the folder is.
pub(crate) fn give_up(dir: &Path) -> std::io::Result<()> {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => {
            let mut gone = std::ffi::OsString::from(GONE);
            gone.push(name);
            std::fs::rename(dir, parent.join(gone))
        }
        _ => Ok(()),
    }
}

/// Whom the sweeper asks.
pub(crate) struct Sweeper {
    /// Holds one folder per task, named by it.
    pub(crate) work_root: PathBuf,
    /// Holds one folder per session, named by it.
    pub(crate) session_root: PathBuf,
    /// How long folders of sessions are kept once their task has ended; `None` for ever.
    pub(crate) retention: Option<Millis>,
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) compute: Arc<dyn ComputeStrategy>,
    /// The name that sessions of this strategy are recorded under.
    pub(crate) backend: String,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Sweeper {
    /// Sweeps until it is dropped.
    pub(crate) fn start(self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut kept = BTreeSet::new();
            for look in 0u32.. {
                looks.tick().await;
                if look.is_multiple_of(ASK_EVERY)
                    && let Err(error) = self.give_up_ended(&mut kept).await
                {
                    tracing::warn!(%error, "could not ask whose work folders are there; they stay for now");
                }
                if let Some(keep) = self.retention.filter(|_| look.is_multiple_of(RETAIN_EVERY)) {
                    match self.let_sessions_go(keep).await {
                        Ok(0) => {}
                        Ok(removed) => tracing::info!(removed, "folders of sessions that ended long ago are removed"),
                        Err(error) => {
                            tracing::warn!(%error, "could not ask whose session folders are there; they stay")
                        }
                    }
                }
                let root = self.work_root.clone();
                if let Err(error) = tokio::task::spawn_blocking(move || sweep(&root)).await {
                    tracing::warn!(%error, "sweeping broke off");
                }
            }
        }))
    }

    /// Gives up the folders of tasks that have ended and have no session any more.
    ///
    /// A task ends only when the stop of its session is confirmed; the backend is asked all the same, after the store: what
    /// has ended stays so, and a session that would begin now is refused at its first word, before it touches a folder.
    async fn give_up_ended(&self, kept: &mut BTreeSet<TaskId>) -> Result<(), Error> {
        let root = self.work_root.clone();
        let ids = tokio::task::spawn_blocking(move || named_by_tasks(&root)).await.unwrap_or_default();
        if ids.is_empty() {
            return Ok(());
        }
        let loaded = load_readable(&*self.store, &ids).await?;
        let (mut ended, mut forgotten): (Vec<Task>, Vec<TaskId>) = (Vec::new(), Vec::new());
        for (id, found) in ids.into_iter().zip(loaded) {
            match found.map(|s| s.task) {
                Some(task) => ended.extend(Some(task).filter(|t| t.status.is_terminal())),
                // The store has let it go since; its mark tells how long ago it ended.
                None => {
                    let since =
                        ended::marked(&self.work_root.join(id.to_string())).map(|at| self.clock.now().since(at));
                    forgotten.extend(since.filter(|s| *s >= KEEP_UNSAVED).map(|_| id));
                }
            }
        }
        if ended.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let sessions = self.compute.sessions().await.map_err(|e| {
            Error::new(crate::ErrorKind::Unavailable, format!("sessions cannot be listed: {e}")).with_source(e)
        })?;
        let busy: BTreeSet<TaskId> = sessions.iter().filter_map(task_of).collect();
        for id in forgotten.into_iter().filter(|id| !busy.contains(id)) {
            self.give_up_of(id);
        }
        for task in ended.iter().filter(|t| !busy.contains(&t.id) && self.sees(t)) {
            if self.since_end(task) < KEEP_UNSAVED && self.is_kept(task.id, kept).await {
                // The store may let it go before its week is over.
                let dir = self.work_root.join(task.id.to_string());
                ended::mark(&dir, task.completed_at.unwrap_or(task.updated_at));
                continue;
            }
            self.give_up_of(task.id);
        }
        Ok(())
    }

    fn give_up_of(&self, task: TaskId) {
        match give_up(&self.work_root.join(task.to_string())) {
            Ok(()) => tracing::debug!(%task, "the work folder of an ended task is given up"),
            // Another worker's sweeper was here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%task, %error, "a work folder could not be given up"),
        }
    }

    /// Whether a folder is to stay for its week. What was found so once is not read again.
    async fn is_kept(&self, task: TaskId, kept: &mut BTreeSet<TaskId>) -> bool {
        if kept.contains(&task) {
            return true;
        }
        let dir = self.work_root.join(task.to_string());
        match self.is_unsaved(task).await {
            Ok(false) => false,
            Ok(true) => {
                kept.insert(task);
                tracing::info!(%task, dir = %dir.display(), "kept for a week: this work could not be saved elsewhere");
                true
            }
            // One log that cannot be read keeps its own folder and no other.
            Err(error) => {
                if !error.is_retryable() {
                    kept.insert(task);
                }
                tracing::warn!(%task, dir = %dir.display(), %error, "the log does not tell whether this work is saved; it stays");
                true
            }
        }
    }

    /// Whether the backend of this worker would name a session of this task that lives; else, time has to tell.
    fn sees(&self, task: &Task) -> bool {
        let everybodys = self.compute.capabilities().outlives_worker;
        let of_ours = task.session.as_ref().is_none_or(|s| s.compute == self.backend);
        of_ours && (everybodys || self.since_end(task) >= UNSEEN)
    }

    fn since_end(&self, task: &Task) -> Millis {
        self.clock.now().since(task.completed_at.unwrap_or(task.updated_at))
    }

    /// Whether work of a task is in its folder only, as far as its log tells.
    async fn is_unsaved(&self, task: TaskId) -> Result<bool, StoreError> {
        Ok(session_state(&*self.store, task).await?.has_unsaved_work())
    }
}

/// The tasks that folders are named by. Whatever has another name is somebody else's.
fn named_by_tasks(work_root: &Path) -> Vec<TaskId> {
    let entries = std::fs::read_dir(work_root).into_iter().flatten().flatten();
    let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let task = |name: &str| name.parse::<TaskId>().ok().filter(|id| id.to_string() == name);
    folders.filter_map(|e| task(e.file_name().to_str()?)).collect()
}

/// Removes what was given up. What cannot be removed now is tried again at the next look; several may sweep at once.
fn sweep(work_root: &Path) {
    let Ok(entries) = std::fs::read_dir(work_root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %entry.path().display(), %error, "a work folder could not be removed yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use abca_core::SessionId;
    use abca_core::compute::{ComputeErrorKind, SessionLimits, StartSession};
    use abca_core::model::{Content, ModelReply, StopReason, ToolCall, ToolInput, ToolResult, Usage};
    use abca_core::session::{LogEntry, LogRecord};
    use abca_core::store::{Append, CommitOutcome, SubmitOutcome};
    use abca_core::task::{Change, SlotChange, Snapshot};
    use abca_core::testing::chaos::Chaos;
    use abca_core::testing::compute::FakeCompute;
    use abca_core::testing::{VirtualClock, fixtures};
    use abca_store::InProcess;

    use super::*;

    struct Place {
        root: tempfile::TempDir,
        sessions: tempfile::TempDir,
        store: Arc<InProcess>,
        compute: Arc<FakeCompute>,
        clock: Arc<VirtualClock>,
    }

    impl Place {
        fn new() -> Self {
            let clock = Arc::new(VirtualClock::default());
            clock.set(fixtures::at(1_000));
            Self {
                root: tempfile::tempdir().unwrap(),
                sessions: tempfile::tempdir().unwrap(),
                store: Arc::new(InProcess::new()),
                compute: Arc::new(FakeCompute::new()),
                clock,
            }
        }

        fn folder(&self, name: &str) {
            std::fs::create_dir_all(self.root.path().join(name).join("tree/src")).unwrap();
        }

        async fn commit(&self, from: &Snapshot, change: Change) -> Snapshot {
            let commit = fixtures::commit(from, change, from.revision);
            match self.store.commit(&[commit]).await.unwrap().remove(0) {
                CommitOutcome::Applied(snapshot) => *snapshot,
                other => panic!("{other:?}"),
            }
        }

        /// A task whose session runs and has a folder.
        async fn running(&self, n: u64) -> Snapshot {
            let submitted = self.store.submit(&[fixtures::submit(fixtures::task(n))]).await.unwrap().remove(0);
            assert!(matches!(submitted, SubmitOutcome::Created(_)));
            let now = self.clock.now();
            let claimed = self.store.claim(&fixtures::claim(1, now, 1)).await.unwrap().remove(0);
            let admitted = self.commit(&claimed, fixtures::admit(&claimed, now)).await;
            let starting = self.commit(&admitted, fixtures::start_intent(&admitted, now)).await;
            let session = starting.task.session.clone().unwrap().id;
            let start = StartSession {
                session,
                task: starting.id(),
                attempt: 1,
                payload: String::new(),
                token: "t".to_owned().into(),
                secrets: Default::default(),
                limits: SessionLimits::default(),
            };
            self.compute.start(&start).await.unwrap();
            self.folder(&starting.id().to_string());
            self.commit(&starting, fixtures::running(&starting, now)).await
        }

        async fn cancel(&self, snapshot: &Snapshot) -> Snapshot {
            let mut change = fixtures::cancelled(snapshot, self.clock.now());
            change.slots = SlotChange::Release;
            self.commit(snapshot, change).await
        }

        async fn log(&self, snapshot: &Snapshot, entries: Vec<LogEntry>) {
            let session = snapshot.task.session.clone().unwrap().id;
            let records = entries.into_iter();
            let records =
                records.map(|entry| LogRecord { session: session.clone(), at: self.clock.now(), entry }).collect();
            let (task, now) = (snapshot.id(), self.clock.now());
            let append = Append { task, session: session.clone(), expect_seq: 1, records, events: Vec::new(), now };
            self.store.append(&[append]).await.unwrap();
        }

        async fn sweep(&self) {
            self.sweep_by(self.store.clone()).await;
        }

        fn sweeper(&self, store: Arc<dyn TaskStore>) -> Sweeper {
            Sweeper {
                work_root: self.root.path().to_owned(),
                session_root: self.sessions.path().to_owned(),
                retention: None,
                store,
                compute: self.compute.clone(),
                backend: self.compute.name().to_owned(),
                clock: self.clock.clone(),
            }
        }

        async fn sweep_by(&self, store: Arc<dyn TaskStore>) {
            let _unanswered = self.sweeper(store).give_up_ended(&mut BTreeSet::new()).await;
            sweep(self.root.path());
        }

        fn left(&self) -> BTreeSet<String> {
            let entries = std::fs::read_dir(self.root.path()).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    fn session(snapshot: &Snapshot) -> SessionId {
        snapshot.task.session.clone().unwrap().id
    }

    #[test]
    fn what_was_given_up_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for name in ["done", "busy"] {
            std::fs::create_dir_all(root.path().join(name).join("deep/er")).unwrap();
        }
        give_up(&root.path().join("done")).unwrap();
        assert!(!root.path().join("done").exists(), "it is out of the way at once");
        sweep(root.path());
        let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["busy"]);
        sweep(&root.path().join("nowhere"));
    }

    #[tokio::test]
    async fn folders_of_ended_tasks_go_and_all_others_stay() {
        let place = Place::new();
        let (live, ended) = (place.running(1).await, place.running(2).await);
        let stranger = fixtures::task_id(99).to_string();
        for name in ["notes", stranger.as_str()] {
            place.folder(name);
        }
        std::fs::write(place.root.path().join(fixtures::task_id(3).to_string()), "a file").unwrap();
        place.compute.finish(&session(&ended), 0);
        place.cancel(&ended).await;
        place.sweep().await;
        let stay = [live.id().to_string(), fixtures::task_id(3).to_string(), "notes".to_owned(), stranger];
        assert_eq!(place.left(), BTreeSet::from(stay));
    }

    #[tokio::test]
    async fn a_folder_stays_while_a_session_may_live_in_it() {
        let place = Place::new();
        let task = place.running(1).await;
        place.cancel(&task).await;
        let folder = BTreeSet::from([task.id().to_string()]);
        place.sweep().await;
        assert_eq!(place.left(), folder, "the record says ended, the backend says running");
        place.compute.kill(&session(&task), 9);
        place.compute.fail_next("sessions", ComputeErrorKind::Unavailable);
        place.sweep().await;
        assert_eq!(place.left(), folder, "nobody could say");
        place.sweep().await;
        assert_eq!(place.left(), BTreeSet::new());
    }

    #[tokio::test]
    async fn sessions_of_another_backend_are_not_judged() {
        let place = Place::new();
        let task = place.running(1).await;
        let mut change = fixtures::note(&task, place.clock.now());
        change.task.session.as_mut().unwrap().compute = "elsewhere".to_owned();
        let task = place.commit(&task, change).await;
        place.compute.finish(&session(&task), 0);
        place.cancel(&task).await;
        place.sweep().await;
        assert_eq!(place.left().len(), 1);
    }

    #[tokio::test]
    async fn work_that_is_nowhere_else_is_kept_for_a_week() {
        let place = Place::new();
        let (lost, saved) = (place.running(1).await, place.running(2).await);
        let call =
            ToolCall { id: "c".to_owned(), name: "Bash".to_owned(), input: ToolInput::Json(serde_json::json!({})) };
        let result = ToolResult { tool_use_id: "c".to_owned(), content: Vec::new(), is_error: false };
        let reply = ModelReply {
            content: vec![Content::ToolUse(call)],
            stop: StopReason::ToolUse,
            usage: Usage::default(),
            model: "m".to_owned(),
        };
        let (cost, duration_ms) = (abca_core::MicroUsd(1), Millis(1));
        let replied = LogEntry::ModelReplied { turn: 4, reply: Box::new(reply), cost, duration_ms };
        let changed = vec![replied, LogEntry::ToolEnded { turn: 4, result, duration_ms: Millis(1) }];
        place.log(&lost, changed.clone()).await;
        let checkpoint = LogEntry::Checkpoint { turn: 4, sha: "0".repeat(40) };
        place.log(&saved, changed.into_iter().chain([checkpoint]).collect()).await;
        for task in [&lost, &saved] {
            place.compute.kill(&session(task), 9);
            place.cancel(task).await;
        }
        place.sweep().await;
        assert_eq!(place.left(), BTreeSet::from([lost.id().to_string()]));
        // Also when the store has let the task go in the meantime.
        let purged = place.store.operator().purge(place.clock.now().after(Millis(1)), 9).await.unwrap();
        assert_eq!(purged, 2);
        place.folder(&saved.id().to_string());
        place.sweep().await;
        assert_eq!(place.left().len(), 2, "of a folder without a mark the store says nothing");
        place.clock.advance(KEEP_UNSAVED);
        place.sweep().await;
        assert_eq!(place.left(), BTreeSet::from([saved.id().to_string()]));
    }

    #[tokio::test]
    async fn folders_of_sessions_go_once_their_task_has_ended_long_ago() {
        let place = Place::new();
        let keep = Millis::secs(3_600);
        let (live, ended, lingering) = (place.running(1).await, place.running(2).await, place.running(3).await);
        for name in [&session(&live), &session(&ended), &session(&lingering)].map(ToString::to_string) {
            std::fs::create_dir(place.sessions.path().join(name)).unwrap();
        }
        std::fs::create_dir(place.sessions.path().join("notes")).unwrap();
        place.compute.finish(&session(&ended), 0);
        place.cancel(&ended).await;
        place.cancel(&lingering).await;
        let sweeper = place.sweeper(place.store.clone());
        assert_eq!(sweeper.let_sessions_go(keep).await.unwrap(), 0, "marked, and not old enough");
        place.store.operator().purge(place.clock.now().after(Millis(1)), 9).await.unwrap();
        place.clock.advance(keep);
        assert_eq!(sweeper.let_sessions_go(keep).await.unwrap(), 1);
        let entries = std::fs::read_dir(place.sessions.path()).unwrap();
        let left: BTreeSet<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        // One belongs to a task that runs, one still runs itself.
        let stay = [session(&live).to_string(), session(&lingering).to_string(), "notes".to_owned()];
        assert_eq!(left, BTreeSet::from(stay));
    }

    #[tokio::test]
    async fn a_task_that_cannot_be_read_keeps_its_own_folder_and_no_other() {
        for op in ["load", "log"] {
            let place = Place::new();
            let (lost, other) = (place.running(1).await, place.running(2).await);
            for task in [&lost, &other] {
                place.compute.kill(&session(task), 9);
                place.cancel(task).await;
            }
            let chaos = Chaos::none();
            chaos.unreadable(op, lost.id());
            place.sweep_by(Arc::new(chaos.store(place.store.clone()))).await;
            assert_eq!(place.left(), BTreeSet::from([lost.id().to_string()]), "{op}");
        }
    }
}
