//! Which servers there are: the field's standard file, `.mcp.json`.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::egress::{Host, authority};
use crate::text::preview;
use crate::time::Millis;

/// Where a repository has it.
pub const CONFIG_PATH: &str = ".mcp.json";
/// Largest file.
pub const CONFIG_BYTES: u64 = 64 << 10;
/// Most servers of a session.
pub const SERVERS: usize = 8;

/// Longest name of a server, in bytes: with the tool's name it has to fit what model providers take.
const NAME_BYTES: usize = 24;
const ARGS: usize = 64;
const TEXT_BYTES: usize = 8 << 10;
const ENTRIES: usize = 64;
/// A word of a value that is a secret by itself, in bytes: shorter ones are plain words.
const LONG_WORD: usize = 16;
/// How long a call may take where the file says nothing, and at most.
const CALL: Millis = Millis::secs(120);
const LONGEST_CALL: Millis = Millis::secs(600);

/// The name of a server: 1 to 24 letters, digits, `-` and single `_`, the first and last no `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

impl ServerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServerName {
    type Error = McpConfigError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = (1..=NAME_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !name.starts_with('_')
            && !name.ends_with('_')
            && !name.contains("__");
        if fits {
            return Ok(Self(name));
        }
        let place = format!("mcpServers.{}", preview(&name, 64));
        let what = format!(
            "is no name of a server: use 1 to {NAME_BYTES} letters, digits, `-` and single `_`, which no name begins or \
             ends with"
        );
        Err(McpConfigError::new(place, what))
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0
    }
}

/// The servers of sessions. Default none, and those of repositories off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpSettings {
    /// The operator's, by name. At most [`SERVERS`].
    pub servers: BTreeMap<ServerName, McpServer>,
    /// Also those of the repository's [`CONFIG_PATH`], as its base branch has it. A name that the operator gave counts.
    pub from_repository: bool,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// How it is reached.
    pub transport: McpTransport,
    /// How long each call may take. Default 2 minutes, at most 10.
    pub timeout_ms: Millis,
}

/// How a server is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum McpTransport {
    /// A program in the sandbox, spoken to over standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables over those of the sandbox. What runs there can read them.
        env: BTreeMap<String, String>,
    },
    /// A server on the network, spoken to through the egress proxy (the protocol's "streamable HTTP").
    Http {
        /// Where.
        url: McpUrl,
        /// Fields of every request.
        headers: BTreeMap<String, String>,
    },
}

/// Without values of variables and of fields: they may be secrets.
impl fmt::Debug for McpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, env } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("args", &args.len())
                .field("env", &env.keys().collect::<Vec<_>>())
                .finish(),
            Self::Http { url, headers } => f
                .debug_struct("Http")
                .field("url", &url.to_string())
                .field("headers", &headers.keys().collect::<Vec<_>>())
                .finish(),
        }
    }
}

/// `http://` or `https://`, a host, and a path; no user name, no fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct McpUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host.
    pub host: Host,
    /// The port: 443 or 80 where none is written.
    pub port: u16,
    /// Path and query, from the `/` on.
    pub path: String,
}

impl fmt::Display for McpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl TryFrom<String> for McpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("is no address: it begins with neither `https://` nor `http://`".to_owned()),
        };
        if text.len() > TEXT_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err("is no address: it is too long, or holds a space, a `#` or what is no ASCII".to_owned());
        }
        let (place, path) = rest.find(['/', '?']).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
        let (host, port) =
            authority(place, Some(if tls { 443 } else { 80 })).map_err(|e| format!("names no host: {e}"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, host, port, path })
    }
}

impl From<McpUrl> for String {
    fn from(url: McpUrl) -> Self {
        url.to_string()
    }
}

/// A file of servers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` {problem}")]
pub struct McpConfigError {
    /// Where, e.g. `mcpServers.files.args[1]` or `line 3, column 9`.
    pub place: String,
    /// What is wrong there and what to do.
    pub problem: String,
}

