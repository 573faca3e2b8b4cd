//! Walls of our own, and the helper that holds a tree together without walls: this program executed again, which then
//! does what is in [`super::enter`].

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

use abca_core::compute::NetworkMode;

use super::handoff::{join, memory_file};
use super::{Inner, Launch};
use crate::pipe::pipe;

pub(super) fn launch(inner: &Inner, argv: &[OsString], walls: bool) -> io::Result<Launch> {
    let (report, reporting) = pipe()?;
    let mut plan: Vec<OsString> = Vec::new();
    let mut say = |words: &[&str]| plan.extend(words.iter().map(Into::into));
    say(&["--parent", &std::process::id().to_string(), "--report", &reporting.as_raw_fd().to_string()]);
    if walls {
        say(&["--walls"]);
    }
    if inner.limits.network == NetworkMode::Host {
        say(&["--network"]);
    }
    if inner.cgroup.is_none() {
        say(&["--data-bytes", &inner.limits.memory_bytes.to_string()]);
        if walls {
            // Counted per user *and* user namespace: without one, the user's other programs would count too.
            say(&["--processes", &inner.limits.processes.to_string()]);
        }
    }
    for (name, value) in &inner.env {
        say(&["--setenv", name, value]);
    }
    plan.extend_from_slice(&inner.layout);
    plan.extend(["--chdir".into(), inner.inside.clone().into_os_string(), "--".into()]);
    plan.extend_from_slice(argv);
    let plan = memory_file(&join(&plan)?)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(crate::SANDBOX).arg(plan.as_raw_fd().to_string());
    Ok(Launch { command, fds: vec![plan, reporting], report })
}

/// The pid of the first process inside.
pub(super) fn init_of(report: &str) -> Option<i32> {
    report.lines().find_map(|line| line.strip_prefix("pid "))?.parse().ok()
}
