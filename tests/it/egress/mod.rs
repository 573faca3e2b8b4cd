//! The egress proxy: alone against hostile requests, and as the only way out of real hands behind real walls.

#[cfg(feature = "web")]
mod credentials;
mod hands;
mod proxy;
mod requests;
#[cfg(feature = "web")]
pub(crate) mod secure;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use abca::clock::SystemClock;
use abca::egress::{Gate, Ledger, ProxyLimits, Resolve};
use abca_core::egress::{EgressMode, EgressSettings};
use abca_core::id::TaskId;
use abca_core::text::Screen;
use abca_core::time::Timestamp;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Names and, for each look, their addresses; the last answer is repeated.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>);

impl Names {
    fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |looks: &[&[&str]]| {
            looks.iter().map(|look| look.iter().map(|a| a.parse().unwrap()).collect()).collect::<Vec<_>>()
        };
        Arc::new(Self(Mutex::new(names.iter().map(|(n, looks)| ((*n).to_owned(), parse(looks))).collect())))
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let Some(looks) = names.get_mut(name) else { return Err(io::Error::other("no such name")) };
        Ok(if looks.len() > 1 { looks.remove(0) } else { looks[0].clone() })
    }
}

fn settings(mode: EgressMode, allow: &[&str]) -> EgressSettings {
    EgressSettings {
        mode,
        allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..EgressSettings::default()
    }
}

/// A gate and what it notes.
fn gate(settings: EgressSettings, names: Arc<Names>, limits: ProxyLimits) -> (Arc<Gate>, Arc<Ledger>) {
    let task = TaskId::from_parts(Timestamp::from_millis(0), 0);
    let ledger = Arc::new(Ledger::new(task, Arc::new(Screen::default()), Arc::new(SystemClock)));
    (Arc::new(Gate::new(settings, names, ledger.clone(), limits)), ledger)
}

/// What was noted, as `outcome subject detail`, in order.
fn noted(ledger: &Ledger) -> Vec<String> {
    let words = |event: &abca_core::event::NewEvent| {
        let word = |key: &str| event.metadata.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        assert_eq!((word("stage"), word("guard")), ("egress".to_owned(), "egress".to_owned()));
        format!("{} {} {}", word("outcome"), word("subject"), word("detail")).trim_end().to_owned()
    };
    ledger.take_all().iter().map(words).collect()
}

/// An HTTP server on the loopback interface that answers every request with its own words; answers its port.
async fn server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hearing = hearing.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                hearing.lock().unwrap().push(String::from_utf8_lossy(&bytes).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (port, heard)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
