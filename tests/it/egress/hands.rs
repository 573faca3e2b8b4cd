//! Real hands behind real walls: the proxy is the only way out.

use std::any::Any;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use abca::egress::{BridgeConfig, Ledger, Proxy, ProxyLimits};
use abca::session::hands::{Client, ExecEnd, ExecRequest, HANDS_ARG, HandsConfig, HandsErrorKind};
use abca_compute::sandbox::{Child, EGRESS_SOCKET, Io, Sandbox, SandboxSpec, Toolchains};
use abca_core::compute::{ComputeErrorKind, NetworkMode, SandboxMode, SessionLimits};
use abca_core::egress::{EgressMode, PROXY_PORT};
use tokio::net::UnixListener;

use super::{HELLO, Names, gate, noted, server, settings};

struct House {
    client: Client,
    ledger: Arc<Ledger>,
    walls: Vec<String>,
    _proxy: Proxy,
    _hands: Box<dyn Any>,
    _dir: tempfile::TempDir,
}

fn spec(dir: &Path, limits: SessionLimits, socket: Option<PathBuf>) -> SandboxSpec {
    for part in ["tree", "tmp"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    SandboxSpec {
        work_tree: dir.join("tree"),
        tmp: dir.join("tmp"),
        hidden: Vec::new(),
        read_only: Vec::new(),
        toolchains: Vec::new(),
        env: Toolchains::default().environment(Path::new("/tmp"), limits.network),
        limits,
        egress: socket,
        choice: Default::default(),
    }
}

impl House {
    async fn build(allow: &[&str], names: Arc<Names>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("egress.sock");
        let (gate, ledger) = gate(settings(EgressMode::Enforce, allow), names, ProxyLimits::default());
        let proxy = Proxy::start(UnixListener::bind(&socket).unwrap(), gate);
        let limits = SessionLimits { network: NetworkMode::Proxy, ..SessionLimits::default() };
        let spec = spec(dir.path(), limits, Some(socket));
        let env = spec.env.clone();
        let sandbox = Sandbox::prepare(spec).unwrap();
        let argv = [sandbox.executable().as_os_str().to_owned(), OsString::from(HANDS_ARG)];
        let io = Io { stdin: Stdio::piped(), stdout: Stdio::piped(), stderr: Stdio::null() };
        let mut child: Child = sandbox.spawn(&argv, io).await.unwrap();
        let mut config = HandsConfig::new(sandbox.inside());
        config.env = env;
        config.bridge = Some(BridgeConfig { port: PROXY_PORT, socket: EGRESS_SOCKET.into() });
        let (from, to) = (child.take_stdout().unwrap(), child.take_stdin().unwrap());
        let client = Client::connect(from, to, &config).await.unwrap();
        let walls = sandbox.walls().to_strings();
        Self { client, ledger, walls, _proxy: proxy, _hands: Box::new((sandbox, child)), _dir: dir }
    }

    async fn run(&self, command: &str) -> (bool, String) {
        let mut request = ExecRequest::shell(command);
        request.merge_stderr = true;
        let done = self.client.exec(request, |_| {}).await.unwrap();
        (done.end == ExecEnd::Exited(0), done.stdout.text())
    }

    /// What the proxy answers to bytes, through the bridge.
    async fn ask(&self, request: &str) -> String {
        let line = format!("exec 3<>/dev/tcp/127.0.0.1/{PROXY_PORT} && printf '{request}' >&3 && cat <&3");
        self.run(&line).await.1
    }
}

#[tokio::test]
async fn the_proxy_is_the_only_way_out_of_the_hands() {
    let (port, _) = server(HELLO).await;
    let (listed, here) = (format!("ok.test:{port}"), format!("127.0.0.1:{port}"));
    let house = House::build(&[&listed, &here], Names::new(&[("ok.test", &[&["127.0.0.1"]])])).await;
    assert!(house.walls.iter().any(|wall| wall.starts_with("network:")), "{:?}", house.walls);

    let answer = house.ask(&format!("GET http://{listed}/ HTTP/1.1\\r\\nHost: {listed}\\r\\n\\r\\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    let refused = house.ask("CONNECT evil.test:443 HTTP/1.1\\r\\n\\r\\n").await;
    assert!(refused.starts_with("HTTP/1.1 403 egress refused"), "{refused}");
    let metadata = house.ask("GET http://169.254.169.254/ HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\n\\r\\n").await;
    assert!(metadata.starts_with("HTTP/1.1 403 egress refused"), "{metadata}");
    assert_eq!(
        noted(&house.ledger),
        [
            format!("allowed {listed} GET"),
            "denied evil.test:443 CONNECT".to_owned(),
            "denied 169.254.169.254:80 GET".to_owned(),
        ]
    );
}

#[tokio::test]
async fn nothing_leaves_around_the_proxy() {
    let (port, heard) = server(HELLO).await;
    let house = House::build(&[&format!("127.0.0.1:{port}")], Names::new(&[])).await;
    // The machine's own loopback interface is not this one, and there is no way to any other network.
    let direct = [
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        "exec 3<>/dev/tcp/1.1.1.1/80".to_owned(),
        "exec 3<>/dev/tcp/2606:4700:4700::1111/443".to_owned(),
        "exec 3<>/dev/tcp/169.254.169.254/80".to_owned(),
        "exec 3<>/dev/udp/8.8.8.8/53".to_owned(),
        "exec 3<>/dev/udp/2001:4860:4860::8888/53".to_owned(),
        "getent hosts example.com".to_owned(),
    ];
    for line in direct {
        let (reached, said) = house.run(&line).await;
        assert!(!reached, "{line}: {said}");
    }
    let (_, interfaces) = house.run("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(interfaces.trim(), "lo");
    // The socket cannot be taken away or replaced.
    let (removed, _) = house.run(&format!("rm -f {EGRESS_SOCKET}; test ! -e {EGRESS_SOCKET}")).await;
    assert!(!removed);
    assert_eq!((heard.lock().unwrap().len(), noted(&house.ledger)), (0, Vec::new()));
}

#[tokio::test]
async fn programs_are_told_of_the_proxy() {
    let house = House::build(&[], Names::new(&[])).await;
    let (_, env) =
        house.run("echo $http_proxy $HTTPS_PROXY $ALL_PROXY $CARGO_HTTP_PROXY $no_proxy $CARGO_NET_OFFLINE").await;
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    assert_eq!(env.trim(), format!("{proxy} {proxy} {proxy} {proxy} localhost,127.0.0.1,::1"));
}

#[tokio::test]
async fn a_proxied_network_without_walls_or_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SessionLimits { network: NetworkMode::Proxy, ..SessionLimits::default() };
    let refused = |limits, socket| Sandbox::prepare(spec(dir.path(), limits, socket)).map(|_| ()).unwrap_err();
    assert_eq!(refused(limits.clone(), None).kind(), ComputeErrorKind::Invalid);
    let open = SessionLimits { sandbox: SandboxMode::Unsandboxed, ..limits };
    assert_eq!(refused(open, Some(dir.path().join("tree"))).kind(), ComputeErrorKind::Invalid);

    let mut config = HandsConfig::new(dir.path().join("tree"));
    (config.tmp, config.home) = (dir.path().join("tmp"), dir.path().join("tmp/home"));
    config.bridge = Some(BridgeConfig { port: 0, socket: EGRESS_SOCKET.into() });
    let here = Client::in_process(&config).await.unwrap_err();
    assert_eq!(here.kind(), HandsErrorKind::Refused);
}
