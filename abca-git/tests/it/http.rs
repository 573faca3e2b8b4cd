//! Smart HTTP with Basic authentication: `git http-backend` behind a tiny server on loopback.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use abca_core::git::{Credential, GitErrorKind, Remote};
use abca_git::Bare;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{BRANCH, PATH, git, sh, user_repo};

const TOKEN: &str = "canary-7f3e9d1c5b";

/// What the server saw while it answered.
#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    /// Processes of this machine that had the token in their command line or environment.
    leaks: BTreeSet<String>,
    git_processes: usize,
}

struct Server {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

/// Serves the repositories below `root`. `elsewhere`: answers every request with a redirect there.
async fn serve(root: PathBuf, elsewhere: Option<String>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, root.clone(), elsewhere.clone(), shared.clone()));
        }
    });
    Server { url, seen }
}

/// One request per connection.
async fn answer(stream: TcpStream, root: PathBuf, elsewhere: Option<String>, seen: Arc<Mutex<Seen>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |name: &str| {
        let fits = |l: &&String| l.to_lowercase().starts_with(&format!("{name}:"));
        lines.iter().find(fits).and_then(|l| l.split_once(": ")).map(|(_, v)| v.to_owned()).unwrap_or_default()
    };
    let first = lines.first()?.clone();
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut body = Vec::new();
    if header("transfer-encoding") == "chunked" {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).await.ok()?;
            let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).ok()? + 2];
            stream.read_exact(&mut chunk).await.ok()?;
            if chunk.len() == 2 {
                break;
            }
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    } else {
        body.resize(header("content-length").parse().unwrap_or(0), 0);
        stream.read_exact(&mut body).await.ok()?;
    }
    let good = format!("Basic {}", STANDARD.encode(format!("x-access-token:{TOKEN}")));
    let authorization = header("authorization");
    {
        let mut seen = seen.lock().unwrap();
        seen.requests.push(format!(
            "{method} {} {}",
            target.split('?').next()?,
            if authorization.is_empty() { "open" } else { "with" }
        ));
        look_for_leaks(&mut seen);
    }
    let response = if let Some(to) = elsewhere {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}{target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes()
    } else if authorization != good {
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"t\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_vec()
    } else {
        backend(
            &root,
            &method,
            &target,
            &header("content-type"),
            &header("git-protocol"),
            &header("content-encoding"),
            body,
        )
        .await
    };
    stream.get_mut().write_all(&response).await.ok()?;
    stream.get_mut().shutdown().await.ok()
}

async fn backend(
    root: &Path,
    method: &str,
    target: &str,
    kind: &str,
    protocol: &str,
    encoding: &str,
    body: Vec<u8>,
) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut command = tokio::process::Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", PATH).env("HOME", "/dev/null");
    command.env("GIT_CONFIG_COUNT", "2").env("GIT_CONFIG_KEY_0", "http.receivepack").env("GIT_CONFIG_VALUE_0", "true");
    command.env("GIT_CONFIG_KEY_1", "safe.directory").env("GIT_CONFIG_VALUE_1", "*");
    command
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "x")
        .env("PATH_INFO", path);
    command.env("QUERY_STRING", query).env("REQUEST_METHOD", method).env("CONTENT_TYPE", kind);
    command
        .env("GIT_PROTOCOL", protocol)
        .env("HTTP_CONTENT_ENCODING", encoding)
        .env("CONTENT_LENGTH", body.len().to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = tokio::spawn(async move { stdin.write_all(&body).await });
    let out = child.wait_with_output().await.unwrap().stdout;
    let _ = write.await;
    let split = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8_lossy(&out[..split]).into_owned();
    let status = headers.lines().find_map(|l| l.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let mut response = format!("HTTP/1.1 {status}\r\n{headers}\r\nConnection: close\r\n\r\n").into_bytes();
    response.extend_from_slice(&out[split + 4..]);
    response
}

/// Looks at all processes while git is in the middle of its work, as any other user's program could.
fn look_for_leaks(seen: &mut Seen) {
    let encoded = STANDARD.encode(format!("x-access-token:{TOKEN}"));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let text =
                String::from_utf8_lossy(&std::fs::read(entry.path().join(file)).unwrap_or_default()).into_owned();
            seen.git_processes += usize::from(file == "cmdline" && text.contains("git\0"));
            if text.contains(TOKEN) || text.contains(&encoded) {
                seen.leaks.insert(text);
            }
        }
    }
}

