//! Where the sessions live, and who submits: the parts that are never killed, and so can tell what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abca::clock::SystemClock;
use abca::link::StoreLink;
use abca::orchestrator::Bell;
use abca::{Abca, NewTask, UserId};
use abca_core::id::IdempotencyKey;
use abca_core::link::SessionLink;
use abca_core::store::TaskStore;
use abca_core::{SessionId, TaskId};

use super::common::report;
use super::worker::Spool;

/// One session in so many dies without a word.
const DIES: u64 = 50;

#[derive(Debug, Default)]
pub struct Told {
    /// Tasks by how many reports of theirs were accepted.
    pub reports: BTreeMap<TaskId, u32>,
    /// Tasks with a session that lives now.
    live: BTreeSet<TaskId>,
    /// Tasks that ever had two.
    pub doubled: BTreeSet<TaskId>,
}

pub struct Host {
    spool: Spool,
    link: Arc<dyn SessionLink>,
    pub told: Mutex<Told>,
    /// Reports accepted so far.
    pub done: AtomicU64,
    pub started: AtomicU64,
    pub died: AtomicU64,
    pub submit_retries: AtomicU64,
}

impl Host {
    pub fn start(folder: &Path, store: Arc<dyn TaskStore>) -> Arc<Self> {
        let spool = Spool(folder.to_owned());
        spool.make();
        let link = Arc::new(StoreLink::new(store, Arc::new(SystemClock), Bell::default()));
        let host = Arc::new(Self {
            spool,
            link,
            told: Mutex::default(),
            done: AtomicU64::new(0),
            started: AtomicU64::new(0),
            died: AtomicU64::new(0),
            submit_retries: AtomicU64::new(0),
        });
        tokio::spawn(host.clone().look());
        host
    }

    pub fn folder(&self) -> &Path {
        &self.spool.0
    }

    async fn look(self: Arc<Self>) {
        loop {
            // Gone at the end of all.
            let Ok(entries) = fs::read_dir(self.spool.0.join("start")) else { return };
            for entry in entries {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let task: TaskId = fs::read_to_string(self.spool.file("start", &name)).unwrap().parse().unwrap();
                fs::rename(self.spool.file("start", &name), self.spool.file("run", &name)).unwrap();
                tokio::spawn(self.clone().session(task, name));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn session(self: Arc<Self>, task: TaskId, name: String) {
        let n = self.started.fetch_add(1, Ordering::Relaxed);
        {
            let mut told = self.told.lock().unwrap();
            if !told.live.insert(task) {
                told.doubled.insert(task);
            }
        }
        let stopped = || self.spool.file("stop", &name).exists();
        let session = SessionId::new(&name).unwrap();
        if !stopped() {
            if n % DIES == DIES - 1 {
                self.died.fetch_add(1, Ordering::Relaxed);
            } else {
                self.speak(task, &session, stopped).await;
            }
        }
        self.told.lock().unwrap().live.remove(&task);
        fs::rename(self.spool.file("run", &name), self.spool.file("over", &name)).unwrap();
    }

    /// What a session says, again and again until it is heard, refused, or stopped.
    async fn speak(&self, task: TaskId, session: &SessionId, stopped: impl Fn() -> bool) {
        while let Err(error) = self.link.register(task, session).await {
            if !error.is_retryable() || stopped() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while let Err(error) = self.link.report(task, session, &report()).await {
            if !error.is_retryable() || stopped() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        *self.told.lock().unwrap().reports.entry(task).or_default() += 1;
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Submits at a steady rate, each task until it is accepted; answers what was accepted.
pub async fn submit(abca: Abca, host: Arc<Host>, rate: u64, time: Duration) -> Vec<TaskId> {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    let mut n = 0u64;
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        while n < due {
            n += 1;
            let (abca, host) = (abca.clone(), host.clone());
            clients.spawn(async move {
                let user = UserId::new(format!("user-{}", n % 1_000)).unwrap();
                let mut task = NewTask::new("acme/web", "nothing");
                task.idempotency_key = Some(IdempotencyKey::new(format!("k{n}")).unwrap());
                loop {
                    match abca.submit_as(&user, task.clone()).await {
                        Ok(handle) => return handle.id(),
                        Err(error) if error.is_retryable() => {
                            host.submit_retries.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clients.join_all().await
}