impl McpConfigError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl McpSettings {
    /// Reads a file in the field's standard form: `{"mcpServers": {"name": {"command", "args", "env"}}}`, or `url` and
    /// `headers` in place of these. `type` (`stdio`, `http`), `timeout` (milliseconds) and `disabled` are known besides.
    /// Nothing is expanded: `${VAR}` is refused, so that no file reaches into the environment of the platform.
    ///
    /// # Errors
    /// [`McpConfigError`] for the first thing that cannot be used, with its place.
    pub fn parse(text: &str) -> Result<BTreeMap<ServerName, McpServer>, McpConfigError> {
        if text.len() as u64 > CONFIG_BYTES {
            return Err(McpConfigError::new("the file", format!("is larger than {CONFIG_BYTES} bytes: shorten it")));
        }
        let file: Value = serde_json::from_str(text).map_err(|e| {
            let problem = format!("is no JSON: {}", e.to_string().split(" at line").next().unwrap_or_default());
            McpConfigError::new(format!("line {}, column {}", e.line(), e.column()), problem)
        })?;
        let Some(servers) = file.get("mcpServers").and_then(Value::as_object) else {
            return Err(McpConfigError::new("mcpServers", "is missing, or no object: put the servers in it, by name"));
        };
        let mut found = BTreeMap::new();
        for (name, server) in servers {
            let name = ServerName::try_from(name.clone())?;
            if let Some(server) = read_server(&format!("mcpServers.{name}"), server)? {
                found.insert(name, server);
            }
        }
        check_count(found.len())?;
        Ok(found)
    }

    /// Checks servers that did not come from a file.
    ///
    /// # Errors
    /// [`McpConfigError`] as for [`Self::parse`].
    pub fn check(&self) -> Result<(), McpConfigError> {
        check_count(self.servers.len())?;
        self.servers.iter().try_for_each(|(name, server)| server.check(&format!("mcpServers.{name}")))
    }

    /// Whether there can be any server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && !self.from_repository
    }

    /// Takes the values of variables and of fields out, by names that [`Self::with_secrets`] knows: they travel as secrets.
    pub fn take_secrets(&mut self) -> BTreeMap<String, SecretString> {
        let mut taken = BTreeMap::new();
        self.each_value(|name, value| {
            taken.insert(name, SecretString::from(std::mem::take(value)));
        });
        taken
    }

    /// The same values, for a screen; of one with blanks, as `Bearer TOKEN`, each long word too.
    pub fn known(&self) -> Vec<SecretString> {
        let values = self.clone().take_secrets().into_values();
        let mut known: Vec<SecretString> = Vec::new();
        for value in values {
            let words = value
                .expose_secret()
                .split_whitespace()
                .filter(|w| (LONG_WORD..value.expose_secret().len()).contains(&w.len()));
            known.extend(words.map(SecretString::from));
            known.push(value);
        }
        known
    }

    /// Puts them back.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &BTreeMap<String, SecretString>) -> Self {
        self.each_value(|name, value| {
            if let Some(secret) = secrets.get(&name) {
                secret.expose_secret().clone_into(value);
            }
        });
        self
    }

    fn each_value(&mut self, mut what: impl FnMut(String, &mut String)) {
        for (server, McpServer { transport, .. }) in &mut self.servers {
            let (kind, values) = match transport {
                McpTransport::Stdio { env, .. } => ("env", env),
                McpTransport::Http { headers, .. } => ("header", headers),
            };
            for (name, value) in values {
                what(format!("mcp/{server}/{kind}/{name}"), value);
            }
        }
    }
}

fn check_count(count: usize) -> Result<(), McpConfigError> {
    if count > SERVERS {
        let problem = format!("holds {count} servers, at most {SERVERS} are allowed: leave some out");
        return Err(McpConfigError::new("mcpServers", problem));
    }
    Ok(())
}

impl McpServer {
    /// A program in the sandbox.
    pub fn stdio<S: Into<String>>(command: impl Into<String>, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        let transport = McpTransport::Stdio { command: command.into(), args, env: BTreeMap::new() };
        Self { transport, timeout_ms: CALL }
    }

    /// A server on the network.
    ///
    /// # Errors
    /// [`McpConfigError`] for what is no address.
    pub fn http(url: impl Into<String>) -> Result<Self, McpConfigError> {
        let url = McpUrl::try_from(url.into()).map_err(|problem| McpConfigError::new("url", problem))?;
        Ok(Self { transport: McpTransport::Http { url, headers: BTreeMap::new() }, timeout_ms: CALL })
    }

