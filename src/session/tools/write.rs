//! `Write`: a file whole and at once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::path::Place;
use super::request::WriteArgs;
use super::run::Made;

pub(super) fn run(place: &Place, args: &WriteArgs) -> Result<Made, String> {
    let real = place.writable(&args.file_path)?;
    let lines = args.content.lines().count();
    let made = whole(place, &real, args.content.as_bytes())?;
    let what = if made { "made" } else { "written" };
    Ok(format!("[`{}` {what}: {lines} lines, {} bytes]", place.show(&real), args.content.len()).into())
}

/// Replaces a file by rename, so that nobody ever sees half of it; keeps the mode of one that exists, makes folders.
/// Answers whether it is new.
pub(super) fn whole(place: &Place, real: &Path, content: &[u8]) -> Result<bool, String> {
    let shown = place.show(real);
    let failed = |e: io::Error| format!("`{shown}` cannot be written: {e}");
    let mode = match real.symlink_metadata() {
        Ok(meta) if meta.is_dir() => return Err(format!("`{shown}` is a directory")),
        Ok(meta) if !meta.is_file() => return Err(format!("`{shown}` is no regular file; it is not written to")),
        Ok(meta) => Some(meta.permissions().mode() & 0o7777),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    let parent = real.parent().ok_or_else(|| format!("`{shown}` names no file"))?;
    fs::create_dir_all(parent).map_err(failed)?;
    let (mut file, temporary) = beside(parent).map_err(failed)?;
    let done = file.write_all(content).and_then(|()| {
        if let Some(mode) = mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        fs::rename(&temporary, real)
    });
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done.map_err(failed)?;
    Ok(mode.is_none())
}

/// A new file in a folder, under a name that nobody has.
fn beside(parent: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!(".abca-{}-{n}.tmp", std::process::id()));
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}
