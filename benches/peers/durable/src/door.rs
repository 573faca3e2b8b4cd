//! What a worker that `crash` kills shares with its peers: the door by which tasks come in, and the marks its steps leave outside.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The port, if the program was called as `… serve PORT …`.
pub fn asked() -> Option<u16> {
    let mut args = std::env::args().skip(1);
    (args.next()? == "serve").then(|| args.next()?.parse().ok()).flatten()
}

/// Appends `task step` to the file that `$EFFECTS` names; without one it does nothing.
pub fn mark(task: impl Display, step: &str) {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os("EFFECTS")?;
        Some(OpenOptions::new().create(true).append(true).open(path).unwrap())
    });
    if let Some(mut file) = file.as_ref() {
        // One write a line: lines of several threads and processes do not mix.
        file.write_all(format!("{task} {step}\n").as_bytes()).unwrap();
    }
}

/// Takes a number a line, does that task, and answers the name that its marks have, or `!` and what went wrong. Never ends.
pub async fn serve<F, Fut>(port: u16, life: F)
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, String>> + Send + 'static,
{
    let life = Arc::new(life);
    let door = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let (client, _) = door.accept().await.unwrap();
        tokio::spawn(attend(client, life.clone()));
    }
}

async fn attend<F, Fut>(mut client: TcpStream, life: Arc<F>)
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = Result<String, String>>,
{
    let (from, mut to) = client.split();
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.parse() {
            Ok(n) => life(n).await.unwrap_or_else(|e| format!("!{}", e.replace('\n', " "))),
            Err(_) => "!a task is a number".to_owned(),
        };
        if to.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