fn remote(url: &str, token: &str) -> Remote {
    let credential = Credential { username: "x-access-token".into(), password: token.to_owned().into() };
    Remote { url: format!("{url}/bare.git"), credential: Some(credential) }
}

/// A bare copy of the user's repository to be served, and the folder that holds it.
fn served() -> TempDir {
    let temp = TempDir::new().unwrap();
    let user = user_repo(&temp);
    sh(&user, "git clone -q --bare . ../bare.git");
    temp
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_reaches_the_server_and_nothing_else() {
    let temp = served();
    let server = serve(temp.path().to_owned(), None).await;
    let remote = remote(&server.url, TOKEN);
    let bare = Bare::clone(&git(), &remote, &temp.path().join("brain.git"), None).await.unwrap();
    let base = bare.base_sha().await.unwrap();
    let sha = bare.regraft(&base, &base, "work").await.unwrap();
    bare.push(&remote, BRANCH, &sha, None).await.unwrap();
    bare.push_wip(&remote, "refs/abca/wip/x", &sha).await.unwrap();
    assert_eq!(bare.fetch_ref(&remote, "refs/abca/wip/x").await.unwrap(), Some(sha.clone()));
    bare.delete_ref(&remote, "refs/abca/wip/x").await.unwrap();
    let foreign = bare.push(&remote, BRANCH, &base, Some(&base)).await.unwrap_err();
    assert_eq!(foreign.kind(), GitErrorKind::Conflict, "{foreign}");
    assert_eq!(sh(&temp.path().join("bare.git"), &format!("git rev-parse {BRANCH}")), sha);

    let seen = server.seen.lock().unwrap();
    assert!(seen.git_processes > 0, "the look at the processes saw git itself");
    assert_eq!(seen.leaks, BTreeSet::new());
    assert!(seen.requests.contains(&"POST /bare.git/git-receive-pack with".to_owned()), "{:?}", seen.requests);
    let written = sh(temp.path(), &format!("grep -rl {TOKEN} brain.git || true"));
    assert_eq!(written, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_or_missing_token_is_an_access_error_without_the_token() {
    let temp = served();
    let server = serve(temp.path().to_owned(), None).await;
    let wrong = "wrong-canary-secret";
    let open = Remote { credential: None, ..remote(&server.url, wrong) };
    for remote in [remote(&server.url, wrong), open] {
        let error = Bare::clone(&git(), &remote, &temp.path().join("x.git"), None).await.unwrap_err();
        assert_eq!(error.kind(), GitErrorKind::Access, "{error}");
        assert!(!format!("{error} {error:?}").contains(wrong), "{error:?}");
    }
    let missing = Remote { url: format!("{}/none.git", server.url), ..remote(&server.url, TOKEN) };
    let error = Bare::clone(&git(), &missing, &temp.path().join("x.git"), None).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_another_host_gets_no_token() {
    let temp = served();
    let thief = serve(temp.path().to_owned(), None).await;
    let server = serve(temp.path().to_owned(), Some(thief.url.clone())).await;
    let error = Bare::clone(&git(), &remote(&server.url, TOKEN), &temp.path().join("x.git"), None).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Access, "{error}");
    let requests = thief.seen.lock().unwrap().requests.clone();
    assert!(!requests.is_empty() && requests.iter().all(|r| r.ends_with(" open")), "{requests:?}");
}

#[tokio::test]
async fn addresses_that_would_leak_or_run_something_are_refused() {
    let temp = TempDir::new().unwrap();
    let credential = remote("", TOKEN).credential;
    for (url, kind) in [
        ("https://user:pass@h/x", GitErrorKind::Invalid),
        ("http://example.com/x", GitErrorKind::Invalid),
        ("ext::sh -c id", GitErrorKind::Invalid),
        ("ssh://h/x", GitErrorKind::Unsupported),
        ("host:path", GitErrorKind::Invalid),
        ("--upload-pack=id", GitErrorKind::Invalid),
        ("https://h\n/x", GitErrorKind::Invalid),
    ] {
        let remote = Remote { url: url.into(), credential: credential.clone() };
        let error = Bare::clone(&git(), &remote, &temp.path().join("x.git"), None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
    let closed = Remote { url: "http://127.0.0.1:1/x".into(), credential };
    let error = Bare::clone(&git(), &closed, &temp.path().join("x.git"), None).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
}
