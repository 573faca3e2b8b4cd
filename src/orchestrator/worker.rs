//! The worker: claims due tasks, drives many at once, keeps their leases, and drains when told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abca_core::compute::ComputeStrategy;
use abca_core::id::WorkerId;
use abca_core::store::{ClaimQuery, FARTHEST, TaskStore};
use abca_core::task::{Backend, Caps, Snapshot};
use abca_core::{Clock, IdSource, Millis, TaskId, Timestamp};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::driving::Driving;
use super::retention::retain;
use super::roster::Roster;
use super::seams::{Launcher, Preparer};
use super::wake::{Bell, Wake};
use super::watch::Watchers;
use crate::error::{Error, ErrorKind};
use crate::guardrail::Guard;

/// How often the roster is looked through: a folder of some files.
const ROSTER_EVERY: Duration = Duration::from_secs(1);
/// An idle worker looks for work this often whatever the store says is due next: were the clock set back, that may be far
/// ahead.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// Shorter leases expire while they are renewed.
const SHORTEST_LEASE: Millis = Millis::secs(1);
/// Longer ones would come close to [`FARTHEST`]: who sees them, with a clock behind, would take them for expired.
const LONGEST_LEASE: Millis = Millis(FARTHEST.0 / 2);

/// Who submitted a task, and whoever watches it, must have time to hear its end.
const SHORTEST_RETENTION: Millis = Millis::secs(3_600);

/// How a worker works. Every default is meant for a laptop and for a fleet alike.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// How long a claim holds without renewal, from 1 s to 1 h. Default 30 s; renewed after a third of it. Also how long the
    /// work of a worker that died without a word rests, unless its death is seen in the `roster`.
    pub lease: Millis,
    /// A folder where every worker of this machine that works on the same store keeps a locked file, so that its death
    /// is known to the others at once. Default none; the builder sets one in the state folder.
    pub roster: Option<PathBuf>,
    /// Names the place whose sessions this worker sees, where its compute strategy sees no others: workers of other places
    /// leave their looks and stops to it. Default none; the builder names the state folder.
    pub place: Option<String>,
    /// How often an idle worker looks for work of other processes. Default 250 ms: one small read of the store.
    pub poll: Millis,
    /// Most tasks driven at the same moment. Default 256. A task that waits for its session is not being driven. As many
    /// again are driven when they have a signal, so that a cancel never waits for a place.
    pub max_driving: usize,
    /// Caps for what this worker admits, beside those that a task was accepted under: of the two the lower counts. Default none.
    /// The builder adds what [`crate::Builder::platform`] sets otherwise than by default. Lowering one lets what runs go on.
    pub caps: Caps,
    /// How often sessions that no task expects are looked for. Default 60 s, and at the start.
    pub sweep_every: Millis,
    /// Removes tasks that ended longer ago than this, one hour at least: record, events, log, signals, idempotency key, and the
    /// folders of their sessions on this machine. Default none: nothing is removed by itself. Looked at from once a minute
    /// to once an hour, a 24th of this; several workers of a store may do it, and should be told the same.
    pub retention: Option<Millis>,
    /// Longest pre-flight and context assembly. Default 2 min.
    pub prepare_timeout: Millis,
    /// Longest start of a session, as the backend answers it. Default 60 s.
    pub start_timeout: Millis,
    /// Longest stop of a session beyond its grace. Default 30 s.
    pub stop_timeout: Millis,
    /// Longest look at a session. Default 10 s.
    pub observe_timeout: Millis,
    /// What loops under way get to finish when the worker is told to stop. Default 30 s.
    pub drain_timeout: Millis,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            lease: Millis::secs(30),
            roster: None,
            place: None,
            poll: Millis(250),
            max_driving: 256,
            caps: Caps::default(),
            sweep_every: Millis::secs(60),
            retention: None,
            prepare_timeout: Millis::secs(120),
            start_timeout: Millis::secs(60),
            stop_timeout: Millis::secs(30),
            observe_timeout: Millis::secs(10),
            drain_timeout: Millis::secs(30),
        }
    }
}

