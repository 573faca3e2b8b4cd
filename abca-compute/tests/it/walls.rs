//! The walls, tried from inside, for each mechanism.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use abca_compute::sandbox::{
    Child, Choice, Io, LimitHit, LimitsBy, Sandbox, SandboxSpec, Wall, WallsBy, default_toolchains,
};
use abca_core::compute::{NetworkMode, SandboxMode, SessionLimits};
use abca_core::time::Millis;

use crate::inside::WORD;

const BOTH: [WallsBy; 2] = [WallsBy::Bubblewrap, WallsBy::Namespaces];
const CANARY: &str = "canary-7f3a9c";

/// A machine in small: a home with secrets and a toolchain, the platform's state, a session's folders.
struct House {
    root: tempfile::TempDir,
    limits: SessionLimits,
    choice: Choice,
}

impl House {
    fn new(walls: WallsBy) -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["home/.ssh", "home/.cargo/bin", "state/repo.git", "state/session/work/sub", "state/session/tmp"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for file in ["home/.ssh/id", "home/.cargo/credentials.toml", "home/.cargo/bin/tool", "state/repo.git/config"] {
            fs::write(root.path().join(file), CANARY).unwrap();
        }
        let limits = SessionLimits { memory_bytes: 512 << 20, processes: 64, ..SessionLimits::default() };
        Self { root, limits, choice: Choice { walls, limits: LimitsBy::Auto } }
    }

    fn path(&self, of: &str) -> PathBuf {
        self.root.path().join(of)
    }

    fn spec(&self) -> SandboxSpec {
        let toolchains = default_toolchains(&self.path("home"));
        SandboxSpec {
            work_tree: self.path("state/session/work"),
            tmp: self.path("state/session/tmp"),
            hidden: vec![self.path("state"), self.path("home")],
            read_only: Vec::new(),
            env: toolchains.environment(Path::new("/tmp"), self.limits.network),
            toolchains: toolchains.paths,
            limits: self.limits.clone(),
            egress: None,
            choice: self.choice.clone(),
        }
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::prepare(self.spec()).unwrap()
    }
}

async fn start(sandbox: &Sandbox, probe: &[&str], io: Io) -> Child {
    let exe = sandbox.executable().as_os_str().to_os_string();
    let argv: Vec<OsString> = [exe, WORD.into()].into_iter().chain(probe.iter().map(Into::into)).collect();
    sandbox.spawn(&argv, io).await.unwrap()
}

/// What a probe says from inside, with its standard error.
async fn ask(sandbox: &Sandbox, probe: &[&str]) -> String {
    let mut child = start(sandbox, probe, Io::piped()).await;
    drop(child.take_stdin());
    let (mut out, mut err) = (String::new(), String::new());
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    child.take_stderr().unwrap().read_to_string(&mut err).await.unwrap();
    child.wait().await.unwrap();
    out + &err
}

fn refused(said: &str) -> bool {
    said.starts_with("refused: ")
}

/// Every process of the machine with `marker` among its arguments.
fn marked(marker: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split('\0').any(|arg| arg == marker)).count()
}

#[tokio::test]
async fn files_outside_are_not_there_and_nothing_else_is_writable() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        assert_eq!(ask(&sandbox, &["cwd"]).await, "/workspace", "{walls:?}");
        let path = |of: &str| house.path(of).display().to_string();
        assert_eq!(ask(&sandbox, &["read", &path("home/.cargo/bin/tool")]).await, CANARY, "toolchains are seen");
        for secret in ["home/.ssh/id", "home/.cargo/credentials.toml", "state/repo.git/config", "state/session/work"] {
            let said = ask(&sandbox, &["read", &path(secret)]).await;
            assert!(refused(&said), "{walls:?}: `{secret}` was read: {said}");
        }
        for secret in ["/etc/shadow", "/root/.ssh", "/proc/kmsg", "/proc/1/mem", "/proc/1/root/etc/shadow"] {
            let said = ask(&sandbox, &["read", secret]).await;
            assert!(refused(&said), "{walls:?}: `{secret}` was read: {said}");
        }
        for dir in ["/run", "/home", "/root", "/proc/1/root/home"] {
            let said = ask(&sandbox, &["list", dir]).await;
            assert!(said.is_empty() || refused(&said), "{walls:?}: `{dir}` holds {said}");
        }
        for good in ["/workspace/new", "/workspace/sub/new", "/tmp/new", "/tmp/home/new", "/dev/shm/new", "/dev/null"] {
            assert_eq!(ask(&sandbox, &["write", good]).await, "written", "{walls:?}: {good}");
        }
        assert_eq!(fs::read_to_string(house.path("state/session/work/sub/new")).unwrap(), "written");
        let tool = path("home/.cargo/bin/tool");
        let bad = [
            "/new",
            "/usr/new",
            "/etc/new",
            "/etc/passwd",
            "/home/new",
            "/run/new",
            "/dev/new",
            "/.abca/exe",
            &tool,
            "/workspace/../new",
            "/tmp/../../new",
            "/proc/sys/kernel/hostname",
            "/proc/sys/vm/swappiness",
            "/proc/sysrq-trigger",
            "/var/new",
        ];
        for bad in bad {
            let said = ask(&sandbox, &["write", bad]).await;
            assert!(refused(&said), "{walls:?}: `{bad}` was written: {said}");
        }
    }
}

