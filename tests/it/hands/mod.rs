//! The hands, in a process of their own where processes matter, else in this one.

mod commands;
mod file_tools;
mod hostile;
mod server;

use std::any::Any;
use std::path::Path;
use std::process::Stdio;

use abca::session::hands::{
    Client, HANDS_ARG, Hands, HandsConfig, HandsError, HandsErrorKind, Launch, Launched, serve,
};
use abca::session::tools::{self, Todos, ToolOutcome};
use abca_core::model::{Content, ToolCall, ToolInput};
use async_trait::async_trait;
use serde_json::Value;
use tempfile::TempDir;

/// The test program is the server too: looked at before the test harness sees the arguments.
#[used]
#[unsafe(link_section = ".init_array")]
static BE_THE_SERVER: extern "C" fn() = {
    extern "C" fn check() {
        if std::env::args().nth(1).as_deref() == Some(HANDS_ARG) {
            std::process::exit(i32::from(serve().is_err()));
        }
    }
    check
};

/// A work tree and a temporary folder.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("tree")
    }

    fn config(&self) -> HandsConfig {
        let mut config = HandsConfig::new(self.root());
        config.tmp = self.dir.path().join("tmp");
        config.home = self.dir.path().join("tmp/home");
        config
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root().join(name)).unwrap()
    }

    /// Hands in this process.
    async fn client(&self) -> Client {
        Client::in_process(&self.config()).await.unwrap()
    }

    /// Hands in a process of their own.
    fn hands(&self) -> Hands {
        Hands::new(OwnProcess, self.config())
    }
}

#[derive(Debug)]
struct OwnProcess;

#[async_trait]
impl Launch for OwnProcess {
    async fn launch(&self) -> Result<Launched, HandsError> {
        let mut child = server_process().map_err(|e| HandsError::new(HandsErrorKind::Launch, e.to_string()))?;
        let (from, to) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        Ok(Launched { from: Box::new(from), to: Box::new(to), guard: Box::new(child) as Box<dyn Any + Send> })
    }
}

fn server_process() -> std::io::Result<tokio::process::Child> {
    tokio::process::Command::new(std::env::current_exe()?)
        .arg(HANDS_ARG)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Calls a tool as a model would.
async fn call(client: &Client, name: &str, input: Value) -> ToolOutcome {
    let call = ToolCall { id: "1".into(), name: name.into(), input: ToolInput::Json(input) };
    match tools::parse(&call) {
        Ok(request) => tools::run(client, &request, &mut Todos::default(), |_| {}).await.unwrap(),
        Err(e) => ToolOutcome::error(e),
    }
}

/// The text of a result, with a mark in front when it is an error.
async fn said(client: &Client, name: &str, input: Value) -> String {
    let outcome = call(client, name, input).await;
    let mut out = if outcome.is_error { "ERROR ".to_owned() } else { String::new() };
    for part in outcome.content {
        match part {
            Content::Text { text } => out.push_str(&text),
            other => out.push_str(&format!("{other:?}")),
        }
    }
    out
}

/// Processes whose command line holds a word.
fn running(word: &str) -> usize {
    let found = std::fs::read_dir("/proc").unwrap().flatten().filter(|e| {
        let path: &Path = &e.path();
        std::fs::read(path.join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(word))
    });
    found.count()
}
