//! `Edit`: replaces bytes, so that whatever else the file holds stays as it is: BOM, line ends, bytes that are no UTF-8.

use std::io::Read;

use memchr::memmem;

use super::path::Place;
use super::request::EditArgs;
use super::run::Made;
use super::{read, text, write};

/// Largest file that is edited.
const MAX_FILE_BYTES: u64 = 32 << 20;

pub(super) fn run(place: &Place, args: &EditArgs) -> Result<Made, String> {
    // First, so that a missing file is said to be missing.
    place.existing(&args.file_path)?;
    let real = place.writable(&args.file_path)?;
    let (file, meta) = place.open_regular(&real)?;
    let shown = place.show(&real);
    let too_large = || format!("`{shown}` is larger than {}; use a script", text::size(MAX_FILE_BYTES));
    if meta.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| format!("`{shown}` cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let change = Change::find(&bytes, args);
    match change.at.as_slice() {
        [] => return Err(not_found(&bytes, args, &shown)),
        [_] => {}
        many if !args.replace_all => {
            let lines: Vec<String> = many.iter().take(5).map(|at| line_of(&bytes, *at).to_string()).collect();
            return Err(format!(
                "`old_string` is in `{shown}` {} times (lines {}{}), and it is not said which; add lines around it until it is unique, or set `replace_all`",
                many.len(),
                lines.join(", "),
                if many.len() > 5 { ", ..." } else { "" }
            ));
        }
        _ => {}
    }
    let new = change.apply(&bytes);
    write::whole(place, &real, &new)?;
    let first = change.at.first().map_or(1, |at| line_of(&bytes, *at));
    let count = change.at.len();
    let s = if count == 1 { "" } else { "s" };
    Ok(format!("[`{shown}`: {count} replacement{s}, the first in line {first}]\n{}", around(&new, first, args)).into())
}

struct Change {
    old: Vec<u8>,
    new: Vec<u8>,
    at: Vec<usize>,
}

impl Change {
    /// As it is written; else, for a file with Windows line ends, with those.
    fn find(bytes: &[u8], args: &EditArgs) -> Self {
        let (old, new) = (args.old_string.as_bytes().to_vec(), args.new_string.as_bytes().to_vec());
        let at = occurrences(bytes, &old);
        if at.is_empty() && !args.old_string.contains('\r') && memmem::find(bytes, b"\r\n").is_some() {
            let windows = |s: &str| s.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
            let (old, new) = (windows(&args.old_string), windows(&args.new_string));
            let at = occurrences(bytes, &old);
            return Self { old, new, at };
        }
        // Text that matches within a line, yet brings new ones into such a file.
        if !at.is_empty() && !args.old_string.contains('\n') && only_windows(bytes) {
            let new = args.new_string.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
            return Self { old, new, at };
        }
        Self { old, new, at }
    }

    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.new.len());
        let mut from = 0;
        for at in &self.at {
            out.extend_from_slice(&bytes[from..*at]);
            out.extend_from_slice(&self.new);
            from = at + self.old.len();
        }
        out.extend_from_slice(&bytes[from..]);
        out
    }
}

fn occurrences(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    memmem::find_iter(bytes, what).collect()
}

/// Every line ends with `\r\n`, and there is one.
fn only_windows(bytes: &[u8]) -> bool {
    let mut any = false;
    for (i, b) in bytes.iter().enumerate() {
        if *b == b'\n' {
            any = true;
            if i == 0 || bytes[i - 1] != b'\r' {
                return false;
            }
        }
    }
    any
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes[..at].iter().filter(|b| **b == b'\n').count()
}

/// The new text with a few lines around it, so that the model sees what it did.
fn around(new: &[u8], first: usize, args: &EditArgs) -> String {
    let from = first.saturating_sub(4);
    let lines = args.new_string.lines().count().min(20) + 6;
    let mut out = String::new();
    for (i, line) in new.split(|b| *b == b'\n').enumerate().skip(from).take(lines) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let line: String = line.chars().take(300).collect();
        out.push_str(&format!("{:>6}\t{line}\n", i + 1));
    }
    out
}

fn not_found(bytes: &[u8], args: &EditArgs, shown: &str) -> String {
    let mut hint = String::new();
    if read::is_binary(&bytes[..bytes.len().min(read::HEAD_BYTES)]) {
        hint = "; it is a binary file".into();
    } else if let Some(first) = args.old_string.lines().map(str::trim).find(|l| !l.is_empty()) {
        let same = String::from_utf8_lossy(bytes).lines().position(|l| l.trim() == first);
        if let Some(i) = same {
            hint = format!("; line {} is like its first line, so look at spaces, tabs and the lines after it", i + 1);
        }
    }
    format!("`old_string` is not in `{shown}`{hint}; read the file and copy the text exactly, without line numbers")
}
