//! The thread that ends a sandbox's trees: when its time is over, and, where control groups cannot do it, when they
//! use more memory or processes than they may.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use abca_core::compute::SessionLimits;

use crate::tree::{self, Pidfd};

/// The limit that ended a program, or got in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitHit {
    /// Memory: something of the tree was killed.
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// Processes and threads: with control groups, new ones were refused; without, the tree was killed.
    Processes {
        /// The limit.
        limit: u32,
    },
    /// The session's time is over: everything was killed, and nothing starts any more.
    Time {
        /// The limit.
        limit_ms: u64,
    },
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { limit_bytes } => write!(f, "the memory limit of {} MiB was reached", limit_bytes >> 20),
            Self::Processes { limit } => write!(f, "the limit of {limit} processes and threads was reached"),
            Self::Time { limit_ms } => write!(f, "the session's time of {} s is over", limit_ms / 1000),
        }
    }
}

/// How often the trees are measured without control groups.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    wake: Condvar,
    limits: SessionLimits,
    measures: bool,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Tree>,
    hit: Option<LimitHit>,
    closed: bool,
}

/// A running tree: its outermost process, and whom to send what to end it.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) root: i32,
    pub(super) kill: Arc<Vec<(Pidfd, i32)>>,
}

impl Tree {
    pub(super) fn kill(&self) {
        self.kill.iter().for_each(|(process, signal)| process.signal(*signal));
    }
}

impl Watch {
    /// Starts the thread; `measures` where nothing else holds the limits.
    pub(super) fn start(limits: SessionLimits, measures: bool) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Self { state: Mutex::default(), wake: Condvar::new(), limits, measures });
        let thread = Arc::clone(&watch);
        std::thread::Builder::new().name("abca-watchdog".to_owned()).spawn(move || thread.run())?;
        Ok(watch)
    }

    /// The thread ends; what runs goes on.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }

    pub(super) fn add(&self, tree: Tree) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let key = state.next;
        state.running.insert(key, tree);
        drop(state);
        self.wake.notify_all();
        key
    }

    pub(super) fn remove(&self, key: u64) {
        self.state().running.remove(&key);
    }

    /// The limit that the watchdog has enforced, if any.
    pub(super) fn hit(&self) -> Option<LimitHit> {
        self.state().hit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let deadline = Instant::now().checked_add(self.limits.wall_ms.to_std());
        let mut state = self.state();
        while !state.closed {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                state.hit = Some(LimitHit::Time { limit_ms: self.limits.wall_ms.0 });
                state.running.values().for_each(Tree::kill);
                // Whatever still slips in is refused by its starter, who looks at `hit`.
                return;
            }
            let measuring = self.measures && !state.running.is_empty();
            let pause = match left {
                Some(left) if measuring => left.min(MEASURE_EVERY),
                Some(left) => left,
                None if measuring => MEASURE_EVERY,
                None => Duration::MAX,
            };
            state = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
            if !self.measures || state.closed {
                continue;
            }
            let trees: Vec<Tree> = state.running.values().cloned().collect();
            drop(state);
            let over = self.over(&trees);
            state = self.state();
            if let Some(hit) = over {
                state.hit = Some(hit);
                trees.iter().for_each(Tree::kill);
            }
        }
    }

    fn over(&self, trees: &[Tree]) -> Option<LimitHit> {
        let mut sum = Usage::default();
        for pid in trees.iter().flat_map(|tree| tree::descendants(tree.root)) {
            sum.add(pid);
        }
        if sum.private_bytes.saturating_add(sum.shared_bytes) > self.limits.memory_bytes {
            return Some(LimitHit::Memory { limit_bytes: self.limits.memory_bytes });
        }
        let limit = self.limits.processes;
        (sum.threads > u64::from(limit)).then_some(LimitHit::Processes { limit })
    }
}

/// What trees use. Memory shared between processes is counted once, by the process that has most of it.
#[derive(Debug, Default)]
struct Usage {
    private_bytes: u64,
    shared_bytes: u64,
    threads: u64,
}

impl Usage {
    fn add(&mut self, pid: i32) {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.private_bytes = self.private_bytes.saturating_add(field("RssAnon:") << 10);
        self.shared_bytes = self.shared_bytes.max(field("RssShmem:") << 10);
        self.threads += field("Threads:");
    }
}
