//! What the test program does behind the walls: it tries things, and says what came of them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub const WORD: &str = "__inside";

/// Runs the probe that `argv` asks for, and never comes back then.
pub fn run_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(WORD) {
        return;
    }
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = match args.as_slice() {
        ["read", path] => word(fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        ["list", path] => word(list(path)),
        ["write", path] => word(fs::write(path, "written").map(|()| "written".to_owned())),
        ["append", path] => word(fs::OpenOptions::new().append(true).open(path).map(|_| "opened".to_owned())),
        ["link", target, at] => word(std::os::unix::fs::symlink(target, at).map(|()| "linked".to_owned())),
        ["tcp", to] => word(TcpStream::connect(to.parse::<SocketAddr>().unwrap()).map(|_| "connected".to_owned())),
        ["abstract", name] => word(abstract_socket(name)),
        ["loopback"] => word(loopback()),
        ["env"] => std::env::vars().map(|(k, v)| format!("{k}={v}\n")).collect(),
        ["processes"] => processes(),
        ["environs"] => environs(),
        ["fds"] => word(list("/proc/self/fd")),
        ["status"] => word(fs::read_to_string("/proc/self/status")),
        ["cwd"] => word(std::env::current_dir().map(|dir| dir.display().to_string())),
        ["call", name] => word(call(name)),
        ["eat", mib] => eat(mib.parse().unwrap()),
        ["forks", count] => forks(count.parse().unwrap()),
        ["detach", marker] => detach(marker),
        ["brain", root, walls, marker] => crate::walls::be_brain(root, walls, marker),
        ["sleep", ..] => sleep_for_ever(),
        ["echo"] => {
            let mut text = String::new();
            word(io::stdin().read_to_string(&mut text).map(|_| text))
        }
        other => panic!("no probe {other:?}"),
    };
    print!("{said}");
    let _ = io::stdout().flush();
    std::process::exit(0);
}

fn word(result: io::Result<String>) -> String {
    result.unwrap_or_else(|e| format!("refused: {e}"))
}

fn list(path: &str) -> io::Result<String> {
    let mut names: Vec<String> =
        fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names.join(" "))
}

fn abstract_socket(name: &str) -> io::Result<String> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    UnixStream::connect_addr(&address).map(|_| "connected".to_owned())
}

fn loopback() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    TcpStream::connect(listener.local_addr()?).map(|_| "connected".to_owned())
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn processes() -> String {
    pids()
        .into_iter()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default() + "\n")
        .collect()
}

fn environs() -> String {
    let read = |pid: i32| fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    pids().into_iter().map(|pid| String::from_utf8_lossy(&read(pid)).into_owned() + "\n").collect()
}

/// System calls of somebody who wants out.
fn call(name: &str) -> io::Result<String> {
    let tmp = c"/tmp".as_ptr();
    // SAFETY: C strings and plain integers; whatever succeeds here harms only this process.
    let result = unsafe {
        match name {
            "mount" => i64::from(libc::mount(c"none".as_ptr(), tmp, c"tmpfs".as_ptr(), 0, std::ptr::null())),
            "umount" => i64::from(libc::umount2(c"/proc/sys".as_ptr(), libc::MNT_DETACH)),
            "unshare" => i64::from(libc::unshare(libc::CLONE_NEWUSER)),
            "clone" => libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
            "clone3" => libc::syscall(libc::SYS_clone3, 0, 0),
            "chroot" => i64::from(libc::chroot(tmp)),
            "setuid" => i64::from(libc::setuid(0)),
            "ptrace" => libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 1, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, 0, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "tiocsti" => i64::from(libc::ioctl(0, libc::TIOCSTI as _, c"x".as_ptr())),
            // The kernel reads 32 bits of the request: the upper ones must not hide it.
            "tiocsti-high" => libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI | (1 << 32), c"x".as_ptr()),
            #[cfg(target_arch = "x86_64")]
            "x32" => libc::syscall(0x4000_0000 | libc::SYS_getpid),
            "mknod" => i64::from(libc::mknod(c"/tmp/disk".as_ptr(), libc::S_IFBLK | 0o666, libc::makedev(254, 0))),
            "kill-all" => i64::from(libc::kill(-1, 0)),
            other => panic!("no call `{other}`"),
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok("done".to_owned()) }
}

fn eat(mib: usize) -> String {
    let mut eaten = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        eaten.push(block);
    }
    // Without the limit, the outside shall see that there was none, and not at once.
    format!("ate {} MiB", eaten.len())
}

/// Forks children that sleep, up to `count` in all: bounded, whatever the limit does.
fn forks(count: usize) -> String {
    let mut made = 0;
    for _ in 0..count {
        // SAFETY: this process has one thread; the child only sleeps.
        match unsafe { libc::fork() } {
            0 => sleep_for_ever(),
            pid if pid < 0 => break,
            _ => made += 1,
        }
    }
    println!("made {made}");
    io::stdout().flush().unwrap();
    sleep_for_ever()
}

/// Starts a process that leaves session and parent, named by `marker` in its arguments, then says so and sleeps.
fn detach(marker: &str) -> ! {
    // SAFETY: this process has one thread.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                let exe = std::ffi::CString::new("/.abca/exe").unwrap();
                let args = [WORD, "sleep", marker].map(|a| std::ffi::CString::new(a).unwrap());
                let exe = if Path::new("/.abca/exe").exists() { exe } else { c"/proc/self/exe".to_owned() };
                libc::execl(
                    exe.as_ptr(),
                    exe.as_ptr(),
                    args[0].as_ptr(),
                    args[1].as_ptr(),
                    args[2].as_ptr(),
                    std::ptr::null::<libc::c_char>(),
                );
            }
            libc::_exit(0);
        }
    }
    println!("detached");
    io::stdout().flush().unwrap();
    sleep_for_ever()
}

fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: no arguments; returns after signals.
        unsafe { libc::pause() };
        let _ = io::stdin().as_raw_fd();
    }
}