    fn check(&self, place: &str) -> Result<(), McpConfigError> {
        if !(Millis(1)..=LONGEST_CALL).contains(&self.timeout_ms) {
            let problem = format!("is {}: set it from 1 to {} milliseconds", self.timeout_ms.0, LONGEST_CALL.0);
            return Err(McpConfigError::new(format!("{place}.timeout"), problem));
        }
        match &self.transport {
            McpTransport::Stdio { command, args, env } => {
                if command.trim().is_empty() {
                    return Err(McpConfigError::new(format!("{place}.command"), "is empty: name a program"));
                }
                check_text(&format!("{place}.command"), command)?;
                if args.len() > ARGS {
                    let problem = format!("holds {} arguments, at most {ARGS} are allowed", args.len());
                    return Err(McpConfigError::new(format!("{place}.args"), problem));
                }
                for (i, arg) in args.iter().enumerate() {
                    check_text(&format!("{place}.args[{i}]"), arg)?;
                }
                check_entries(&format!("{place}.env"), env, |name| {
                    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                        && !name.starts_with(|c: char| c.is_ascii_digit())
                })
            }
            McpTransport::Http { url, headers } => {
                check_text(&format!("{place}.url"), &url.path)?;
                check_entries(&format!("{place}.headers"), headers, |name| {
                    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                        && !FIELDS_OF_OURS.iter().any(|own| own.eq_ignore_ascii_case(name))
                })?;
                for (name, value) in headers {
                    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
                        let problem = "holds what is no plain ASCII: no field can carry it";
                        return Err(McpConfigError::new(format!("{place}.headers.{name}"), problem));
                    }
                }
                Ok(())
            }
        }
    }
}

/// Fields that the transport sets itself.
const FIELDS_OF_OURS: [&str; 13] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authorization",
    "te",
    "transfer-encoding",
];

fn check_entries(
    place: &str,
    entries: &BTreeMap<String, String>,
    is_name: impl Fn(&str) -> bool,
) -> Result<(), McpConfigError> {
    if entries.len() > ENTRIES {
        return Err(McpConfigError::new(place, format!("holds more than {ENTRIES} entries: leave some out")));
    }
    for (name, value) in entries {
        if name.is_empty() || name.len() > 128 || !is_name(name) {
            let place = format!("{place}.{}", preview(name, 64));
            return Err(McpConfigError::new(place, "is no name that can be set here: choose another"));
        }
        check_text(&format!("{place}.{name}"), value)?;
    }
    Ok(())
}

fn check_text(place: &str, text: &str) -> Result<(), McpConfigError> {
    let problem = if text.contains('\0') {
        "holds a NUL character: remove it".to_owned()
    } else if text.len() > TEXT_BYTES {
        format!("is longer than {TEXT_BYTES} bytes: shorten it")
    } else if text.contains("${") {
        "holds `${`: variables are not expanded, so write the value itself".to_owned()
    } else {
        return Ok(());
    };
    Err(McpConfigError::new(place, problem))
}

/// `None` for one that is switched off.
fn read_server(place: &str, server: &Value) -> Result<Option<McpServer>, McpConfigError> {
    let Some(server) = server.as_object() else {
        return Err(McpConfigError::new(place, "is no object: give it `command` or `url`"));
    };
    let mut fields = Fields { place, server };
    let kind = fields.text("type")?;
    let disabled = match server.get("disabled") {
        None => false,
        Some(Value::Bool(off)) => *off,
        Some(_) => return Err(fields.wrong("disabled", "is neither `true` nor `false`")),
    };
    let http = match kind.as_deref() {
        None => server.contains_key("url"),
        Some("stdio") => false,
        Some("http" | "streamable-http" | "streamable_http") => true,
        Some(_) => return Err(fields.wrong("type", "is not supported: use `stdio` or `http`")),
    };
    let (transport, known) = if http {
        let url = fields.text("url")?.ok_or_else(|| fields.wrong("url", "is missing: say where the server is"))?;
        let url = McpUrl::try_from(url).map_err(|problem| fields.wrong("url", problem))?;
        (McpTransport::Http { url, headers: fields.entries("headers")? }, ["url", "headers", ""])
    } else {
        let missing = || fields.wrong("command", "is missing: name the program, or give a `url`");
        let command = fields.text("command")?.ok_or_else(missing)?;
        let args = fields.texts("args")?;
        (McpTransport::Stdio { command, args, env: fields.entries("env")? }, ["command", "args", "env"])
    };
    let timeout_ms = match server.get("timeout") {
        None => CALL,
        Some(value) => Millis(value.as_u64().ok_or_else(|| fields.wrong("timeout", "is no number of milliseconds"))?),
    };
    fields.only(&known)?;
    let server = McpServer { transport, timeout_ms };
    server.check(place)?;
    Ok((!disabled).then_some(server))
}