impl WorkerConfig {
    /// Checks that a worker can work so.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming the setting and what is acceptable.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::new(ErrorKind::Invalid, format!("the worker's {text}")));
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.lease) {
            let range = format!("from {SHORTEST_LEASE} to {LONGEST_LEASE}");
            return invalid(format!("`lease` is {}: set one {range}", self.lease));
        }
        if let Some(retention) = self.retention.filter(|r| *r < SHORTEST_RETENTION) {
            return invalid(format!("`retention` is {retention}: set at least {SHORTEST_RETENTION}, or none"));
        }
        if let Some(name) = self.caps.zero() {
            return invalid(format!(
                "`caps.{name}` is zero, so that nothing would be admitted: set at least 1, or none"
            ));
        }
        let times = [
            ("poll", self.poll),
            ("sweep_every", self.sweep_every),
            ("prepare_timeout", self.prepare_timeout),
            ("start_timeout", self.start_timeout),
            ("stop_timeout", self.stop_timeout),
            ("observe_timeout", self.observe_timeout),
        ];
        match times.into_iter().find(|(_, time)| time.0 == 0) {
            Some((name, _)) => invalid(format!("`{name}` is zero: set a time")),
            None => Ok(()),
        }
    }
}

/// What a worker works with.
#[derive(Debug, Clone)]
pub struct WorkerParts {
    /// Where the tasks are. The worker rings `bell` for what it does there itself.
    pub store: Arc<dyn TaskStore>,
    /// Rings when something is due in this process.
    pub bell: Bell,
    /// Where sessions run.
    pub compute: Arc<dyn ComputeStrategy>,
    /// Prepares tasks.
    pub preparer: Arc<dyn Preparer>,
    /// Judges what was prepared. Default: nothing does.
    pub guard: Guard,
    /// Words the start of a session.
    pub launcher: Arc<dyn Launcher>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the worker's own name comes from.
    pub ids: Arc<dyn IdSource>,
}

/// What was left when a worker had drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Loops that did not finish in time; their tasks are taken up by another worker once the leases expire.
    pub unfinished: usize,
    /// Sessions that may still run.
    pub sessions: usize,
    /// Whether those sessions outlive this process. Where not, they end with it, and their tasks try again.
    pub sessions_outlive_worker: bool,
}

/// An orchestrator in this process. Dropping it stops it at once, as a crash would; [`Worker::shutdown`] drains.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    stop: CancellationToken,
    main: Mutex<Option<JoinHandle<Drained>>>,
}

