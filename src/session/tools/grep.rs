//! `Grep`: regular expressions over files, line by line, in bounded memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use globset::GlobMatcher;
use ignore::types::{Types, TypesBuilder};
use regex::bytes::{Regex, RegexBuilder};
use tokio_util::sync::CancellationToken;

use super::path::Place;
use super::request::{GrepArgs, GrepMode};
use super::run::Made;
use super::{MAX_RESULT_CHARS, read, text, walk};

/// How much of a line is searched.
const LINE_BYTES: usize = 1 << 20;
/// How much of a line is shown, in characters.
const SHOWN_CHARS: usize = 500;
/// Largest file that is searched across lines.
const MULTILINE_BYTES: u64 = 16 << 20;
/// Largest compiled expression.
const REGEX_BYTES: usize = 10 << 20;

pub(super) fn run(place: &Place, args: &GrepArgs, cancel: &CancellationToken) -> Result<Made, String> {
    let regex = RegexBuilder::new(&args.pattern)
        .case_insensitive(args.ignore_case)
        .multi_line(true)
        .dot_matches_new_line(args.multiline)
        .size_limit(REGEX_BYTES)
        .build()
        .map_err(|e| format!("`pattern` is not a valid regular expression: {e}"))?;
    let base = place.existing(args.path.as_deref().unwrap_or("."))?;
    let filter = args.glob.as_deref().map(Filter::new).transpose()?;
    let types = args.file_type.as_deref().map(types).transpose()?;
    let mut search = Search { place, args, regex, found: Found::new(args), too_large: 0, buffer: Vec::new() };
    let mut whole = true;
    if base.is_dir() {
        whole = walk::files(&base, true, types, cancel, |path| {
            let wanted = filter.as_ref().is_none_or(|f| f.takes(path.strip_prefix(&base).unwrap_or(&path)));
            !wanted || search.file(&path, cancel)
        })?;
    } else {
        let (file, _) = place.open_regular(&base)?;
        drop(file);
        search.file(&base, cancel);
    }
    if cancel.is_cancelled() {
        return Err("the call was cancelled".into());
    }
    let Search { found, too_large, .. } = search;
    let mut out = found.render(args);
    if too_large > 0 {
        out.push_str(&format!(
            "[{too_large} files over {} were not searched, since `multiline` is set]\n",
            text::size(MULTILINE_BYTES)
        ));
    }
    if !whole {
        out.push_str("[the folder is too large to be searched whole; narrow the path]\n");
    }
    Ok(out.into())
}

/// A glob over names, or over paths when it has a `/`; `!` in front turns it round.
struct Filter {
    glob: GlobMatcher,
    on_path: bool,
    not: bool,
}

impl Filter {
    fn new(pattern: &str) -> Result<Self, String> {
        let (not, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |p| (true, p));
        let pattern = pattern.strip_prefix("./").or(pattern.strip_prefix('/')).unwrap_or(pattern);
        Ok(Self { glob: walk::glob(pattern)?, on_path: pattern.contains('/'), not })
    }

    fn takes(&self, path: &Path) -> bool {
        let matches = if self.on_path {
            self.glob.is_match(path)
        } else {
            path.file_name().is_some_and(|name| self.glob.is_match(name))
        };
        matches != self.not
    }
}

fn types(name: &str) -> Result<Types, String> {
    let mut builder = TypesBuilder::new();
    builder.add_defaults().select(name);
    builder.build().map_err(|_| {
        format!("there is no file type {}; use e.g. rust, py, js, ts, go, java, md, or `glob`", text::quoted(name, 100))
    })
}

struct Search<'a> {
    place: &'a Place,
    args: &'a GrepArgs,
    regex: Regex,
    found: Found,
    too_large: u64,
    buffer: Vec<u8>,
}