struct Fields<'a> {
    place: &'a str,
    server: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, problem: impl Into<String>) -> McpConfigError {
        McpConfigError::new(format!("{}.{field}", self.place), problem)
    }

    fn text(&self, field: &str) -> Result<Option<String>, McpConfigError> {
        match self.server.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "is no text: put it in quotes")),
        }
    }

    fn texts(&self, field: &str) -> Result<Vec<String>, McpConfigError> {
        let Some(value) = self.server.get(field) else { return Ok(Vec::new()) };
        let Some(list) = value.as_array() else { return Err(self.wrong(field, "is no list of texts")) };
        let one = |(i, item): (usize, &Value)| {
            let text = item.as_str().map(str::to_owned);
            text.ok_or_else(|| self.wrong(&format!("{field}[{i}]"), "is no text: put it in quotes"))
        };
        list.iter().enumerate().map(one).collect()
    }

    fn entries(&self, field: &str) -> Result<BTreeMap<String, String>, McpConfigError> {
        let Some(value) = self.server.get(field) else { return Ok(BTreeMap::new()) };
        let Some(map) = value.as_object() else { return Err(self.wrong(field, "is no object of texts")) };
        let one = |(name, item): (&String, &Value)| match item.as_str() {
            Some(text) => Ok((name.clone(), text.to_owned())),
            None => Err(self.wrong(&format!("{field}.{}", preview(name, 64)), "is no text: put it in quotes")),
        };
        map.iter().map(one).collect()
    }

    /// A field that is not known may be a wall that somebody relies on.
    fn only(&mut self, known: &[&str]) -> Result<(), McpConfigError> {
        let always = ["type", "timeout", "disabled", "description"];
        match self.server.keys().find(|key| !known.contains(&key.as_str()) && !always.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let known: Vec<&str> = known.iter().chain(&always).copied().filter(|k| !k.is_empty()).collect();
                let problem = format!("is not known here: known are {}; leave it out", known.join(", "));
                Err(self.wrong(&preview(key, 64), problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<ServerName, McpServer>, String> {
        McpSettings::parse(text).map_err(|e| e.to_string())
    }

    fn one(server: &str) -> Result<McpServer, String> {
        let file = format!(r#"{{"mcpServers": {{"a": {server}}}}}"#);
        parsed(&file).map(|mut found| found.pop_first().map(|(_, server)| server).unwrap())
    }

    #[test]
    fn the_usual_file_is_read() {
        let found = parsed(
            r#"{"mcpServers": {
                "files": {"command": "npx", "args": ["-y", "server"], "env": {"A": "b"}, "timeout": 5000},
                "web-1": {"type": "http", "url": "https://mcp.example.com:8443/mcp?x=1", "headers": {"Authorization": "Bearer t"}},
                "off": {"command": "x", "disabled": true}
            }}"#,
        )
        .unwrap();
        let names: Vec<&str> = found.keys().map(ServerName::as_str).collect();
        assert_eq!(names, ["files", "web-1"]);
        let mut files = McpServer::stdio("npx", ["-y", "server"]);
        files.timeout_ms = Millis(5000);
        if let McpTransport::Stdio { env, .. } = &mut files.transport {
            env.insert("A".to_owned(), "b".to_owned());
        }
        let mut web = McpServer::http("https://mcp.example.com:8443/mcp?x=1").unwrap();
        if let McpTransport::Http { headers, url } = &mut web.transport {
            assert_eq!((url.tls, url.port, url.path.as_str()), (true, 8443, "/mcp?x=1"));
            headers.insert("Authorization".to_owned(), "Bearer t".to_owned());
        }
        assert_eq!(found.into_values().collect::<Vec<_>>(), [files, web]);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let refused = |server: &str, says: &str| {
            let error = one(server).unwrap_err();
            assert!(error.starts_with(says), "{server}: {error}");
        };
        refused(r#"{}"#, "`mcpServers.a.command` is missing");
        refused(r#"{"command": " "}"#, "`mcpServers.a.command` is empty");
        refused(r#"{"command": 1}"#, "`mcpServers.a.command` is no text");
        refused(r#"{"command": "x", "args": ["a", 1]}"#, "`mcpServers.a.args[1]` is no text");
        refused(r#"{"command": "x", "env": {"T": "${HOME}"}}"#, "`mcpServers.a.env.T` holds `${`");
        refused(r#"{"command": "x", "env": {"LD PRELOAD": "x"}}"#, "`mcpServers.a.env.LD PRELOAD` is no name");
        refused(r#"{"command": "x", "autoApprove": ["*"]}"#, "`mcpServers.a.autoApprove` is not known here");
        refused(r#"{"command": "x", "timeout": 0}"#, "`mcpServers.a.timeout` is 0");
        refused(r#"{"type": "sse", "url": "http://a.b"}"#, "`mcpServers.a.type` is not supported");
        refused(r#"{"url": "file:///etc/passwd"}"#, "`mcpServers.a.url` is no address");
        refused(r#"{"url": "http://u:p@a.b/"}"#, "`mcpServers.a.url` names no host");
        refused(r#"{"url": "http://a.b", "headers": {"Host": "c"}}"#, "`mcpServers.a.headers.Host` is no name");
        refused(r#"{"url": "http://a.b", "headers": {"X": "a\r\nB: c"}}"#, "`mcpServers.a.headers.X` holds what");
        assert!(parsed("{").unwrap_err().starts_with("`line 1, column 1` is no JSON"), "{:?}", parsed("{"));
        assert!(parsed("[]").unwrap_err().starts_with("`mcpServers` is missing"));
        for name in ["", "a__b", "_a", "a_", "a b", "ä", "a.b", &"x".repeat(25)] {
            let error = parsed(&format!(r#"{{"mcpServers": {{"{name}": {{"command": "x"}}}}}}"#)).unwrap_err();
            assert!(error.contains("is no name of a server"), "{error}");
        }
        let many: Vec<String> = (0..9).map(|n| format!(r#""s{n}": {{"command": "x"}}"#)).collect();
        assert!(
            parsed(&format!(r#"{{"mcpServers": {{{}}}}}"#, many.join(","))).unwrap_err().contains("holds 9 servers")
        );
    }

    #[test]
    fn secrets_travel_apart_and_are_not_shown() {
        let mut settings = McpSettings { from_repository: true, ..McpSettings::default() };
        settings.servers = parsed(
            r#"{"mcpServers": {"a": {"command": "x", "env": {"T": "secret-one"}}, "b": {"url": "http://h", "headers": {"X": "secret-two"}}}}"#,
        )
        .unwrap();
        let whole = settings.clone();
        assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
        let known = McpSettings {
            servers: parsed(
                r#"{"mcpServers": {"a": {"url": "http://h", "headers": {"X": "Bearer fabricated-token-1"}}}}"#,
            )
            .unwrap(),
            ..McpSettings::default()
        };
        let known: Vec<String> = known.known().iter().map(|s| s.expose_secret().to_owned()).collect();
        assert_eq!(known, ["fabricated-token-1", "Bearer fabricated-token-1"]);
        let secrets = settings.take_secrets();
        assert_eq!(secrets.keys().collect::<Vec<_>>(), ["mcp/a/env/T", "mcp/b/header/X"]);
        let wire = serde_json::to_string(&settings).unwrap();
        assert!(!wire.contains("secret"), "{wire}");
        let back: McpSettings = serde_json::from_str(&wire).unwrap();
        assert_eq!(back.with_secrets(&secrets), whole);
    }
}
