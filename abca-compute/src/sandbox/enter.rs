//! The helper that builds the walls itself, where bubblewrap is not: this program, executed again.
//!
//! Three processes: the outer one enters new namespaces and dies with the brain; the first of the new process namespace
//! builds the root and then only reaps; its child puts on Landlock and seccomp and becomes the program.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

use super::{layout, seccomp};
use crate::pipe::pipe;
use crate::tree;

/// The user and group that the inside sees itself as, never root.
pub(super) const INSIDE_ID: u32 = 1000;

/// Carries out the plan behind the descriptor that `args` names, and becomes the program it names. For
/// [`crate::init`].
pub fn enter(args: impl Iterator<Item = OsString>) -> ! {
    let last = args.last();
    if last.as_deref() == Some(OsStr::new("true")) {
        exit(0); // the probe: to have come this far inside is all it asks
    }
    let fd = last.and_then(|arg| arg.to_str()?.parse::<RawFd>().ok());
    let Some(fd) = fd else { fail_early("`__abca-sandbox` is for abca's own use") };
    // SAFETY: whoever executed us left this descriptor for us; a wrong number only makes the read fail.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut bytes = Vec::new();
    if let Err(error) = file.read_to_end(&mut bytes) {
        fail_early(&format!("cannot read the plan of the sandbox ({error})"));
    }
    drop(file);
    let Some(plan) = Plan::parse(&bytes) else { fail_early("the plan of the sandbox is not one of this version") };
    let report = plan.report;
    let error = match if plan.walls { behind_walls(plan) } else { without_walls(plan) } {
        Ok(never) => match never {},
        Err(error) => error,
    };
    tell(report, &format!("error {error}\n"));
    exit(125)
}

fn fail_early(message: &str) -> ! {
    let _nobody_reads = writeln!(io::stderr(), "abca: {message}");
    exit(125)
}

fn exit(code: i32) -> ! {
    // SAFETY: leaves at once; a fork of ours must not run the exit handlers of its origin.
    unsafe { libc::_exit(code) }
}

enum Never {}

#[derive(Debug, Default)]
struct Plan {
    walls: bool,
    network: bool,
    parent: i32,
    report: RawFd,
    data_bytes: Option<u64>,
    processes: Option<u64>,
    ops: Vec<(String, Vec<OsString>)>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
    argv: Vec<OsString>,
}

impl Plan {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.split(|b| *b == 0).map(|w| OsString::from_vec(w.to_vec()));
        let mut plan = Self { report: -1, ..Self::default() };
        loop {
            let option = words.next()?;
            let option = option.to_str()?;
            let mut next = || words.next();
            let number = |word: OsString| word.to_str()?.parse::<u64>().ok();
            match option {
                "--walls" => plan.walls = true,
                "--network" => plan.network = true,
                "--parent" => plan.parent = next()?.to_str()?.parse().ok()?,
                "--report" => plan.report = next()?.to_str()?.parse().ok()?,
                "--data-bytes" => plan.data_bytes = Some(number(next()?)?),
                "--processes" => plan.processes = Some(number(next()?)?),
                "--setenv" => plan.env.push((next()?, next()?)),
                "--chdir" => plan.directory = next()?.into(),
                "--ro-bind" | "--bind" | "--symlink" => plan.ops.push((option.to_owned(), vec![next()?, next()?])),
                "--size" | "--tmpfs" | "--dir" | "--proc" | "--dev" | "--remount-ro" => {
                    plan.ops.push((option.to_owned(), vec![next()?]));
                }
                "--" => break,
                _ => return None,
            }
        }
        plan.argv = words.collect();
        // What follows the last separator is empty.
        plan.argv.pop();
        (!plan.argv.is_empty()).then_some(plan)
    }
}

fn tell(report: RawFd, text: &str) {
    // SAFETY: the buffer lives; a closed pipe is not our concern (SIGPIPE is ignored by the Rust runtime here).
    unsafe { libc::write(report, text.as_ptr().cast(), text.len()) };
}

fn close(fd: RawFd) {
    // SAFETY: we own every descriptor in this process; this one is not used again.
    unsafe { libc::close(fd) };
}