impl Search<'_> {
    /// Answers whether to go on with the next one. What cannot be read is passed over.
    fn file(&mut self, path: &Path, cancel: &CancellationToken) -> bool {
        let Ok((mut file, meta)) = self.place.open_regular(path) else { return true };
        let Ok(head) = read::head(&mut file) else { return true };
        if read::is_binary(&head) || file.rewind().is_err() {
            return true;
        }
        let shown = self.place.show(path);
        let found = if self.args.multiline {
            if meta.len() > MULTILINE_BYTES {
                self.too_large += 1;
                return true;
            }
            self.buffer.clear();
            if file.take(MULTILINE_BYTES).read_to_end(&mut self.buffer).is_err() {
                return true;
            }
            self.across_lines(&shown)
        } else {
            self.by_line(file, &shown, cancel)
        };
        if found > 0 {
            match self.args.mode {
                GrepMode::Content => {}
                GrepMode::FilesWithMatches => self.found.add(shown),
                GrepMode::Count => self.found.add(format!("{shown}:{found}")),
            }
        }
        !self.found.full && !cancel.is_cancelled()
    }

    /// Answers how many lines match.
    fn by_line(&mut self, file: File, shown: &str, cancel: &CancellationToken) -> u64 {
        let mut from = BufReader::with_capacity(64 << 10, file);
        let mut lines = Lines::new(self.args, shown);
        let mut number = 0u64;
        let mut count = 0;
        loop {
            self.buffer.clear();
            let Ok(Some(_)) = read::next_line(&mut from, &mut self.buffer, LINE_BYTES) else { return count };
            number += 1;
            let line = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
            let hit = self.regex.is_match(line);
            count += u64::from(hit);
            if self.args.mode == GrepMode::Content {
                lines.line(number, line, hit, &mut self.found);
            }
            let enough = self.found.full || (count > 0 && self.args.mode == GrepMode::FilesWithMatches);
            if enough || (number.is_multiple_of(1_024) && cancel.is_cancelled()) {
                return count;
            }
        }
    }

    fn across_lines(&mut self, shown: &str) -> u64 {
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let mut hits = Vec::new();
        // Ranges of byte offsets, in order.
        for m in self.regex.find_iter(bytes) {
            hits.push(m.range());
            if self.args.mode == GrepMode::FilesWithMatches {
                return 1;
            }
        }
        let mut lines = Lines::new(self.args, shown);
        let (mut at, mut next, mut count) = (0, 0, 0);
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let end = at + line.len();
            while hits.get(next).is_some_and(|h| h.end.max(h.start + 1) <= at) {
                next += 1;
            }
            let hit = hits.get(next).is_some_and(|h| h.start <= end && (h.end > at || h.start == h.end));
            count += u64::from(hit);
            if self.args.mode == GrepMode::Content {
                lines.line(i as u64 + 1, line.strip_suffix(b"\r").unwrap_or(line), hit, &mut self.found);
            }
            if self.found.full {
                break;
            }
            at = end + 1;
        }
        count
    }
}

/// Lines of one file with those around them.
struct Lines<'a> {
    args: &'a GrepArgs,
    shown: &'a str,
    before: VecDeque<(u64, String)>,
    after: u64,
    last: Option<u64>,
}

impl<'a> Lines<'a> {
    fn new(args: &'a GrepArgs, shown: &'a str) -> Self {
        Self { args, shown, before: VecDeque::new(), after: 0, last: None }
    }

    fn line(&mut self, number: u64, line: &[u8], hit: bool, found: &mut Found) {
        if hit {
            let first = self.before.front().map_or(number, |(n, _)| *n);
            let context = self.args.before + self.args.after > 0;
            if context && (self.last.is_some_and(|l| l + 1 < first) || (self.last.is_none() && found.any)) {
                found.add("--".into());
            }
            for (n, text) in std::mem::take(&mut self.before) {
                found.add(self.render(n, '-', &text));
            }
            found.add(self.render(number, ':', &shown_line(line)));
            self.after = self.args.after;
        } else if self.after > 0 {
            self.after -= 1;
            found.add(self.render(number, '-', &shown_line(line)));
        } else {
            if self.args.before > 0 {
                if self.before.len() as u64 == self.args.before {
                    self.before.pop_front();
                }
                self.before.push_back((number, shown_line(line)));
            }
            return;
        }
        self.last = Some(number);
    }

    fn render(&self, number: u64, sign: char, line: &str) -> String {
        if self.args.line_numbers {
            format!("{}{sign}{number}{sign}{line}", self.shown)
        } else {
            format!("{}{sign}{line}", self.shown)
        }
    }
}

fn shown_line(line: &[u8]) -> String {
    let mut s = text::printable(&String::from_utf8_lossy(&line[..line.len().min(SHOWN_CHARS * 4 + 4)]));
    if let Some((at, _)) = s.char_indices().nth(SHOWN_CHARS) {
        s.truncate(at);
        s.push_str(" [... line cut]");
    }
    s
}

/// What is to be shown, up to the limits.
struct Found {
    out: String,
    skip: u64,
    room: u64,
    any: bool,
    shown: u64,
    full: bool,
}

impl Found {
    fn new(args: &GrepArgs) -> Self {
        let room = if args.head_limit == 0 { u64::MAX } else { args.head_limit };
        Self { out: String::new(), skip: args.offset, room, any: false, shown: 0, full: false }
    }

    fn add(&mut self, entry: String) {
        self.any = true;
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        if self.full {
            return;
        }
        if self.shown == self.room || self.out.len() + entry.len() > MAX_RESULT_CHARS - 300 {
            self.full = true;
            return;
        }
        self.out.push_str(&entry);
        self.out.push('\n');
        self.shown += 1;
    }

    fn render(self, args: &GrepArgs) -> String {
        let what = if args.mode == GrepMode::Content { "lines" } else { "files" };
        if !self.any {
            return "[no matches]\n".into();
        }
        let mut out = self.out;
        if self.shown == 0 {
            out.push_str(&format!("[there are not more than {} {what}]\n", args.offset));
        }
        if self.full {
            out.push_str(&format!(
                "[{} {what} shown; there are more: go on with offset {}]\n",
                self.shown,
                args.offset + self.shown
            ));
        }
        out
    }
}
