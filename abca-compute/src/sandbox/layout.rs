//! What the inside sees, as a list of operations in bubblewrap's own words: both mechanisms carry out the same list.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use abca_core::compute::NetworkMode;

use super::SandboxSpec;

/// Where the work tree is seen.
pub(super) const WORKSPACE: &str = "/workspace";
/// Where the private temporary folder is seen.
pub(super) const TMP: &str = "/tmp";
/// Where the program that runs this library is seen.
pub(super) const EXECUTABLE: &str = "/.abca/exe";

/// Folders of the system that make the root, read-only. Whatever else the machine has at its root (home folders,
/// other data, sockets under `/run`) is not there.
const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    Bind {
        from: PathBuf,
        writable: bool,
    },
    Link {
        target: PathBuf,
    },
    /// An empty read-only folder, or an unreadable file.
    Hide,
}

/// The operations, as arguments.
///
/// `own` holds `passwd` and `group` for the inside; `executable` is what is seen at [`EXECUTABLE`].
pub(super) fn arguments(spec: &SandboxSpec, own: &Path, executable: &Path) -> Vec<OsString> {
    let mut ops: BTreeMap<(usize, PathBuf), Op> = BTreeMap::new();
    let mut put = |at: PathBuf, op: Op| ops.insert((depth(&at), at), op);
    let bind = |from: &Path, writable| Op::Bind { from: from.to_path_buf(), writable };

    for top in SYSTEM.iter().map(Path::new) {
        match fs::symlink_metadata(top) {
            Ok(meta) if meta.is_symlink() => {
                if let Ok(target) = fs::read_link(top) {
                    put(top.to_path_buf(), Op::Link { target });
                }
            }
            Ok(meta) if meta.is_dir() => drop(put(top.to_path_buf(), bind(top, false))),
            Ok(_) | Err(_) => {}
        }
    }
    for secret in private_in(Path::new("/etc")) {
        put(secret, Op::Hide);
    }
    for (file, name) in [("/etc/passwd", "passwd"), ("/etc/group", "group")] {
        if Path::new(file).is_file() {
            put(file.into(), bind(&own.join(name), false));
        }
    }
    if spec.limits.network == NetworkMode::Host {
        // Often a link into /run, which the inside does not have.
        if let Some(real) = fs::canonicalize("/etc/resolv.conf").ok().filter(|real| !real.starts_with("/etc")) {
            put(real.clone(), bind(&real, false));
        }
    }
    for cpu in ["/sys/devices/system/cpu", "/sys/devices/system/node"].iter().map(Path::new).filter(|p| p.is_dir()) {
        put(cpu.to_path_buf(), bind(cpu, false));
    }
    put("/var/tmp".into(), Op::Link { target: TMP.into() });
    for home in homes() {
        if visible(&home) {
            put(home, Op::Hide);
        }
    }
    for path in spec.toolchains.iter().chain(&spec.read_only) {
        if let Ok(real) = fs::canonicalize(path) {
            put(path.clone(), bind(&real, false));
            if real != *path && !visible(&real) {
                put(real.clone(), bind(&real, false));
            }
        }
    }
    put(WORKSPACE.into(), bind(&spec.work_tree, true));
    put(TMP.into(), bind(&spec.tmp, true));
    put(EXECUTABLE.into(), bind(executable, false));
    if let Some(socket) = spec.egress.as_deref().filter(|_| spec.limits.network == NetworkMode::Proxy) {
        put(super::EGRESS_SOCKET.into(), bind(socket, false));
    }
    // Last: at the same path, hiding wins.
    for hidden in spec.hidden.iter().flat_map(|path| seen_at(path, spec)) {
        put(hidden, Op::Hide);
    }

    let mut args: Vec<OsString> = Vec::new();
    let mut again: Vec<PathBuf> = Vec::new();
    let mut say = |words: &[&std::ffi::OsStr]| args.extend(words.iter().map(|w| w.to_os_string()));
    say(&["--tmpfs".as_ref(), "/".as_ref(), "--dir".as_ref(), "/run".as_ref()]);
    say(&["--proc".as_ref(), "/proc".as_ref(), "--dev".as_ref(), "/dev".as_ref()]);
    let shm = (spec.limits.memory_bytes / 2).max(1 << 20).to_string();
    say(&["--size".as_ref(), shm.as_ref(), "--tmpfs".as_ref(), "/dev/shm".as_ref()]);
    for entry in kernel_doors() {
        let from = if entry.is_dir() { entry.as_os_str() } else { "/dev/null".as_ref() };
        say(&["--ro-bind".as_ref(), from, entry.as_os_str()]);
    }
    for ((_, at), op) in &ops {
        match op {
            Op::Bind { from, writable } => {
                let word = if *writable { "--bind" } else { "--ro-bind" };
                say(&[word.as_ref(), from.as_os_str(), at.as_os_str()]);
            }
            Op::Link { target } => say(&["--symlink".as_ref(), target.as_os_str(), at.as_os_str()]),
            Op::Hide if at.is_dir() || mapped_is_dir(at, spec) => {
                say(&["--tmpfs".as_ref(), at.as_os_str()]);
                again.push(at.clone());
            }
            Op::Hide => say(&["--ro-bind".as_ref(), "/dev/null".as_ref(), at.as_os_str()]),
        }
    }
    // Deeper paths had to be made in them first.
    again.extend(["/dev".into(), "/".into()]);
    for at in again {
        say(&["--remount-ro".as_ref(), at.as_os_str()]);
    }
    args
}

