//! A server on loopback that answers with exactly the bytes it is told to, one answer a connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Captured {
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Captured {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the server does with a connection once it has the request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These writes, each flushed, then the connection ends.
    Bytes(Vec<Vec<u8>>),
    /// Not a word.
    Silence,
}

type Count = Box<dyn Fn(&Captured) -> Option<Answer> + Send + Sync>;

pub struct Server {
    pub url: String,
    captured: Arc<Mutex<Vec<Captured>>>,
}

impl Server {
    /// Answers the calls in order. `aside` answers what is not part of the script, e.g. token counts.
    pub async fn start(answers: Vec<Answer>, aside: Count) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let captured = Arc::new(Mutex::new(Vec::new()));
        let (log, answers, aside) = (captured.clone(), Arc::new(Mutex::new(VecDeque::from(answers))), Arc::new(aside));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (log, answers, aside) = (log.clone(), answers.clone(), aside.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut socket).await else { return };
                    log.lock().unwrap().push(request.clone());
                    let answer = aside(&request).or_else(|| answers.lock().unwrap().pop_front());
                    match answer.unwrap_or_else(|| plain(418, "text/plain", &[], b"the script has ended")) {
                        Answer::Bytes(writes) => {
                            socket.set_nodelay(true).unwrap();
                            for bytes in writes {
                                if socket.write_all(&bytes).await.is_err() {
                                    return;
                                }
                                tokio::task::yield_now().await;
                            }
                            let _ = socket.shutdown().await;
                        }
                        Answer::Silence => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, captured }
    }

    pub fn captured(&self) -> Vec<Captured> {
        self.captured.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Captured> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length: usize = headers.iter().find(|(n, _)| n == "content-length")?.1.parse().ok()?;
    while bytes.len() < head + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Captured { path, headers, body: bytes[head..head + length].to_vec() })
}

fn head(status: u16, content_type: &str, headers: &[(&str, &str)], framing: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\nconnection: close\r\n{framing}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A whole answer with its length.
pub fn plain(status: u16, content_type: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut bytes = head(status, content_type, headers, &format!("content-length: {}", body.len()));
    bytes.extend(body);
    Answer::Bytes(vec![bytes])
}

/// A streamed answer in chunks of `size`; a `cut` one lacks its end.
pub fn streamed(content_type: &str, body: &[u8], size: usize, cut: bool) -> Answer {
    let mut writes = vec![head(200, content_type, &[], "transfer-encoding: chunked")];
    for chunk in body.chunks(size) {
        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
        writes.push(bytes);
    }
    if !cut {
        writes.push(b"0\r\n\r\n".to_vec());
    }
    Answer::Bytes(writes)
}