fn check(result: i64, what: impl FnOnce() -> String) -> Result<i64, String> {
    if result < 0 { Err(format!("{} ({})", what(), io::Error::last_os_error())) } else { Ok(result) }
}

fn fork() -> Result<i32, String> {
    // SAFETY: this process has one thread, so its copy may go on as it is.
    check(i64::from(unsafe { libc::fork() }), || "cannot fork".to_owned()).map(|pid| pid as i32)
}

fn prctl(option: i32, value: libc::c_ulong, what: &str) -> Result<(), String> {
    // SAFETY: plain integers.
    check(i64::from(unsafe { libc::prctl(option, value, 0, 0, 0) }), || what.to_owned()).map(drop)
}

/// Asks for `signal` when the parent dies, and makes sure that it has not already.
fn die_with(parent: i32, signal: i32) -> Result<(), String> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, "cannot ask for a death signal")?;
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } != parent {
        exit(125);
    }
    Ok(())
}

fn wait_for(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes into a local integer.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == pid {
            return exit_code(status);
        }
        if ended < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 125;
        }
    }
}

fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// `/dev/null`, opened before the root changes: the first process inside changes it for the outer one too.
fn null() -> Result<File, String> {
    File::options().read(true).write(true).open("/dev/null").map_err(|e| format!("no `/dev/null` ({e})"))
}

/// Lets go of the program's streams: their other ends shall see when the program closes them.
fn drop_streams(null: &File) -> Result<(), String> {
    for stream in 0..3 {
        // SAFETY: both descriptors are ours.
        check(i64::from(unsafe { libc::dup2(null.as_raw_fd(), stream) }), || "cannot close streams".to_owned())?;
    }
    Ok(())
}

// ---- no walls, by name: only the tree is held together ----

fn without_walls(plan: Plan) -> Result<Never, String> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, "cannot become a subreaper")?;
    let ours = [libc::SIGTERM, libc::SIGCHLD];
    let mask = signals(&ours);
    // SAFETY: the set is initialised.
    check(i64::from(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()) }), || {
        "cannot block signals".to_owned()
    })?;
    die_with(plan.parent, libc::SIGTERM)?;
    let (report, null) = (plan.report, null()?);
    let child = fork()?;
    if child == 0 {
        let error = become_program(&plan, false).err().unwrap_or_default();
        tell(report, &format!("error {error}\n"));
        exit(127);
    }
    tell(report, &format!("pid {child}\n"));
    close(report);
    drop_streams(&null)?;
    loop {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the signal is written into a local integer.
        unsafe { libc::sigwait(&raw const mask, &raw mut signal) };
        let mut code = (signal == libc::SIGTERM).then_some(128 + libc::SIGKILL);
        loop {
            let mut status = 0;
            // SAFETY: waitpid writes into a local integer.
            let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if ended <= 0 {
                break;
            }
            if ended == child {
                code = code.or(Some(exit_code(status)));
            }
        }
        if let Some(code) = code {
            tree::end_all_below(|_, _| ());
            exit(code);
        }
    }
}

