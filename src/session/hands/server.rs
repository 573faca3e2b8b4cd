//! The hands' side of the wire: takes calls, runs them side by side, answers.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use abca_core::Millis;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exec::{self, ExecRequest, ExecResult, Leftovers};
use super::host::Host;
use super::protocol::{self, Answer, Call, HandsConfig, HandsInfo, Op, PROTOCOL_VERSION, Reply, ToolReply};
use super::shells::Shells;
use crate::session::tools::{self, ToolRequest, files};

/// How often live output is sent on, per command, and how much of it at once; what is over is counted.
const LIVE_EVERY: Duration = Duration::from_millis(100);
const LIVE_BYTES: usize = 16 << 10;
/// Answers that wait for the brain to read. A brain that does not read stops the hands, not their memory.
const QUEUE: usize = 64;

/// Serves one brain until it closes the connection; then everything that still runs is killed.
///
/// `own_process`: this process does nothing else, so strays may be looked for among its children.
pub(super) async fn serve(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    own_process: bool,
) -> io::Result<()> {
    let (answers, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let tasks = TaskTracker::new();
    let all = CancellationToken::new();
    let reading = async {
        let result = take_calls(&mut from, answers, &tasks, &all, own_process).await;
        all.cancel();
        tasks.close();
        tasks.wait().await;
        result
    };
    let writing = async {
        while let Some(frame) = queue.recv().await {
            to.write_all(&frame).await?;
            to.flush().await?;
        }
        Ok(())
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        read = &mut reading => read,
        // The brain is gone without a word: nobody reads what the rest would say.
        wrote = &mut writing => {
            all.cancel();
            tasks.close();
            tasks.wait().await;
            wrote
        }
    }
}

#[derive(Debug)]
struct Connection {
    host: Arc<Host>,
    shells: Shells,
    running: Mutex<HashMap<u64, CancellationToken>>,
    answers: mpsc::Sender<Vec<u8>>,
    tasks: TaskTracker,
    all: CancellationToken,
}

async fn take_calls(
    from: &mut (impl AsyncRead + Unpin),
    answers: mpsc::Sender<Vec<u8>>,
    tasks: &TaskTracker,
    all: &CancellationToken,
    own_process: bool,
) -> io::Result<()> {
    let mut open: Option<Arc<Connection>> = None;
    while let Some((Call { id, op }, body)) = protocol::read::<Call>(from).await? {
        match (op, &open) {
            (Op::Hello(config), None) => {
                let opened = match Host::new(&config, own_process) {
                    Ok(host) => build_bridge(&config, own_process, tasks, all).await.map(|()| host),
                    Err(message) => Err(message),
                };
                let reply = match opened {
                    Ok(host) => {
                        let shell = host.shell.display().to_string();
                        open = Some(Arc::new(Connection {
                            host: Arc::new(host),
                            shells: Shells::default(),
                            running: Mutex::default(),
                            answers: answers.clone(),
                            tasks: tasks.clone(),
                            all: all.clone(),
                        }));
                        Reply::Ready(HandsInfo { protocol: PROTOCOL_VERSION, pid: std::process::id(), shell })
                    }
                    Err(message) => Reply::Failed { message },
                };
                send(&answers, all, id, reply, &[]).await;
            }
            (Op::Cancel { call }, Some(c)) => {
                if let Some(token) = lock(&c.running).get(&call) {
                    token.cancel();
                }
            }
            (op, Some(c)) => {
                let (c, cancel) = (c.clone(), all.child_token());
                lock(&c.running).insert(id, cancel.clone());
                tasks.spawn(async move {
                    let (reply, body) = c.run(id, op, body, &cancel).await;
                    lock(&c.running).remove(&id);
                    let body: Vec<&[u8]> = body.iter().map(Vec::as_slice).collect();
                    send(&c.answers, &c.all, id, reply, &body).await;
                });
            }
            (_, None) => {
                let message = "the first call has to be `hello`".into();
                send(&answers, all, id, Reply::Failed { message }, &[]).await;
            }
        }
    }
    Ok(())
}

/// The bridge to the egress proxy, where there is to be one.
async fn build_bridge(
    config: &HandsConfig,
    own_process: bool,
    tasks: &TaskTracker,
    all: &CancellationToken,
) -> Result<(), String> {
    let Some(bridge) = &config.bridge else { return Ok(()) };
    if !own_process {
        let why = "hands in this process have no network of their own that could lead through the egress proxy: give \
                   them a process, or another network than `proxy`";
        return Err(why.to_owned());
    }
    let running = crate::egress::bridge(bridge)
        .await
        .map_err(|e| format!("the bridge to the egress proxy cannot listen on port {}: {e}", bridge.port))?;
    let all = all.clone();
    tasks.spawn(async move { all.run_until_cancelled_owned(running).await });
    Ok(())
}

async fn send(answers: &mpsc::Sender<Vec<u8>>, all: &CancellationToken, id: u64, reply: Reply, body: &[&[u8]]) {
    let frame = protocol::encode(&Answer { id, reply }, body).or_else(|e| {
        protocol::encode(&Answer { id, reply: Reply::Failed { message: format!("no answer: {e}") } }, &[])
    });
    if let Ok(frame) = frame {
        // At the end nobody may be left to read: then the answer is not waited for.
        tokio::select! {
            _ = answers.send(frame) => {}
            () = all.cancelled() => {}
        }
    }
}

impl Connection {
    async fn run(
        self: &Arc<Self>,
        id: u64,
        op: Op,
        body: Vec<u8>,
        cancel: &CancellationToken,
    ) -> (Reply, Vec<Vec<u8>>) {
        let done = match op {
            Op::Hello(HandsConfig { .. }) => Err("`hello` was said already".to_owned()),
            Op::Ping | Op::Cancel { .. } => Ok((Reply::Done, Vec::new())),
            Op::Exec(request) => self.exec(id, ExecRequest { stdin: body, ..request }, cancel).await.map(|r| {
                let summary = r.summary();
                (Reply::Exit(summary), vec![r.stdout.head, r.stdout.tail, r.stderr.head, r.stderr.tail])
            }),
            Op::Tool(request) => Ok(self.tool(*request, cancel).await),
            Op::Stat { path } => self
                .blocking(cancel, move |host, _| files::stat(&host.place, &path))
                .await
                .map(|s| (Reply::Stat(s), Vec::new())),
            Op::Fetch { path, max_bytes } => self
                .blocking(cancel, move |host, _| files::fetch(&host.place, &path, max_bytes).map(|f| vec![f]))
                .await
                .map(files_reply),
            Op::Store { path } => self
                .blocking(cancel, move |host, _| files::store(&host.place, &path, &body))
                .await
                .map(|()| (Reply::Done, Vec::new())),
            Op::LeadTo { paths } => self
                .blocking(cancel, move |host, _| Ok(paths.iter().map(|p| host.place.leads_to(p, &host.home)).collect()))
                .await
                .map(|paths| (Reply::Paths { paths }, Vec::new())),
            Op::ProjectFiles => {
                self.blocking(cancel, |host, _| Ok(files::project_files(&host.place))).await.map(files_reply)
            }
        };
        done.unwrap_or_else(|message| (Reply::Failed { message }, Vec::new()))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce(&Host, &CancellationToken) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (host, cancel) = (self.host.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || work(&host, &cancel))
            .await
            .unwrap_or_else(|_| Err("the operation failed inside the hands; this is an error of abca's".into()))
    }

    async fn exec(&self, id: u64, request: ExecRequest, cancel: &CancellationToken) -> Result<ExecResult, String> {
        let live = Mutex::new(Live::default());
        let running = exec::run(&self.host, request, Leftovers::Kill, cancel, |bytes| lock(&live).push(bytes));
        let telling = async {
            let mut tick = tokio::time::interval(LIVE_EVERY);
            loop {
                tick.tick().await;
                let (bytes, skipped_bytes) = lock(&live).take();
                if bytes.is_empty() {
                    continue;
                }
                // Live output is for showing: when the brain is slow it is left out, the result is not.
                if let Ok(frame) =
                    protocol::encode(&Answer { id, reply: Reply::Output { skipped_bytes } }, &[bytes.as_slice()])
                    && self.answers.try_send(frame).is_err()
                {
                    lock(&live).skipped += skipped_bytes + bytes.len() as u64;
                }
            }
        };
        tokio::select! {
            result = running => result,
            () = telling => unreachable!("it never ends"),
        }
    }

    async fn tool(&self, request: ToolRequest, cancel: &CancellationToken) -> (Reply, Vec<Vec<u8>>) {
        let started = Instant::now();
        let done = match request {
            ToolRequest::Bash(args) => self
                .shells
                .start(self.host.clone(), args.exec(), &self.tasks, &self.all)
                .map(|id| tools::shell_started(&id).into()),
            ToolRequest::BashOutput(args) => self.shells.news(&args.bash_id).map(|n| tools::shell_news(&n).into()),
            ToolRequest::KillShell(args) => {
                self.shells.kill(&args.shell_id).map(|()| tools::shell_killed(&args.shell_id).into())
            }
            file => self.blocking(cancel, move |host, cancel| tools::run_here(&host.place, &file, cancel)).await,
        };
        let duration_ms = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let done = done.unwrap_or_else(tools::Made::error);
        let (image, body) = done.image.map_or((None, Vec::new()), |i| (Some(i.media_type), vec![i.bytes]));
        (Reply::Outcome(ToolReply { text: done.text, is_error: done.is_error, image, duration_ms }), body)
    }
}

fn files_reply(files: Vec<protocol::FileBytes>) -> (Reply, Vec<Vec<u8>>) {
    let heads = files
        .iter()
        .map(|f| protocol::FileHead { path: f.path.clone(), len: f.bytes.len() as u64, truncated: f.truncated })
        .collect();
    (Reply::Files { files: heads }, files.into_iter().map(|f| f.bytes).collect())
}

/// Output since it was last sent on.
#[derive(Debug, Default)]
struct Live {
    bytes: Vec<u8>,
    skipped: u64,
}

impl Live {
    fn push(&mut self, new: &[u8]) {
        let room = LIVE_BYTES.saturating_sub(self.bytes.len()).min(new.len());
        self.bytes.extend_from_slice(&new[..room]);
        self.skipped += (new.len() - room) as u64;
    }

    fn take(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.skipped))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