#[tokio::test]
async fn links_out_of_the_tree_lead_nowhere() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        let secret = house.path("home/.ssh/id").display().to_string();
        assert_eq!(ask(&sandbox, &["link", &secret, "/workspace/secret"]).await, "linked");
        assert!(refused(&ask(&sandbox, &["read", "/workspace/secret"]).await), "{walls:?}");
        assert_eq!(ask(&sandbox, &["link", "../../../home/.ssh/id", "/workspace/up"]).await, "linked");
        assert!(refused(&ask(&sandbox, &["read", "/workspace/up"]).await), "{walls:?}");
        assert_eq!(ask(&sandbox, &["link", "/etc/new", "/workspace/out"]).await, "linked");
        assert!(refused(&ask(&sandbox, &["write", "/workspace/out"]).await), "{walls:?}");
    }
}

#[tokio::test]
async fn hidden_parts_of_the_work_tree_are_empty() {
    for walls in BOTH {
        let house = House::new(walls);
        fs::create_dir_all(house.path("state/session/work/private")).unwrap();
        for file in ["private/key", "token"] {
            fs::write(house.path("state/session/work").join(file), CANARY).unwrap();
        }
        let mut spec = house.spec();
        spec.hidden.extend(["private", "token"].map(|p| house.path("state/session/work").join(p)));
        let sandbox = Sandbox::prepare(spec).unwrap();
        assert_eq!(ask(&sandbox, &["list", "/workspace/private"]).await, "", "{walls:?}");
        assert!(refused(&ask(&sandbox, &["read", "/workspace/token"]).await), "{walls:?}");
        assert!(refused(&ask(&sandbox, &["write", "/workspace/private/x"]).await), "{walls:?}");
    }
}

#[tokio::test]
async fn there_is_no_network_but_the_inside_s_own() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = tcp.local_addr().unwrap().to_string();
    let name = format!("abca-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for walls in BOTH {
        let mut house = House::new(walls);
        let sandbox = house.sandbox();
        assert!(refused(&ask(&sandbox, &["tcp", &to]).await), "{walls:?}");
        assert!(refused(&ask(&sandbox, &["abstract", &name]).await), "{walls:?}");
        assert_eq!(ask(&sandbox, &["loopback"]).await, "connected", "{walls:?}");
        assert!(sandbox.walls().by(Wall::Network).is_some());

        house.limits.network = NetworkMode::Host;
        let sandbox = house.sandbox();
        assert_eq!(ask(&sandbox, &["tcp", &to]).await, "connected", "{walls:?}");
        assert_eq!(sandbox.walls().by(Wall::Network), None, "what does not hold is not claimed");
    }
}

#[tokio::test]
async fn the_outside_s_processes_environment_and_files_are_out_of_sight() {
    for walls in BOTH {
        let house = House::new(walls);
        let mut spec = house.spec();
        spec.env = BTreeMap::from([("ONLY".to_owned(), "this".to_owned()), ("LD_PRELOAD".to_owned(), String::new())]);
        let sandbox = Sandbox::prepare(spec).unwrap();
        // PWD is bubblewrap's.
        let env: Vec<String> =
            ask(&sandbox, &["env"]).await.lines().map(str::to_owned).filter(|v| !v.starts_with("PWD=")).collect();
        assert_eq!(env, ["LD_PRELOAD=", "ONLY=this"], "{walls:?}");
        // cargo gives every test this variable, and so the brain of this test has it.
        let environs = ask(&sandbox, &["environs"]).await;
        assert!(!environs.contains("CARGO"), "{walls:?}: {environs}");
        let processes = ask(&sandbox, &["processes"]).await;
        assert!(processes.lines().count() <= 3, "{walls:?}: {processes}");
        assert!(!processes.contains(house.root.path().to_str().unwrap()), "{walls:?}: host paths in {processes}");
        // Standard streams, and the descriptor that lists the folder.
        assert_eq!(ask(&sandbox, &["fds"]).await, "0 1 2 3", "{walls:?}");
        let status = ask(&sandbox, &["status"]).await;
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{walls:?}: no `{line}` in {status}");
        }
        assert!(status.contains("Uid:\t1000\t1000"), "{walls:?}: {status}");
    }
}