fn signals(of: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before anything else reads it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in of {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

// ---- the walls ----

fn behind_walls(plan: Plan) -> Result<Never, String> {
    die_with(plan.parent, libc::SIGKILL)?;
    // SAFETY: no arguments.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mut namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if !plan.network {
        namespaces |= libc::CLONE_NEWNET;
    }
    // SAFETY: plain integers; this process has one thread.
    check(i64::from(unsafe { libc::unshare(namespaces) }), || "user namespaces".to_owned())?;
    let write = |file: &str, text: String| fs::write(file, text).map_err(|e| format!("cannot write `{file}` ({e})"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{INSIDE_ID} {user} 1"))?;
    write("/proc/self/gid_map", format!("{INSIDE_ID} {group} 1"))?;
    if !plan.network {
        raise_loopback()?;
    }
    let (lifeline, held) = pipe().map_err(|e| format!("no pipe ({e})"))?;
    let (report, null) = (plan.report, null()?);
    let init = fork()?;
    if init == 0 {
        drop(held);
        let error = be_init(plan, lifeline, &null).err().unwrap_or_default();
        tell(report, &format!("error {error}\n"));
        exit(125);
    }
    tell(report, &format!("pid {init}\n"));
    close(report);
    drop(lifeline);
    drop_streams(&null)?;
    let code = wait_for(init);
    drop(held);
    exit(code)
}

fn raise_loopback() -> Result<(), String> {
    // SAFETY: a socket of our own; the request is zeroed and carries a name and flags, as SIOCSIFFLAGS reads them.
    unsafe {
        let socket = check(i64::from(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)), || {
            "cannot open a socket".to_owned()
        })? as RawFd;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request);
        check(i64::from(done), || "cannot raise the loopback interface".to_owned()).map(drop)
    }
}

fn be_init(plan: Plan, lifeline: OwnedFd, null: &File) -> Result<Never, String> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, "cannot ask for a death signal")?;
    let mut poll = libc::pollfd { fd: lifeline.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised entry. The outer process holds the other end: a hang-up says that it is gone already.
    if unsafe { libc::poll(&raw mut poll, 1, 0) } != 0 {
        exit(125);
    }
    drop(lifeline);
    // SAFETY: a static name with its length.
    check(i64::from(unsafe { libc::sethostname(c"abca".as_ptr(), 4) }), || "cannot name the host".to_owned())?;
    build_root(&plan)?;
    // Not readable through /proc/1 by the program, which is the same user: neither memory nor executable.
    prctl(libc::PR_SET_DUMPABLE, 0, "cannot hide the first process")?;
    let report = plan.report;
    let program = fork()?;
    if program == 0 {
        let error = become_program(&plan, true).err().unwrap_or_default();
        tell(report, &format!("error {error}\n"));
        exit(127);
    }
    close(report);
    drop_streams(null)?;
    drop_capabilities()?;
    exit(wait_for(program))
}

fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| format!("`{}` holds a NUL byte", path.display()))
}

fn mount(from: &Path, at: &Path, kind: &str, flags: libc::c_ulong, data: &str) -> Result<(), String> {
    let (source, target) = (c_path(from)?, c_path(at)?);
    let (kind, data) = (c_path(Path::new(kind))?, c_path(Path::new(data))?);
    // SAFETY: four C strings that live through the call.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    check(i64::from(done), || format!("cannot mount on `{}`", at.display())).map(drop)
}

fn set_flags(at: &Path, flags: u64, recursive: bool) -> Result<(), String> {
    let target = c_path(at)?;
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let how = if recursive { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path and the structure live through the call, and the size is the structure's.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, target.as_ptr(), how, &raw const attributes, size)
    };
    check(done, || format!("cannot set the flags of the mount `{}`", at.display())).map(drop)
}

fn pivot(new: &Path, old: &Path) -> Result<(), String> {
    let (new, old) = (c_path(new)?, c_path(old)?);
    // SAFETY: two C strings that live through the call.
    let done = unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) };
    check(done, || "cannot change the root".to_owned()).map(drop)
}

fn detach(at: &str) -> Result<(), String> {
    let target = c_path(Path::new(at))?;
    // SAFETY: a C string that lives through the call.
    check(i64::from(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }), || format!("cannot unmount `{at}`"))
        .map(drop)
}

fn go(to: &str) -> Result<(), String> {
    std::env::set_current_dir(to).map_err(|e| format!("cannot enter `{to}` ({e})"))
}

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

fn build_root(plan: &Plan) -> Result<(), String> {
    let none = Path::new("none");
    mount(none, Path::new("/"), "", libc::MS_REC | libc::MS_SLAVE, "")?;
    let base = Path::new("/tmp");
    mount(none, base, "tmpfs", QUIET, "mode=755,size=16m")?;
    let make = |path: &str| fs::create_dir(path).map_err(|e| format!("cannot make `{path}` ({e})"));
    make("/tmp/new")?;
    make("/tmp/old")?;
    pivot(base, Path::new("/tmp/old"))?;
    go("/")?;
    let mut size: Option<OsString> = None;
    for (op, args) in &plan.ops {
        let last = args.last().map(OsString::as_os_str).unwrap_or_default();
        let first = args.first().map(OsString::as_os_str).unwrap_or_default();
        match op.as_str() {
            "--size" => size = Some(first.to_os_string()),
            "--remount-ro" => set_flags(&under("/new", last), libc::MOUNT_ATTR_RDONLY, false)?,
            other => build(other, first, last, size.take())?,
        }
    }
    detach("/old")?;
    go("/new")?;
    pivot(Path::new("."), Path::new("."))?;
    detach(".")?;
    go("/")
}

