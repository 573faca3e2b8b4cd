//! Plain file operations for the brain: not tools, the same walls.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use super::path::Place;
use super::write;
use crate::session::hands::{FileBytes, FileKind, FileStat};

/// Most of a file that goes over the wire at once.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Most of a project file.
const PROJECT_FILE_BYTES: u64 = 64 << 10;
/// Most project files.
const PROJECT_FILES: usize = 64;

pub(crate) fn stat(place: &Place, path: &str) -> Result<FileStat, String> {
    let real = place.existing_link(path)?;
    let meta = real.symlink_metadata().map_err(|e| format!("`{}` cannot be examined: {e}", place.show(&real)))?;
    let kind = match meta.file_type() {
        t if t.is_file() => FileKind::File,
        t if t.is_dir() => FileKind::Dir,
        t if t.is_symlink() => FileKind::Symlink,
        _ => FileKind::Special,
    };
    let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(FileStat {
        kind,
        size_bytes: meta.len(),
        mode: meta.permissions().mode() & 0o7777,
        modified_ms: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
    })
}

pub(crate) fn fetch(place: &Place, path: &str, max_bytes: u64) -> Result<FileBytes, String> {
    let real = place.existing(path)?;
    let (file, _) = place.open_regular(&real)?;
    let shown = place.show(&real);
    let max = max_bytes.min(MAX_FILE_BYTES);
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| format!("`{shown}` cannot be read: {e}"))?;
    let truncated = bytes.len() as u64 > max;
    bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    Ok(FileBytes { path: shown, bytes, truncated })
}

pub(crate) fn store(place: &Place, path: &str, content: &[u8]) -> Result<(), String> {
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{} bytes are more than the limit of {MAX_FILE_BYTES}", content.len()));
    }
    write::whole(place, &place.writable(path)?, content).map(|_| ())
}

/// What is not there, leads outside or is no regular file is passed over.
pub(crate) fn project_files(place: &Place) -> Vec<FileBytes> {
    let mut names: Vec<PathBuf> = ["CLAUDE.md", ".claude/CLAUDE.md", "AGENTS.md"].map(PathBuf::from).to_vec();
    let rules = std::fs::read_dir(place.root().join(".claude/rules")).into_iter().flatten().flatten();
    let mut rules: Vec<PathBuf> = rules
        .take(1_000)
        .map(|e| PathBuf::from(".claude/rules").join(e.file_name()))
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect();
    rules.sort();
    names.extend(rules);
    names.push(".claude/settings.json".into());
    let found = names.iter().filter_map(|p| fetch(place, p.to_str()?, PROJECT_FILE_BYTES).ok());
    found.take(PROJECT_FILES).collect()
}
