//! Limits by control groups, where this process may make some: version 2, or version 1 with `memory` and `pids`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::tree;

/// A group per controller (one for both in version 2), removed on drop.
#[derive(Debug)]
pub(super) struct Cgroup {
    version: u8,
    memory: PathBuf,
    pids: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Cgroup {
    /// Makes a group below the one this process is in, so that limits put on us hold for it too.
    ///
    /// # Errors
    /// A sentence that says why there can be none.
    pub(super) fn create(memory_bytes: u64, processes: u32) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("no control groups ({e})"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("no mount table ({e})"))?;
        let me = std::process::id().cast_signed();
        let start = tree::start_time(me).unwrap_or(0);
        let name = format!("abca-{me}-{start}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        if let Some(dir) = folders(&own, &mounts, "").into_iter().find_map(|parent| make_v2(&parent, &name)) {
            let group = Self { version: 2, memory: dir.clone(), pids: dir };
            group.limit("memory.max", memory_bytes, processes)?;
            // Not everywhere; without swap control, swap is not ours to limit.
            let _ = fs::write(group.memory.join("memory.swap.max"), "0");
            return Ok(group);
        }
        let make_v1 = |controller: &str| {
            let parents = folders(&own, &mounts, controller);
            parents.into_iter().find_map(|parent| {
                sweep(&parent);
                let dir = parent.join(&name);
                fs::create_dir(&dir).ok().map(|()| dir)
            })
        };
        let memory = make_v1("memory").ok_or("no writable control group for memory")?;
        let Some(pids) = make_v1("pids") else {
            let _ = fs::remove_dir(&memory);
            return Err("no writable control group for the number of processes".to_owned());
        };
        let group = Self { version: 1, memory, pids };
        group.limit("memory.limit_in_bytes", memory_bytes, processes)?;
        let _ = fs::write(group.memory.join("memory.memsw.limit_in_bytes"), memory_bytes.to_string());
        Ok(group)
    }

    fn limit(&self, memory_file: &str, memory_bytes: u64, processes: u32) -> Result<(), String> {
        let put = |path: PathBuf, value: String| {
            fs::write(&path, value).map_err(|e| format!("cannot write `{}` ({e})", path.display()))
        };
        put(self.memory.join(memory_file), memory_bytes.to_string())?;
        put(self.pids.join("pids.max"), processes.to_string())
    }

    /// `cgroup-v1` or `cgroup-v2`.
    pub(super) fn mechanism(&self) -> &'static str {
        if self.version == 2 { "cgroup-v2" } else { "cgroup-v1" }
    }

    /// Files into which a child writes `0` to put itself into the group.
    pub(super) fn doors(&self) -> io::Result<Vec<File>> {
        let mut doors = vec![OpenOptions::new().write(true).open(self.memory.join("cgroup.procs"))?];
        if self.pids != self.memory {
            doors.push(OpenOptions::new().write(true).open(self.pids.join("cgroup.procs"))?);
        }
        Ok(doors)
    }

    /// How often the memory limit has killed, and the process limit has refused, so far.
    pub(super) fn hits(&self) -> (u64, u64) {
        let memory = if self.version == 2 { "memory.events" } else { "memory.oom_control" };
        (counter(&self.memory.join(memory), "oom_kill"), counter(&self.pids.join("pids.events"), "max"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A killed tree leaves its groups a moment after its processes are gone.
        for dir in [&self.memory, &self.pids] {
            for _ in 0..100 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

fn counter(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

/// Where a group may be made, best first: below our own, beside it (a delegated tree of version 2 keeps processes in
/// leaves only), at the top.
fn folders(own: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == controller).then_some(path)
    });
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let ours = match controller {
            "" => kind == "cgroup2",
            _ => kind == "cgroup" && options.split(',').any(|o| o == controller),
        };
        ours.then(|| (root.to_owned(), PathBuf::from(point)))
    });
    let (Some(path), Some((root, point))) = (path, mount) else { return Vec::new() };
    let below = path.strip_prefix(&root).unwrap_or(path).trim_start_matches('/');
    let own = point.join(below);
    let mut found = vec![own.clone()];
    if controller.is_empty() && !below.is_empty() {
        found.extend(own.parent().map(Path::to_path_buf));
    }
    if !found.contains(&point) {
        found.push(point);
    }
    found.retain(|dir| dir.is_dir());
    found
}

fn make_v2(parent: &Path, name: &str) -> Option<PathBuf> {
    let controllers = fs::read_to_string(parent.join("cgroup.subtree_control")).ok()?;
    let has = |wanted: &str| controllers.split_ascii_whitespace().any(|c| c == wanted);
    if !has("memory") || !has("pids") {
        return None;
    }
    sweep(parent);
    let dir = parent.join(name);
    fs::create_dir(&dir).ok()?;
    // The limit's file is there only when the controller really is.
    if dir.join("memory.max").exists() && dir.join("pids.max").exists() {
        return Some(dir);
    }
    let _ = fs::remove_dir(&dir);
    None
}

/// Removes groups whose maker was killed before it could.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix("abca-")) else { continue };
        let mut parts = owner.split('-').map(|part| part.parse::<u64>().ok());
        let (Some(Some(pid)), Some(Some(start))) = (parts.next(), parts.next()) else { continue };
        if i32::try_from(pid).ok().and_then(tree::start_time) != Some(start) {
            // Fails while something still runs in it, as it should.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().display();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let v2 = format!("30 24 0:26 / {point} rw,nosuid - cgroup2 cgroup2 rw\n");
        assert_eq!(
            folders("0::/a/b\n", &v2, ""),
            [dir.path().join("a/b"), dir.path().join("a"), dir.path().to_path_buf()]
        );
        let v1 = format!("31 24 0:27 /x {point} rw shared:9 - cgroup cgroup rw,memory\n");
        assert_eq!(folders("4:memory:/x/a\n0::/\n", &v1, "memory"), [dir.path().join("a"), dir.path().to_path_buf()]);
        assert_eq!(folders("4:memory:/x/a\n0::/\n", &v1, "pids"), Vec::<PathBuf>::new());
    }
}
