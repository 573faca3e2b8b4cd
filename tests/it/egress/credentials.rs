//! Credentials that the proxy adds: real `curl` through it, to hosts with TLS of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use abca::clock::SystemClock;
use abca::egress::{Credentials, Gate, Interception, Ledger, Proxy, ProxyLimits};
use abca_core::egress::{CredentialRule, EgressMode, EgressSettings};
use abca_core::id::TaskId;
use abca_core::text::Screen;
use abca_core::time::Timestamp;
use secrecy::SecretString;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::secure::Authority;
use super::{HELLO, Names, noted, server, settings};

const TOKEN: &str = "tok-4711-of-the-registry";

/// Longest wait for what comes after a client has gone.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// A proxy with credentials, behind a port as the hands have it.
struct Way {
    dir: tempfile::TempDir,
    port: u16,
    ledger: Arc<Ledger>,
    authority: String,
    _proxy: Proxy,
}

impl Way {
    async fn open(authority: &Authority, names: &[&str], allow: &[String], rules: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules: Vec<CredentialRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let value = |rule: &CredentialRule| (Credentials::secret_name(rule), SecretString::from(TOKEN));
        let values: BTreeMap<String, SecretString> = rules.iter().map(value).collect();
        let credentials = Credentials::resolve(&rules, &values).unwrap();
        let file = authority.write(&dir.path().join("authority.pem"));
        let tls = Interception::new(&credentials.intercepted(), std::slice::from_ref(&file)).unwrap();
        std::fs::write(dir.path().join("bundle.pem"), tls.bundle()).unwrap();
        const HERE: &[&[&str]] = &[&["127.0.0.1"]];
        let names: Vec<(&str, &[&[&str]])> = names.iter().map(|name| (*name, HERE)).collect();
        let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
        let task = TaskId::from_parts(Timestamp::from_millis(0), 0);
        let ledger = Arc::new(Ledger::new(task, Arc::new(Screen::default()), Arc::new(SystemClock)));
        let settings = EgressSettings { credentials: rules, ..settings(EgressMode::Enforce, &allow) };
        let gate = Gate::new(settings, Names::new(&names), ledger.clone(), ProxyLimits::default());
        let gate = Arc::new(gate.with_credentials(credentials).with_tls(tls));
        let socket = dir.path().join("s");
        let proxy = Proxy::start(UnixListener::bind(&socket).unwrap(), gate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let mut outer = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inner, &mut outer).await });
            }
        });
        Self { dir, port, ledger, authority: file, _proxy: proxy }
    }

    /// What curl prints, its exit status last.
    async fn curl(&self, trusts: &str, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("curl");
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command
            .args(["-sS", "--proxy", &format!("http://127.0.0.1:{}", self.port), "--cacert", trusts])
            .args(arguments);
        let done = command.output().await.unwrap();
        let said = [done.stdout, done.stderr].concat();
        format!("{}{}", String::from_utf8_lossy(&said), done.status.code().unwrap())
    }

    fn bundle(&self) -> String {
        self.dir.path().join("bundle.pem").to_str().unwrap().to_owned()
    }
}

fn credentials_of(head: &str) -> Vec<&str> {
    head.lines().filter(|line| line.to_ascii_lowercase().starts_with("authorization:")).collect()
}