impl Worker {
    /// Starts a worker on the current tokio runtime.
    ///
    /// # Errors
    /// Those of [`WorkerConfig::check`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(parts: WorkerParts, config: WorkerConfig) -> Result<Self, Error> {
        config.check()?;
        let id = WorkerId::from_parts(parts.clock.now(), parts.ids.random());
        let stop = CancellationToken::new();
        let main = tokio::spawn(Work::new(id, parts, config, stop.clone()).run());
        Ok(Self { id, stop, main: Mutex::new(Some(main)) })
    }

    /// This incarnation's name.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Stops claiming, finishes what is being driven, and leaves sessions running. A second call answers `None`.
    ///
    /// Cancel safety: a drain goes on when the future is dropped, but is not waited for any more.
    pub async fn shutdown(&self) -> Option<Drained> {
        self.stop.cancel();
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match main.await {
            Ok(drained) => Some(drained),
            Err(error) => {
                report(&error);
                None
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(main) = self.main.lock().unwrap_or_else(PoisonError::into_inner).take() {
            main.abort();
        }
    }
}

/// The worker's inside.
struct Work {
    id: WorkerId,
    driver: Arc<Driver>,
    driving: Driving,
    bell: Bell,
    stop: CancellationToken,
    end: CancellationToken,
}

/// The name that sessions of a strategy are recorded under: with the place where the strategy sees no others.
pub(crate) fn backend_name(compute: &dyn ComputeStrategy, place: Option<&str>) -> String {
    match place.filter(|_| compute.capabilities().local) {
        Some(place) => format!("{}@{place}", compute.name()),
        None => compute.name().to_owned(),
    }
}

impl Work {
    fn new(id: WorkerId, parts: WorkerParts, config: WorkerConfig, stop: CancellationToken) -> Self {
        let end = CancellationToken::new();
        let store: Arc<dyn TaskStore> = Arc::new(Wake::new(parts.store, parts.bell.clone()));
        let name = backend_name(&*parts.compute, config.place.as_deref());
        let watchers =
            Watchers::new(store.clone(), parts.compute.clone(), name.clone(), parts.clock.clone(), end.clone());
        let backend = Backend { name, capabilities: parts.compute.capabilities() };
        let driver = Arc::new(Driver {
            store,
            compute: parts.compute,
            preparer: parts.preparer,
            guard: parts.guard,
            launcher: parts.launcher,
            clock: parts.clock,
            watchers,
            backend,
            config,
        });
        Self { id, driver, driving: Driving::default(), bell: parts.bell, stop, end }
    }

    async fn run(self) -> Drained {
        // Whatever ends this future, an abort included, ends its helpers.
        let _ends = self.end.clone().drop_guard();
        let mut helpers = JoinSet::new();
        let roster = self.enter();
        if let Some(roster) = &roster {
            helpers.spawn(take_over(self.driver.clone(), roster.clone()));
        }
        helpers.spawn(renew(self.driver.clone(), self.driving.clone()));
        helpers.spawn(sweep(self.driver.clone()));
        if let Some(keep) = self.driver.config.retention {
            helpers.spawn(retain(self.driver.clone(), keep, odd(self.id), self.stop.clone()));
        }
        let mut loops = JoinSet::new();
        tracing::info!(worker = %self.id, compute = self.driver.backend.name, "worker started");
        self.claim(&mut loops).await;
        let unfinished = self.drain(&mut loops).await;
        helpers.shutdown().await;
        let compute = &self.driver.compute;
        let drained = Drained {
            unfinished,
            sessions: compute.sessions().await.map_or(0, |s| s.len()),
            sessions_outlive_worker: compute.capabilities().outlives_worker,
        };
        // With tasks in hand it is left behind as by a crash, and they are taken over.
        if let Some(roster) = roster.and_then(Arc::into_inner).filter(|_| unfinished == 0) {
            roster.leave();
        }
        tracing::info!(worker = %self.id, ?drained, "worker stopped");
        drained
    }

    /// Enters this worker among the living. Without that its death is known when its leases expire.
    fn enter(&self) -> Option<Arc<Roster>> {
        let dir = self.driver.config.roster.as_ref()?;
        match Roster::enter(dir, self.id) {
            Ok(roster) => Some(Arc::new(roster)),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "no lock says that this worker lives; its leases do");
                None
            }
        }
    }

    /// Claims and drives until told to stop.
    async fn claim(&self, loops: &mut JoinSet<()>) {
        let config = &self.driver.config;
        let mut rings = self.bell.work();
        let mut look = true;
        let mut looked = Instant::now();
        let mut pause = Pause::new(self.id, config.poll.to_std());
        let mut in_vain = Pause::new(self.id, config.poll.to_std());
        let mut futile = Futile::default();
        while !self.stop.is_cancelled() {
            while let Some(ended) = loops.try_join_next() {
                ended.unwrap_or_else(|error| report(&error));
            }
            let most = config.max_driving.max(1);
            let room = most.saturating_sub(loops.len());
            // Without room for new work, what has a signal is driven all the same: it may be a cancel.
            let limit = if room > 0 { room } else { (2 * most).saturating_sub(loops.len()) }.min(64);
            if look && limit > 0 {
                looked = Instant::now();
                match self.driver.store.claim(&self.query(limit, room == 0)).await {
                    Ok(claimed) => {
                        let news = futile.is_news(&claimed);
                        pause.found(news);
                        let (more, vain) = (news && claimed.len() >= limit, !news && !claimed.is_empty());
                        if news || vain {
                            in_vain.found(news);
                        }
                        for snapshot in claimed {
                            if let Some((ticket, snapshot)) = self.driving.enter(snapshot) {
                                loops.spawn(self.driver.clone().run(ticket, snapshot));
                            }
                        }
                        if more {
                            continue;
                        }
                        // No ring ends this one: it may be the other worker's, giving back what was taken from it.
                        if vain && self.stop.run_until_cancelled(tokio::time::sleep(in_vain.shortest())).await.is_none()
                        {
                            return;
                        }
                    }
                    Err(error) => {
                        pause.found(false);
                        tracing::warn!(%error, "could not claim; trying again");
                    }
                }
            }
            let due = self.until_due().await;
            if !look && room > 0 && due.is_some_and(|due| due.is_zero()) {
                look = true;
                continue;
            }
            let poll = config.poll.to_std();
            let wait = if room == 0 { poll } else { due.map_or(poll, |due| due.min(poll)).max(pause.shortest()) };
            look = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = rings.rung() => true,
                () = self.driver.store.rung() => true,
                Some(ended) = loops.join_next(), if room == 0 => {
                    ended.unwrap_or_else(|error| report(&error));
                    true
                }
                () = tokio::time::sleep(wait) => {
                    due.is_some_and(|due| due <= wait) || looked.elapsed() >= LOOK_ANYWAY
                }
            };
        }
    }

    fn query(&self, limit: usize, signalled: bool) -> ClaimQuery {
        let now = self.driver.clock.now();
        let lease_until = now.after(self.driver.config.lease);
        ClaimQuery { worker: self.id, task: None, signalled, now, lease_until, limit }
    }

    /// How long until something is due, if anything is; zero when it is, or when the store cannot say.
    async fn until_due(&self) -> Option<Duration> {
        match self.driver.store.next_due().await {
            Ok(due) => due.map(|due: Timestamp| due.since(self.driver.clock.now()).to_std()),
            Err(error) => {
                tracing::warn!(%error, "could not ask what is due; looking");
                Some(Duration::ZERO)
            }
        }
    }

    /// Lets loops finish; answers how many did not.
    async fn drain(&self, loops: &mut JoinSet<()>) -> usize {
        let all = async {
            while let Some(ended) = loops.join_next().await {
                ended.unwrap_or_else(|error| report(&error));
            }
        };
        let _ = tokio::time::timeout(self.driver.config.drain_timeout.to_std(), all).await;
        let unfinished = loops.len();
        loops.shutdown().await;
        unfinished
    }
}