/// Where the inside would see a path of the outside, if at all.
fn seen_at(path: &Path, spec: &SandboxSpec) -> Vec<PathBuf> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if !real.exists() {
        return Vec::new();
    }
    let mut seen = Vec::new();
    for (root, at) in [(&spec.work_tree, WORKSPACE), (&spec.tmp, TMP)] {
        if let Ok(rest) = real.strip_prefix(root)
            && !rest.as_os_str().is_empty()
        {
            seen.push(Path::new(at).join(rest));
        }
    }
    let bound = spec.toolchains.iter().chain(&spec.read_only);
    if visible(&real) || bound.into_iter().any(|root| real.starts_with(root) || root.starts_with(&real)) {
        seen.push(real);
    }
    seen
}

fn mapped_is_dir(at: &Path, spec: &SandboxSpec) -> bool {
    [(&spec.work_tree, WORKSPACE), (&spec.tmp, TMP)]
        .into_iter()
        .any(|(root, seen)| at.strip_prefix(seen).is_ok_and(|rest| root.join(rest).is_dir()))
}

fn visible(path: &Path) -> bool {
    SYSTEM.iter().any(|top| path.starts_with(top))
}

fn depth(path: &Path) -> usize {
    path.components().filter(|c| matches!(c, Component::Normal(_))).count()
}

/// What others may not read in a folder of the system: when we are root, the inside's user owns it and could.
fn private_in(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let mode = meta.permissions().mode();
            if meta.is_dir() && mode & 0o005 == 0o005 {
                todo.push(entry.path());
            } else if !meta.is_symlink() && (meta.is_dir() || mode & 0o004 == 0 || meta.file_type().is_socket()) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Home folders of people and root that lie under a folder of the system.
fn homes() -> Vec<PathBuf> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let uid: u32 = fields.next()?.parse().ok()?;
        let home = PathBuf::from(fields.nth(2)?);
        ((uid == 0 || uid >= 1000) && depth(&home) > 1 && home.is_dir()).then_some(home)
    };
    passwd.lines().filter_map(home).collect()
}

/// Top-level entries of `/proc` through which the owner of the machine speaks to the kernel. When we are root, the
/// inside's user is that owner in the kernel's eyes (also without any capability): `/proc/sys/kernel/core_pattern`
/// would be its way out.
fn kernel_doors() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let own = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        let mode = meta.permissions().mode();
        if !own && !meta.is_symlink() && (meta.is_dir() || mode & 0o222 != 0 || mode & 0o004 == 0) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