fn only(heard: &Mutex<Vec<String>>) -> String {
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_host_gets_its_credential_inside_tls_and_no_other_host_does() {
    let authority = Authority::new();
    let (port, heard) = authority.server(&["registry.test", "other.test"]).await;
    let allow = [format!("127.0.0.1:{port}"), format!("other.test:{port}")];
    let rule = format!("https://registry.test:{port}/simple=bearer");
    let way = Way::open(&authority, &["registry.test", "other.test"], &allow, &[rule]).await;
    let right = format!("authorization: Bearer {TOKEN}");
    let at = |path: &str| format!("https://registry.test:{port}{path}");

    // One of the client's own is replaced, in whatever case.
    let said = way.curl(&way.bundle(), &["-H", "AUTHORIZATION: mine", "-d", "body", &at("/simple/x")]).await;
    assert!(said.ends_with("\r\n\r\n0"), "{said}");
    assert_eq!(credentials_of(&only(&heard)), [right.as_str()]);
    // Beside the path there is none, and the client's own goes on.
    way.curl(&way.bundle(), &["-H", "Authorization: mine", &at("/other")]).await;
    assert_eq!(credentials_of(&only(&heard)), ["Authorization: mine"]);
    way.curl(&way.bundle(), &["--path-as-is", &at("/simple/../other")]).await;
    assert_eq!(credentials_of(&only(&heard)), Vec::<&str>::new());
    // A redirect is a new request: to another host it carries nothing.
    let to = at(&format!("/simple/x?to=https://other.test:{port}/y"));
    way.curl(&way.bundle(), &["-L", "--cacert", &way.bundle(), &to]).await;
    let both = std::mem::take(&mut *heard.lock().unwrap());
    let sent: Vec<Vec<&str>> = both.iter().map(|head| credentials_of(head)).collect();
    assert_eq!(sent, [vec![right.as_str()], Vec::new()]);
    // The other host is reached as it is: its own certificate is what the client sees.
    let said = way.curl(&way.authority, &[&format!("https://other.test:{port}/z")]).await;
    assert!(said.ends_with('0'), "{said}");
    assert_eq!(credentials_of(&only(&heard)), Vec::<&str>::new());
    // A client that does not know the session's authority is not served.
    let said = way.curl(&way.authority, &[&at("/simple/x")]).await;
    assert!(said.ends_with("60"), "{said}");
    assert!(heard.lock().unwrap().is_empty());
    // The tunnel is given up after its client has gone.
    let given_up = format!("failed registry.test:{port} tunnel");
    let mut noted = noted(&way.ledger);
    let told = async {
        while !noted.contains(&given_up) {
            tokio::task::yield_now().await;
            noted.extend(super::noted(&way.ledger));
        }
    };
    assert!(tokio::time::timeout(PATIENCE, told).await.is_ok(), "{noted:?}");
    assert!(noted.contains(&format!("allowed https://registry.test:{port} POST")), "{noted:?}");
    assert!(!format!("{noted:?}").contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_who_it_says_gets_no_credential() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (port, heard) = stranger.server(&["registry.test"]).await;
    let (other, elsewhere) = authority.server(&["other.test"]).await;
    let allow = [format!("127.0.0.1:{port}"), format!("127.0.0.1:{other}")];
    let rules = [format!("https://registry.test:{port}=bearer"), format!("https://registry.test:{other}=bearer")];
    let way = Way::open(&authority, &["registry.test"], &allow, &rules).await;
    for port in [port, other] {
        let said = way.curl(&way.bundle(), &[&format!("https://registry.test:{port}/")]).await;
        assert!(said.contains("no TLS with the host"), "{said}");
    }
    assert!(heard.lock().unwrap().is_empty() && elsewhere.lock().unwrap().is_empty());
    // Nor does a client that names another host inside.
    let said =
        way.curl(&way.bundle(), &["--connect-to", &format!("::registry.test:{other}"), "https://other.test/"]).await;
    assert!(!said.ends_with("\n0"), "{said}");
    assert!(elsewhere.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_host_gets_its_credential_where_the_rule_says_so() {
    let authority = Authority::new();
    let (port, heard) = server(HELLO).await;
    let allow = [format!("127.0.0.1:{port}"), format!("other.test:{port}")];
    let rule = format!("http://plain.test:{port}=x-api-key");
    let way = Way::open(&authority, &["plain.test", "other.test"], &allow, &[rule]).await;
    let said = way.curl(&way.bundle(), &["-H", "X-API-Key: mine", &format!("http://plain.test:{port}/")]).await;
    assert_eq!(said, "hello0");
    let head = only(&heard);
    let keys: Vec<&str> = head.lines().filter(|l| l.to_ascii_lowercase().starts_with("x-api-key")).collect();
    assert_eq!(keys, [format!("x-api-key: {TOKEN}")]);
    way.curl(&way.bundle(), &[&format!("http://other.test:{port}/")]).await;
    assert!(!only(&heard).contains(TOKEN));
}