/// Keeps a claim loop from spinning when the store says that something is due and then gives nothing new.
struct Pause {
    now: Duration,
    first: Duration,
    most: Duration,
}

impl Pause {
    /// No two workers pause alike, so that those that are in each other's way get out of step.
    fn new(worker: WorkerId, most: Duration) -> Self {
        Self { now: Duration::ZERO, first: Duration::from_millis(5 + odd(worker) % 17), most }
    }

    fn found(&mut self, something: bool) {
        let next = if something { Duration::ZERO } else { (self.now * 2).max(self.first) };
        self.now = next.min(self.most);
    }

    fn shortest(&self) -> Duration {
        self.now
    }
}

/// A number that is this worker's as a rule, so that workers get out of each other's step.
fn odd(worker: WorkerId) -> u64 {
    worker.to_string().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// What was claimed of late. Workers whose clocks are hours apart take each other's leases for expired: without a pause they
/// would take a task from each other at full speed, each before the other has committed anything. They may hold several such
/// tasks in turn, so more is remembered than the last claim.
#[derive(Default)]
struct Futile {
    /// Epoch and revision of what was claimed since the last turn of pages, and on the page before.
    page: BTreeMap<TaskId, (u64, u64)>,
    before: BTreeMap<TaskId, (u64, u64)>,
}

/// So many claimed tasks are remembered at least.
const REMEMBERED: usize = 1_024;

impl Futile {
    /// Whether there is more among these than tasks that somebody else has taken since, and to no effect.
    fn is_news(&mut self, claimed: &[Snapshot]) -> bool {
        let taken_in_vain = |s: &Snapshot| {
            let last = self.page.get(&s.id()).or_else(|| self.before.get(&s.id()));
            last.is_some_and(|(epoch, revision)| s.revision == *revision && s.epoch > epoch + 1)
        };
        let news = claimed.iter().any(|s| !taken_in_vain(s));
        if self.page.len() >= REMEMBERED {
            self.before = std::mem::take(&mut self.page);
        }
        self.page.extend(claimed.iter().map(|s| (s.id(), (s.epoch, s.revision))));
        news
    }
}

/// Extends the leases of what is being driven, and tells the loops whose lease is gone.
async fn renew(driver: Arc<Driver>, driving: Driving) {
    let lease = driver.config.lease;
    loop {
        tokio::time::sleep(lease.to_std() / 3).await;
        let renewals = driving.renewals(driver.clock.now(), lease);
        if renewals.is_empty() {
            continue;
        }
        match driver.store.renew(&renewals).await {
            Ok(kept) => {
                renewals.iter().zip(kept).filter(|(_, kept)| !kept).for_each(|(renewal, _)| driving.lost(renewal));
            }
            Err(error) => tracing::warn!(%error, "could not extend leases"),
        }
    }
}

/// Ends the leases of workers of this machine that have died, now and from time to time.
async fn take_over(driver: Arc<Driver>, roster: Arc<Roster>) {
    loop {
        for dead in roster.dead() {
            match driver.store.expire(&[dead.worker], driver.clock.now()).await {
                Ok(ended) => {
                    tracing::info!(worker = %dead.worker, ended, "a worker has died; its leases are ended");
                    dead.bury();
                }
                Err(error) => tracing::warn!(worker = %dead.worker, %error, "could not end a dead worker's leases"),
            }
        }
        tokio::time::sleep(ROSTER_EVERY).await;
    }
}

async fn sweep(driver: Arc<Driver>) {
    driver.watchers.resume().await;
    loop {
        driver.watchers.sweep().await;
        tokio::time::sleep(driver.config.sweep_every.to_std()).await;
    }
}

/// A loop that panicked: its task's lease expires, and the task is taken up again.
fn report(error: &JoinError) {
    if error.is_panic() {
        tracing::error!(%error, "a task's loop panicked; the task is taken up again when its lease expires");
    }
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures;

    use super::*;

    #[test]
    fn a_task_that_others_take_and_nobody_changes_is_no_news() {
        let claimed = |epoch, revision| Snapshot { epoch, revision, ..fixtures::claimed(fixtures::task(1)) };
        let mut futile = Futile::default();
        assert!(futile.is_news(&[claimed(1, 1)]));
        assert!(futile.is_news(&[claimed(2, 1)]), "nobody else had it: it is due again");
        assert!(!futile.is_news(&[claimed(4, 1)]), "somebody had it, and nothing came of that");
        assert!(!futile.is_news(&[]));
        assert!(!futile.is_news(&[claimed(6, 1)]));
        assert!(futile.is_news(&[claimed(8, 2)]), "something came of it");
        let other = fixtures::claimed(fixtures::task(2));
        assert!(futile.is_news(&[claimed(10, 2), other]));
        assert!(!futile.is_news(&[claimed(12, 2)]), "also with another one claimed in between");
    }

    #[test]
    fn what_is_remembered_of_claims_is_bounded() {
        let mut futile = Futile::default();
        let many = 5 * REMEMBERED as u64;
        for n in 1..=many {
            futile.is_news(&[fixtures::claimed(fixtures::task(n))]);
        }
        assert!(futile.page.len() + futile.before.len() <= 2 * REMEMBERED);
        let last = fixtures::claimed(fixtures::task(many));
        assert!(!futile.is_news(&[Snapshot { epoch: last.epoch + 2, ..last }]));
    }
}