fn under(root: &str, path: &OsStr) -> PathBuf {
    let path = Path::new(path);
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn build(op: &str, from: &OsStr, at: &OsStr, size: Option<OsString>) -> Result<(), String> {
    let target = under("/new", at);
    let problem = |e: io::Error| format!("cannot make `{}` inside ({e})", Path::new(at).display());
    let folder = |path: &Path| fs::create_dir_all(path).map_err(problem);
    match op {
        "--tmpfs" => {
            folder(&target)?;
            let size = size.as_deref().and_then(OsStr::to_str).unwrap_or("16777216");
            let mode = if at == "/dev/shm" { "1777" } else { "755" };
            mount(Path::new("none"), &target, "tmpfs", QUIET, &format!("mode={mode},size={size}"))
        }
        "--dir" => folder(&target),
        "--symlink" => {
            target.parent().map_or(Ok(()), &folder)?;
            std::os::unix::fs::symlink(from, &target).map_err(problem)
        }
        "--proc" => {
            folder(&target)?;
            mount(Path::new("proc"), &target, "proc", QUIET | libc::MS_NOEXEC, "")
        }
        "--dev" => build_dev(&target).map_err(|e| format!("{e}, for `/dev`")),
        "--bind" | "--ro-bind" => {
            let source = under("/old", from);
            if fs::metadata(&source).map_err(problem)?.is_dir() {
                folder(&target)?;
            } else if !target.exists() {
                target.parent().map_or(Ok(()), &folder)?;
                File::create(&target).map_err(problem)?;
            }
            mount(&source, &target, "", libc::MS_BIND | libc::MS_REC, "")?;
            let read_only = if op == "--bind" { 0 } else { libc::MOUNT_ATTR_RDONLY };
            set_flags(&target, read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, true)
        }
        other => Err(format!("cannot carry out `{other}`")),
    }
}

fn build_dev(dev: &Path) -> Result<(), String> {
    let problem = |e: io::Error| format!("cannot make `{}` ({e})", dev.display());
    fs::create_dir_all(dev).map_err(problem)?;
    mount(Path::new("none"), dev, "tmpfs", libc::MS_NOSUID, "mode=755,size=1m")?;
    for node in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = dev.join(node);
        File::create(&target).map_err(problem)?;
        mount(&Path::new("/old/dev").join(node), &target, "", libc::MS_BIND, "")?;
        set_flags(&target, libc::MOUNT_ATTR_NOSUID, false)?;
    }
    for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        std::os::unix::fs::symlink(format!("/proc/self/fd{to}"), dev.join(name)).map_err(problem)?;
    }
    let terminals = dev.join("pts");
    fs::create_dir(&terminals).map_err(problem)?;
    mount(Path::new("devpts"), &terminals, "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, "newinstance,ptmxmode=0666")?;
    std::os::unix::fs::symlink("pts/ptmx", dev.join("ptmx")).map_err(problem)
}

