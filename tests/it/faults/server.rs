//! A model server on loopback that speaks Anthropic's wire. What it answers is a function of the conversation, so a
//! script survives sessions that die; every request is checked for what the real service would refuse.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A call of the model, as it came.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The body.
    pub body: Value,
    /// Answers in the conversation so far: the next one is number `turn`, from 0.
    pub turn: usize,
    /// Calls of the model before this one, whatever became of them.
    pub nth: usize,
}

impl Ask {
    /// Everything that the model sees, as text.
    pub fn text(&self) -> String {
        self.body.to_string()
    }

    /// The content of the last message, as text.
    pub fn last(&self) -> String {
        self.body["messages"].as_array().and_then(|m| m.last()).map(Value::to_string).unwrap_or_default()
    }
}

/// What the server does with a call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Content blocks and a stop reason, streamed.
    Say(Vec<Value>, &'static str),
    /// The same, and the tokens that are billed for it.
    Bill(Vec<Value>, &'static str, u64, u64),
    /// The same, broken off after so many bytes of the body.
    Cut(Vec<Value>, usize),
    /// A status, headers and a body.
    Status(u16, Vec<(&'static str, &'static str)>, String),
    /// Bytes instead of HTTP.
    Garbage(Vec<u8>),
    /// Not a word, until the other side goes away.
    Silence,
}

/// Text that ends the turn.
pub fn text(words: &str) -> Answer {
    Answer::Say(vec![json!({"type": "text", "text": words})], "end_turn")
}

/// Tool calls; ids follow from the turn.
pub fn tools(turn: usize, calls: &[(&str, Value)]) -> Answer {
    Answer::Say(tool_blocks(turn, calls), "tool_use")
}

/// The blocks of [`tools`].
pub fn tool_blocks(turn: usize, calls: &[(&str, Value)]) -> Vec<Value> {
    let block = |(n, (name, input)): (usize, &(&str, Value))| json!({"type": "tool_use", "id": format!("toolu_{turn}_{n}"), "name": name, "input": input});
    calls.iter().enumerate().map(block).collect()
}

/// One shell command.
pub fn bash(turn: usize, command: &str) -> Answer {
    tools(turn, &[("Bash", json!({"command": command, "description": "x"}))])
}

/// An error in Anthropic's form.
pub fn error(status: u16, kind: &str, message: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    Answer::Status(status, headers.to_vec(), body.to_string())
}

type Script = dyn Fn(&Ask) -> Answer + Send + Sync;

/// The server. Its threads end with the test's process.
#[derive(Clone)]
pub struct Model {
    pub url: String,
    asks: Arc<Mutex<Vec<Ask>>>,
    wrongs: Arc<Mutex<Vec<String>>>,
}

impl Model {
    /// Answers calls by a script.
    pub fn start(script: impl Fn(&Ask) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let model = Self { url, asks: Arc::default(), wrongs: Arc::default() };
        let (serving, script): (Self, Arc<Script>) = (model.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (serving, script) = (serving.clone(), script.clone());
                std::thread::spawn(move || socket.ok().and_then(|s| serving.serve(s, &*script)));
            }
        });
        model
    }

    /// Calls of the model so far.
    pub fn asks(&self) -> Vec<Ask> {
        self.asks.lock().unwrap().clone()
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.asks.lock().unwrap().len()
    }

    /// What the real service would have refused.
    pub fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().unwrap().clone()
    }

    fn serve(&self, mut socket: TcpStream, script: &Script) -> Option<()> {
        let (path, body) = read_request(&mut socket)?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        if path.ends_with("/count_tokens") {
            let counted = json!({"input_tokens": body.to_string().len() / 3}).to_string();
            return write(&mut socket, &whole(200, &[], &counted));
        }
        let ask = {
            let mut asks = self.asks.lock().unwrap();
            let turn = body["messages"].as_array()?.iter().filter(|m| m["role"] == "assistant").count();
            let ask = Ask { turn, nth: asks.len(), body };
            asks.push(ask.clone());
            ask
        };
        self.wrongs.lock().unwrap().extend(wrong(&ask.body));
        match script(&ask) {
            Answer::Say(blocks, stop) => write(&mut socket, &streamed(&events(&blocks, stop, 100, 20), None)),
            Answer::Bill(blocks, stop, input, output) => {
                write(&mut socket, &streamed(&events(&blocks, stop, input, output), None))
            }
            Answer::Cut(blocks, at) => write(&mut socket, &streamed(&events(&blocks, "end_turn", 100, 20), Some(at))),
            Answer::Status(status, headers, body) => write(&mut socket, &whole(status, &headers, &body)),
            Answer::Garbage(bytes) => write(&mut socket, &bytes),
            Answer::Silence => {
                let _gone = socket.read(&mut [0; 1]);
                None
            }
        }
    }
}

