//! `Glob`: files by name, newest first.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::path::Place;
use super::request::GlobArgs;
use super::run::Made;
use super::walk;

/// Most files that are listed.
const MAX_FILES: usize = 100;

pub(super) fn run(place: &Place, args: &GlobArgs, cancel: &CancellationToken) -> Result<Made, String> {
    // An absolute pattern means the folder before its first wildcard.
    let (dir, pattern) = match (&args.path, args.pattern.strip_prefix('/')) {
        (None, Some(_)) => {
            let (dir, rest) = fixed_part(&args.pattern);
            (place.existing(dir)?, rest)
        }
        (path, _) => {
            (place.existing(path.as_deref().unwrap_or("."))?, args.pattern.strip_prefix("./").unwrap_or(&args.pattern))
        }
    };
    if !dir.is_dir() {
        return Err(format!("`{}` is not a directory", place.show(&dir)));
    }
    let matcher = walk::glob(pattern)?;
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    let all = walk::files(&dir, false, None, cancel, |path| {
        if path.strip_prefix(&dir).is_ok_and(|p| matcher.is_match(p)) {
            let when = path.symlink_metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((when, path));
        }
        true
    })?;
    found.sort_by(|(t1, p1), (t2, p2)| t2.cmp(t1).then_with(|| p1.cmp(p2)));
    if found.is_empty() {
        return Ok("[no files match]".to_owned().into());
    }
    let mut out: String = found.iter().take(MAX_FILES).map(|(_, p)| place.show(p) + "\n").collect();
    if found.len() > MAX_FILES {
        out.push_str(&format!("[{MAX_FILES} of {} files; narrow the pattern or the path]\n", found.len()));
    }
    if !all {
        out.push_str("[the folder is too large to be searched whole; narrow the path]\n");
    }
    Ok(out.into())
}

fn fixed_part(pattern: &str) -> (&str, &str) {
    let wild = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    let cut = pattern[..wild].rfind('/').map_or(0, |i| i + 1);
    let (dir, rest) = pattern.split_at(cut);
    (if Path::new(dir).as_os_str().is_empty() { "/" } else { dir }, rest)
}