#[tokio::test]
async fn calls_that_lead_out_are_refused() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        let calls = [
            "mount",
            "umount",
            "unshare",
            "clone",
            "clone3",
            "chroot",
            "setuid",
            "ptrace",
            "io_uring",
            "keyctl",
            "bpf",
            "userfaultfd",
            "tiocsti",
            "tiocsti-high",
            "x32",
            "mknod",
        ];
        for call in calls {
            if call == "x32" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let said = ask(&sandbox, &["call", call]).await;
            assert!(refused(&said), "{walls:?}: `{call}` said {said}");
        }
    }
}

#[tokio::test]
async fn no_executable_of_the_outside_can_be_overwritten() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        for link in ["/proc/self/exe", "/proc/1/exe", "/proc/1/root/usr/bin/env"] {
            let said = ask(&sandbox, &["append", link]).await;
            assert!(refused(&said), "{walls:?}: `{link}` was opened for writing");
        }
        // "Text file busy" would only last as long as it runs.
        let exe = ask(&sandbox, &["write", "/.abca/exe"]).await;
        assert!(exe.contains("Read-only"), "{walls:?}: {exe}");
    }
}

#[tokio::test]
async fn memory_has_a_limit() {
    for walls in BOTH {
        for limits in [LimitsBy::Auto, LimitsBy::Watchdog] {
            let mut house = House::new(walls);
            house.choice.limits = limits;
            house.limits.memory_bytes = 96 << 20;
            let sandbox = house.sandbox();
            let mut child = start(&sandbox, &["eat", "64"], Io::default()).await;
            assert_eq!(child.wait().await.unwrap().code, Some(0), "{walls:?} {limits:?}: below the limit");
            let mut child = start(&sandbox, &["eat", "1024"], Io::default()).await;
            let ended = child.wait().await.unwrap();
            assert_ne!(ended.code, Some(0), "{walls:?} {limits:?}");
            if limits == LimitsBy::Auto && sandbox.walls().by(Wall::Memory) != Some("watchdog") {
                assert_eq!(ended.limit, Some(LimitHit::Memory { limit_bytes: 96 << 20 }), "{walls:?}");
            }
        }
    }
}

#[tokio::test]
async fn processes_have_a_limit() {
    for walls in BOTH {
        for limits in [LimitsBy::Auto, LimitsBy::Watchdog] {
            let mut house = House::new(walls);
            house.choice.limits = limits;
            house.limits.processes = 24;
            let sandbox = house.sandbox();
            let mut child = start(&sandbox, &["forks", "200"], Io::piped()).await;
            let mut said = String::new();
            let mut out = tokio::io::BufReader::new(child.take_stdout().unwrap());
            out.read_line(&mut said).await.unwrap();
            // The watchdog may kill before the probe can say anything.
            let made = said.trim().strip_prefix("made ").map(|made| made.parse::<usize>().unwrap());
            let by_watchdog = sandbox.walls().by(Wall::ProcessCount) == Some("watchdog");
            let refused = made.is_some_and(|made| made < 24);
            assert!(refused || by_watchdog, "{walls:?}: {made:?} processes");
            let ended = if refused { child.kill().await.unwrap() } else { child.wait().await.unwrap() };
            if !(refused && by_watchdog) {
                assert_eq!(ended.limit, Some(LimitHit::Processes { limit: 24 }), "{walls:?} {limits:?}");
            }
        }
    }
}

#[tokio::test]
async fn time_has_a_limit() {
    for walls in BOTH {
        let mut house = House::new(walls);
        house.limits.wall_ms = Millis(400);
        let sandbox = house.sandbox();
        let mut child = start(&sandbox, &["sleep"], Io::default()).await;
        let ended = child.wait().await.unwrap();
        assert_eq!(ended.limit, Some(LimitHit::Time { limit_ms: 400 }), "{walls:?}");
        let again = sandbox.spawn(&["/bin/true".into()], Io::default()).await.unwrap_err();
        assert_eq!(again.message(), "the session's time of 0 s is over");
    }
}