fn write(socket: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).ok()?;
    socket.shutdown(Shutdown::Write).ok()
}

fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    let mut more = |bytes: &mut Vec<u8>| match socket.read(&mut buffer) {
        Ok(n) if n > 0 => {
            bytes.extend(&buffer[..n]);
            Some(())
        }
        _ => None,
    };
    let head = loop {
        match bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(&mut bytes)?,
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let path = text.split(' ').nth(1)?.to_owned();
    let length = text.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    let length: usize = length?.1.trim().parse().ok()?;
    while bytes.len() < head + length {
        more(&mut bytes)?;
    }
    Some((path, bytes[head..head + length].to_vec()))
}

fn whole(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

fn streamed(events: &str, cut: Option<usize>) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    let body = &events.as_bytes()[..cut.unwrap_or(events.len()).min(events.len())];
    for chunk in body.chunks(4 << 10) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    if cut.is_none() {
        bytes.extend(b"0\r\n\r\n");
    }
    bytes
}

/// An answer as Anthropic streams it.
fn events(blocks: &[Value], stop: &str, input: u64, output: u64) -> String {
    let mut all =
        vec![json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-6", "content": [], "usage": {"input_tokens": input, "output_tokens": 1}}})];
    for (index, block) in blocks.iter().enumerate() {
        let (empty, delta) = match block["type"].as_str() {
            Some("tool_use") => {
                // Scripts give raw text where the JSON is to be broken.
                let raw = block["input"].as_str().map_or_else(|| block["input"].to_string(), str::to_owned);
                let mut empty = block.clone();
                empty["input"] = json!({});
                (empty, json!({"type": "input_json_delta", "partial_json": raw}))
            }
            _ => (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]})),
        };
        all.push(json!({"type": "content_block_start", "index": index, "content_block": empty}));
        all.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        all.push(json!({"type": "content_block_stop", "index": index}));
    }
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": output}}));
    all.push(json!({"type": "message_stop"}));
    all.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap_or_default())).collect()
}

/// What the service would refuse about a conversation.
fn wrong(body: &Value) -> Vec<String> {
    let mut wrongs = Vec::new();
    let Some(messages) = body["messages"].as_array() else { return vec!["no messages".to_owned()] };
    let mut open: Vec<String> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role != ["user", "assistant"][n % 2] {
            wrongs.push(format!("message {n} is of the {role}"));
        }
        let parts = message["content"].as_array().cloned().unwrap_or_default();
        if parts.is_empty() {
            wrongs.push(format!("message {n} is empty"));
        }
        let of_kind = |kind: &str| parts.iter().filter(|p| p["type"] == kind).cloned().collect::<Vec<_>>();
        if parts.iter().any(|p| p["type"] == "text" && p["text"].as_str().is_none_or(|t| t.trim().is_empty())) {
            wrongs.push(format!("message {n} has an empty text"));
        }
        let answered: Vec<String> =
            of_kind("tool_result").iter().map(|p| p["tool_use_id"].as_str().unwrap_or_default().to_owned()).collect();
        if role == "user" {
            let (mut want, mut got) = (open.clone(), answered.clone());
            want.sort();
            got.sort();
            if want != got {
                wrongs.push(format!("message {n} answers {got:?} and should answer {want:?}"));
            }
            if !parts.iter().take(answered.len()).all(|p| p["type"] == "tool_result") {
                wrongs.push(format!("message {n} has something before its tool results"));
            }
        }
        open = of_kind("tool_use").iter().map(|p| p["id"].as_str().unwrap_or_default().to_owned()).collect();
        if of_kind("tool_use").iter().any(|p| !p["input"].is_object()) {
            wrongs.push(format!("message {n} has a tool input that is not an object"));
        }
    }
    if messages.last().is_none_or(|m| m["role"] != "user") {
        wrongs.push("the conversation does not end with the user".to_owned());
    }
    wrongs
}