/// Becomes the program. Only returns to say why it could not.
fn become_program(plan: &Plan, walls: bool) -> Result<Never, String> {
    // The report ends when the program begins.
    // SAFETY: plain integers on a descriptor that is ours.
    unsafe { libc::fcntl(plan.report, libc::F_SETFD, libc::FD_CLOEXEC) };
    std::env::set_current_dir(&plan.directory)
        .map_err(|e| format!("cannot enter `{}` ({e})", plan.directory.display()))?;
    // SAFETY: plain integers and initialised sets; a new terminal session, and signals as a fresh program expects them.
    unsafe {
        libc::setsid();
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let nothing = signals(&[]);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, std::ptr::null_mut());
    }
    limit(libc::RLIMIT_CORE, Some(0))?;
    limit(libc::RLIMIT_DATA, plan.data_bytes)?;
    limit(libc::RLIMIT_NPROC, plan.processes)?;
    let filter = seccomp::filter()?;
    let candidates = candidates(plan)?;
    let argv = c_strings(plan.argv.iter().map(|a| a.as_bytes().to_vec()))?;
    let env = c_strings(plan.env.iter().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()))?;
    let pointers = |all: &[CString]| -> Vec<_> {
        all.iter().map(|c| c.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, env) = ((pointers(&argv), argv), (pointers(&env), env));
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "cannot give up new privileges")?;
    if walls {
        drop_capabilities()?;
        restrict_files()?;
        seccompiler::apply_filter(&filter).map_err(|e| format!("seccomp ({e})"))?;
    }
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for program in candidates {
        // SAFETY: null-terminated arrays of C strings, all alive; on success nothing of this process is left.
        unsafe { libc::execve(program.as_ptr(), argv.0.as_ptr(), env.0.as_ptr()) };
        let failed = io::Error::last_os_error();
        if failed.raw_os_error() != Some(libc::ENOENT) {
            error = failed;
        }
    }
    let name = plan.argv.first().map(|a| a.display().to_string()).unwrap_or_default();
    let message = format!("cannot execute `{name}` ({error})");
    let _ = writeln!(io::stderr(), "abca: {message}");
    // The walls stand; that the program is not there is the program's caller's to see.
    exit(127)
}

fn candidates(plan: &Plan) -> Result<Vec<CString>, String> {
    let Some(name) = plan.argv.first() else { return Ok(Vec::new()) };
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_path(Path::new(name))?]);
    }
    let path = plan.env.iter().find(|(k, _)| k == "PATH").map(|(_, v)| v.as_os_str());
    std::env::split_paths(path.unwrap_or(OsStr::new("/usr/bin:/bin"))).map(|dir| c_path(&dir.join(name))).collect()
}

fn c_strings(all: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>, String> {
    all.map(|bytes| CString::new(bytes).map_err(|_| "a NUL byte in an argument".to_owned())).collect()
}

fn limit(resource: libc::__rlimit_resource_t, value: Option<u64>) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the structure lives through the call.
    check(i64::from(unsafe { libc::setrlimit(resource, &raw const limit) }), || "cannot set a limit".to_owned())
        .map(drop)
}

fn drop_capabilities() -> Result<(), String> {
    // Fails with EINVAL past the last capability that the kernel knows.
    for capability in 0..=63 {
        // SAFETY: plain integers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            break;
        }
    }
    // SAFETY: version 3 takes two data structures of three words each; both buffers live through the call.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        let header = [0x2008_0522_u32, 0];
        let none = [0_u32; 6];
        let done = libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr());
        check(done, || "cannot drop capabilities".to_owned()).map(drop)
    }
}

/// Landlock over the new root: the second lock on the same door. Version 2 (Linux 5.19) is needed, since version 1
/// forbids moving files between folders; what newer versions add is used where it is.
fn restrict_files() -> Result<(), String> {
    let problem = |e: &dyn std::fmt::Display| format!("Landlock ({e})");
    let needed = AccessFs::from_all(ABI::V2);
    let newest = AccessFs::from_all(ABI::V5);
    let rule = |path: &str, access| PathFd::new(path).map(|fd| PathBeneath::new(fd, access)).map_err(|e| problem(&e));
    let devices = AccessFs::from_read(ABI::V5) | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let everything = [
        rule("/", AccessFs::from_read(ABI::V2))?,
        rule(layout::WORKSPACE, newest)?,
        rule(layout::TMP, newest)?,
        rule("/dev", devices)?,
        rule("/dev/shm", newest)?,
        rule("/proc", AccessFs::from_read(ABI::V2) | AccessFs::WriteFile | AccessFs::Truncate)?,
    ];
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(needed)
        .and_then(|r| r.set_compatibility(CompatLevel::BestEffort).handle_access(newest))
        .and_then(|r| r.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(landlock::Ruleset::create)
        .map_err(|e| problem(&e))?;
    let status = everything
        .into_iter()
        .try_fold(ruleset, |r, rule| r.set_compatibility(CompatLevel::BestEffort).add_rule(rule))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|e| problem(&e))?;
    match status.ruleset {
        // Partially: an older kernel without the newest rights. What is needed was a hard requirement.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("Landlock, which this kernel does not enforce".to_owned()),
    }
}
