//! Taking work over from the hands: git's protocol over two pipes whose far side runs in the sandbox.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::git::{GitError, GitErrorKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Bare, own_ref};

/// A `git upload-pack` that runs elsewhere, seen by its two ends. Blocking descriptors.
#[derive(Debug)]
pub struct ServedRepo {
    /// What it reads.
    pub stdin: OwnedFd,
    /// What it writes.
    pub stdout: OwnedFd,
}

/// Old mistakes in objects that harm nobody; everything else that fsck knows as an error is refused.
const HARMLESS: &[&str] = &[
    "zeroPaddedFilemode",
    "badFilemode",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingNameBeforeEmail",
    "missingEmail",
    "badEmail",
    "badName",
    "badTimezone",
    "zeroPaddedDate",
    "badDateOverflow",
    "multipleAuthors",
];

impl Bare {
    /// Fetches refs from a repository that is served by a process in the sandbox. Each refspec is `source:target`, where the
    /// target stands under `refs/abca/` and is replaced. Every object is checked (fsck) before one is kept.
    ///
    /// # Errors
    /// `Invalid`: a target elsewhere, or more bytes than the limit. `Corrupt`: objects that are damaged or dangerous. `NotFound`:
    /// the hands have no such ref. `Unavailable`: the far side ended early.
    ///
    /// # Cancel safety
    /// Dropped, git is killed and nothing is kept; the far side sees its input end.
    pub async fn fetch_served(&self, served: ServedRepo, refspecs: &[&str]) -> Result<(), GitError> {
        const OP: &str = "fetch_served";
        for spec in refspecs {
            let (source, target) = spec.split_once(':').unwrap_or((spec, ""));
            own_ref(OP, target)?;
            if source.is_empty() || source.starts_with(['-', '+', '^']) || source.contains([':', '*', '\n']) {
                let message = format!("`{}` is not a ref to fetch", source.escape_debug());
                return Err(GitError::new(GitErrorKind::Invalid, OP, message));
            }
        }
        let failed =
            |e: rustix::io::Errno| GitError::new(GitErrorKind::Unavailable, OP, format!("cannot make a pipe: {e}"));
        let (from_served, to_git) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let limit = self.limits.max_fetch_bytes;
        let taken = self.taken.clone();
        let pump = tokio::task::spawn_blocking(move || pump(&served.stdout, &to_git, limit, &taken));

        let mut call = self.call(OP).allow("fd").config("fetch.fsckObjects=true").config("fetch.unpackLimit=1");
        for check in HARMLESS {
            call = call.config(format!("fetch.fsck.{check}=ignore"));
        }
        let (reader, writer) = (call.fd(from_served)?, call.fd(served.stdin)?);
        let call = call.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"]);
        let specs = refspecs.iter().map(|spec| format!("+{spec}"));
        let call = call.args(["--refmap=", "--"]).arg(format!("fd::{reader},{writer}")).args(specs);
        let fetched = call.run().await;
        let ended = pump.await.unwrap_or(Ended::Quietly);
        match (fetched, ended) {
            (Ok(_), _) => Ok(()),
            (Err(_), Ended::OverLimit) => Err(GitError::new(
                GitErrorKind::Invalid,
                OP,
                format!("the hands' repository sends more than the limit of {limit} bytes"),
            )),
            (Err(e), Ended::Quietly) => Err(e),
        }
    }
}

enum Ended {
    Quietly,
    OverLimit,
}

/// Copies until one side ends, or the limit is passed. Notices a git that has gone even while the far side is silent.
/// Counts what it copied.
fn pump(from: &OwnedFd, to: &OwnedFd, limit: u64, taken: &AtomicU64) -> Ended {
    let mut left = limit;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut both = [
            PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(to.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut both, None) {
            Ok(_) if both[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) => return Ended::Quietly,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ended::Quietly,
        }
        if both[0].revents().is_empty() {
            continue;
        }
        let n = match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ended::Quietly,
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(_) => return Ended::Quietly,
        };
        left = match left.checked_sub(n as u64) {
            Some(left) => left,
            None => return Ended::OverLimit,
        };
        taken.fetch_add(n as u64, Ordering::Relaxed);
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ended::Quietly,
            }
        }
    }
}
