//! `Read`: a file in pieces, however large it is.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use tokio_util::sync::CancellationToken;

use super::image::{self, Image};
use super::path::Place;
use super::request::ReadArgs;
use super::run::Made;
use super::{MAX_IMAGE_BASE64_BYTES, MAX_RESULT_CHARS, text};

/// Lines of a call when nobody says otherwise.
pub(super) const DEFAULT_LINES: u64 = 2_000;
/// Characters of a line that are shown.
const LINE_CHARS: usize = 2_000;
/// How much is looked at to tell text from binary.
pub(super) const HEAD_BYTES: usize = 8_192;

pub(super) fn run(place: &Place, args: &ReadArgs, cancel: &CancellationToken) -> Result<Made, String> {
    let real = place.existing(&args.file_path)?;
    let (mut file, meta) = place.open_regular(&real)?;
    let shown = place.show(&real);
    let failed = |e: std::io::Error| format!("`{shown}` cannot be read: {e}");
    let head = head(&mut file).map_err(failed)?;
    if head.is_empty() {
        return Ok(format!("[`{shown}` is empty]").into());
    }
    if let Some(media_type) = image::media_type(&head) {
        return picture(&mut file, meta.len(), media_type, &shown);
    }
    if is_binary(&head) {
        let kind = infer::get(&head).map_or("unknown type", |t| t.mime_type());
        return Err(format!("`{shown}` is a binary file ({kind}, {}); it is not shown", text::size(meta.len())));
    }
    file.rewind().map_err(failed)?;
    let page = page(&mut BufReader::with_capacity(64 << 10, file), args, cancel).map_err(failed)?;
    Ok(page.render(args, &shown).into())
}

/// The first bytes of a file.
pub(super) fn head(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// As git and grep judge: a NUL near the beginning.
pub(super) fn is_binary(head: &[u8]) -> bool {
    head.contains(&0)
}

fn picture(file: &mut File, len: u64, media_type: &str, shown: &str) -> Result<Made, String> {
    let too_large = || {
        format!(
            "`{shown}` is an image ({media_type}) of {}, and images may have {} at most ({} as base64); make it smaller first",
            text::size(len),
            text::size(image::MAX_BYTES),
            text::size(MAX_IMAGE_BASE64_BYTES as u64)
        )
    };
    if len > image::MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.take(image::MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("`{shown}` cannot be read: {e}"))?;
    if bytes.len() as u64 > image::MAX_BYTES {
        return Err(too_large());
    }
    Ok(Made {
        text: format!("[`{shown}`: {media_type}, {}]", text::size(len)),
        is_error: false,
        image: Some(Image { media_type: media_type.to_owned(), bytes }),
    })
}

#[derive(Debug, Default)]
struct Page {
    lines: String,
    shown: u64,
    /// Lines before the page, when the file ended before it.
    only: Option<u64>,
    /// Line to go on with.
    next: Option<u64>,
    cut_lines: u64,
    not_utf8: bool,
}

fn page(from: &mut impl BufRead, args: &ReadArgs, cancel: &CancellationToken) -> std::io::Result<Page> {
    let mut page = Page::default();
    let mut room = MAX_RESULT_CHARS - 600;
    let mut number = 0u64;
    // Four bytes a character at most, and some more to know that there is more.
    let mut line = Vec::new();
    loop {
        let skip = number + 1 < args.offset;
        line.clear();
        let Some(len) = next_line(from, &mut line, if skip { 0 } else { LINE_CHARS * 4 + 8 })? else {
            if page.shown == 0 {
                page.only = Some(number);
            }
            return Ok(page);
        };
        number += 1;
        if skip {
            if number.is_multiple_of(4_096) && cancel.is_cancelled() {
                return Err(std::io::Error::other("the call was cancelled"));
            }
            continue;
        }
        if page.shown == args.limit {
            page.next = Some(number);
            return Ok(page);
        }
        let mut bytes = line.strip_suffix(b"\r").unwrap_or(&line);
        if number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        let whole = len == line.len() as u64;
        // The cut may fall amid a character; that is no fault of the file's.
        page.not_utf8 |= whole && std::str::from_utf8(bytes).is_err();
        let mut content = String::from_utf8_lossy(bytes).into_owned();
        if let Some((at, _)) = content.char_indices().nth(LINE_CHARS) {
            content.truncate(at);
            content.push_str(" [... line cut]");
            page.cut_lines += 1;
        }
        let rendered = format!("{number:>6}\t{}\n", content.replace('\0', "\\x00"));
        let chars = rendered.chars().count();
        if chars > room {
            page.next = Some(number);
            return Ok(page);
        }
        room -= chars;
        page.lines.push_str(&rendered);
        page.shown += 1;
    }
}

/// Reads a line without its `\n`, keeps its first `keep` bytes and answers how long it was; `None` at the end.
pub(super) fn next_line(from: &mut impl BufRead, kept: &mut Vec<u8>, keep: usize) -> std::io::Result<Option<u64>> {
    let mut len = 0u64;
    let mut any = false;
    loop {
        let buf = from.fill_buf()?;
        if buf.is_empty() {
            return Ok(any.then_some(len));
        }
        any = true;
        let end = memchr::memchr(b'\n', buf);
        let piece = &buf[..end.unwrap_or(buf.len())];
        kept.extend_from_slice(&piece[..piece.len().min(keep.saturating_sub(kept.len()))]);
        len += piece.len() as u64;
        let used = piece.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(Some(len));
        }
    }
}

impl Page {
    fn render(self, args: &ReadArgs, shown: &str) -> String {
        let mut out = self.lines;
        if let Some(total) = self.only {
            return format!("[`{shown}` has {total} lines; there is no line {}]", args.offset);
        }
        if let Some(next) = self.next {
            out.push_str(&format!("[{} lines shown; there are more: go on with offset {next}]\n", self.shown));
        }
        if self.cut_lines > 0 {
            out.push_str(&format!("[{} lines are longer than {LINE_CHARS} characters and were cut]\n", self.cut_lines));
        }
        if self.not_utf8 {
            out.push_str("[not all of it is UTF-8; other bytes are shown as U+FFFD]\n");
        }
        out
    }
}