async fn detached(sandbox: &Sandbox, marker: &str) -> Child {
    let mut child = start(sandbox, &["detach", marker], Io::piped()).await;
    let mut said = String::new();
    tokio::io::BufReader::new(child.take_stdout().unwrap()).read_line(&mut said).await.unwrap();
    assert_eq!(said, "detached\n");
    while marked(marker) < 2 {
        tokio::task::yield_now().await;
    }
    child
}

#[tokio::test]
async fn a_kill_ends_the_whole_tree() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        let marker = format!("{CANARY}-kill-{walls:?}");
        let mut child = detached(&sandbox, &marker).await;
        child.kill().await.unwrap();
        assert_eq!(marked(&marker), 0, "{walls:?}");

        let marker = format!("{CANARY}-drop-{walls:?}");
        drop(detached(&sandbox, &marker).await);
        while marked(&marker) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Another process that is the brain of one sandbox, until it is killed. Called by [`crate::inside`].
pub fn be_brain(root: &str, walls: &str, marker: &str) -> ! {
    let folder = |of: &str| Path::new(root).join(of);
    let limits = SessionLimits::default();
    let choice = match walls {
        "bubblewrap" => WallsBy::Bubblewrap,
        "namespaces" => WallsBy::Namespaces,
        _ => WallsBy::Auto,
    };
    let sandbox_mode = if walls == "none" { SandboxMode::Unsandboxed } else { SandboxMode::Required };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::prepare(SandboxSpec {
            work_tree: folder("work"),
            tmp: folder("tmp"),
            hidden: Vec::new(),
            read_only: Vec::new(),
            toolchains: Vec::new(),
            limits: SessionLimits { sandbox: sandbox_mode, ..limits },
            env: BTreeMap::new(),
            egress: None,
            choice: Choice { walls: choice, limits: LimitsBy::Auto },
        })
        .unwrap();
        let _child = detached(&sandbox, marker).await;
        println!("ready");
        std::future::pending().await
    })
}

#[tokio::test]
async fn the_hands_die_with_the_brain() {
    for walls in ["bubblewrap", "namespaces", "none"] {
        let root = tempfile::tempdir().unwrap();
        for dir in ["work", "tmp"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let marker = format!("{CANARY}-brain-{walls}");
        let mut brain = std::process::Command::new(std::env::current_exe().unwrap())
            .args([WORD, "brain", root.path().to_str().unwrap(), walls, &marker])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(brain.stdout.take().unwrap()), &mut said).unwrap();
        assert_eq!(said, "ready\n", "{walls}");
        brain.kill().unwrap();
        brain.wait().unwrap();
        while marked(&marker) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn without_walls_by_name_the_tree_still_ends_as_a_whole() {
    let mut house = House::new(WallsBy::Auto);
    house.limits.sandbox = SandboxMode::Unsandboxed;
    let sandbox = house.sandbox();
    assert_eq!(ask(&sandbox, &["cwd"]).await, sandbox.inside().display().to_string());
    assert_eq!(sandbox.walls().by(Wall::Filesystem), None);
    let marker = format!("{CANARY}-unsandboxed");
    let mut child = detached(&sandbox, &marker).await;
    child.kill().await.unwrap();
    assert_eq!(marked(&marker), 0);
    // A program that ends by itself leaves nothing behind either.
    let mut child = sandbox.spawn(&["sh".into(), "-c".into(), "exit 7".into()], Io::default()).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code, Some(7));
}

#[tokio::test]
async fn streams_exit_codes_and_missing_programs_come_through() {
    for walls in BOTH {
        let house = House::new(walls);
        let sandbox = house.sandbox();
        let mut child = start(&sandbox, &["echo"], Io::piped()).await;
        child.take_stdin().unwrap().write_all(b"to and fro").await.unwrap();
        let mut said = String::new();
        child.take_stdout().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "to and fro", "{walls:?}");
        assert_eq!(child.wait().await.unwrap().code, Some(0));
        let mut child = sandbox.spawn(&["sh".into(), "-c".into(), "exit 7".into()], Io::default()).await.unwrap();
        assert_eq!(child.wait().await.unwrap().code, Some(7), "{walls:?}");
        let mut child = sandbox.spawn(&["no-such-program".into()], Io::default()).await.unwrap();
        assert_ne!(child.wait().await.unwrap().code, Some(0), "{walls:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_sandbox_is_left() {
    for walls in BOTH {
        let house = House::new(walls);
        drop(house.sandbox());
        let mut left: Vec<_> =
            fs::read_dir(house.path("state/session")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["tmp", "work"], "{walls:?}");
    }
}
