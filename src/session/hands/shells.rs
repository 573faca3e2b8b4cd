//! Commands in the background: they run on between tool calls, their output waits to be asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exec::{self, ExecEnd, ExecRequest, Leftovers};
use super::host::Host;
use super::output::{Captured, HeadTail};

/// Most background commands at once.
const MAX_SHELLS: usize = 16;
/// Output that waits for its reader, per command; beyond it the middle is counted and dropped.
const UNREAD_BYTES: usize = 128 << 10;

/// The background commands of a server.
#[derive(Debug, Default)]
pub(super) struct Shells {
    shells: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u32,
    by_id: BTreeMap<String, Arc<Shell>>,
}

#[derive(Debug)]
struct Shell {
    cancel: CancellationToken,
    unread: Mutex<HeadTail>,
    ended: Mutex<Option<Result<ExecEnd, String>>>,
}

/// What has become of a background command since it was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellNews {
    pub output: Captured,
    /// `None` while it runs.
    pub ended: Option<Result<ExecEnd, String>>,
}

impl Shells {
    /// Starts a command and answers its id.
    pub fn start(
        &self,
        host: Arc<Host>,
        request: ExecRequest,
        tasks: &TaskTracker,
        all: &CancellationToken,
    ) -> Result<String, String> {
        let mut table = lock(&self.shells);
        if table.by_id.values().filter(|s| lock(&s.ended).is_none()).count() >= MAX_SHELLS {
            return Err(format!("{MAX_SHELLS} background commands are running already; stop one with KillShell first"));
        }
        table.last += 1;
        let id = format!("bash_{}", table.last);
        let shell = Arc::new(Shell {
            cancel: all.child_token(),
            unread: Mutex::new(HeadTail::new(UNREAD_BYTES)),
            ended: Mutex::new(None),
        });
        table.by_id.insert(id.clone(), shell.clone());
        tasks.spawn(async move {
            // Whoever is asked last tells, so nothing is kept twice.
            let request = ExecRequest { output_bytes: 0, ..request };
            let end =
                exec::run(&host, request, Leftovers::Keep, &shell.cancel, |bytes| lock(&shell.unread).push(bytes));
            let end = end.await.map(|r| r.end);
            *lock(&shell.ended) = Some(end);
        });
        Ok(id)
    }

    /// What is new; a command that has ended is forgotten once its end was told.
    pub fn news(&self, id: &str) -> Result<ShellNews, String> {
        let shell = self.find(id)?;
        let ended = lock(&shell.ended).clone();
        let output = lock(&shell.unread).take();
        if ended.is_some() {
            lock(&self.shells).by_id.remove(id);
        }
        Ok(ShellNews { output, ended })
    }

    /// Has a command and everything it started killed, soon.
    pub fn kill(&self, id: &str) -> Result<(), String> {
        self.find(id)?.cancel.cancel();
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Arc<Shell>, String> {
        let table = lock(&self.shells);
        table.by_id.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = table.by_id.keys().map(String::as_str).collect();
            match known.as_slice() {
                [] => format!("there is no background command `{id}`; none is running"),
                known => format!("there is no background command `{id}`; known: {}", known.join(", ")),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
