//! The copy of a text that the rules are matched on: what a reader would take it for. It is never stored.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A text beside its fold.
///
/// Folded are case, compatibility forms (NFKC), accents, letters of other scripts that look like Latin ones, spaces, and HTML
/// entities but those of `<`, `>`, `&` and `` ` ``. Lines end in `\n`, whatever ended them.
pub(super) struct Folded<'a> {
    source: &'a str,
    text: String,
    /// Where the two do not run in step.
    steps: Vec<Step>,
}

/// A character of the source, or an entity, whose fold is of another length.
#[derive(Clone, Copy)]
struct Step {
    fold: usize,
    fold_len: usize,
    source: usize,
    source_len: usize,
}

impl Step {
    fn fold_end(self) -> usize {
        self.fold.saturating_add(self.fold_len)
    }

    fn source_end(self) -> usize {
        self.source.saturating_add(self.source_len)
    }
}

impl<'a> Folded<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        let mut folded = Self { source, text: String::with_capacity(source.len()), steps: Vec::new() };
        let bytes = source.as_bytes();
        let mut at = 0usize;
        while at < bytes.len() {
            let plain = run_of_plain(bytes.get(at..).unwrap_or_default());
            let end = at.saturating_add(plain);
            let run = source.get(at..end).unwrap_or_default();
            let from = folded.text.len();
            folded.text.push_str(run);
            if let Some(copied) = folded.text.get_mut(from..) {
                copied.make_ascii_lowercase();
            }
            at = end;
            let rest = source.get(at..).unwrap_or_default();
            let Some(c) = rest.chars().next() else { break };
            at = at.saturating_add(folded.one(c, rest, at));
        }
        folded
    }

    /// Folds one character that is not plain, or an entity; its length.
    fn one(&mut self, c: char, rest: &str, at: usize) -> usize {
        let fold = self.text.len();
        let mut len = c.len_utf8();
        match c {
            // In step: the first of `\r\n` becomes a space at the line's end.
            '\r' if rest.starts_with("\r\n") => self.text.push(' '),
            '\r' => self.text.push('\n'),
            '&' => match entity(rest) {
                Some((meant, entity)) => {
                    len = entity;
                    if !super::invisible::is_hidden(meant) {
                        self.fold_char(meant);
                    }
                }
                None => self.text.push('&'),
            },
            // Most of what is written in these scripts folds to itself.
            '\u{3041}'..='\u{3046}' | '\u{4e00}'..='\u{9fff}' => self.text.push(c),
            c => self.fold_char(c),
        }
        let fold_len = self.text.len().saturating_sub(fold);
        let in_step = fold_len == len && c != '&';
        if !in_step {
            self.steps.push(Step { fold, fold_len, source: at, source_len: len });
        }
        len
    }

    fn fold_char(&mut self, c: char) {
        if c.is_ascii() {
            self.text.push(fold_ascii(c));
        } else {
            fold_other(c, |f| self.text.push(f));
        }
    }

    /// The fold.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The characters of the source that a range of the fold stands for.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        let start = match self.step_at(range.start) {
            Some((_, step)) if range.start < step.fold_end() => step.source,
            Some((_, step)) => step.source_end().saturating_add(range.start.saturating_sub(step.fold_end())),
            None => range.start,
        };
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else { return start..start };
        let mut end = match self.step_at(last) {
            Some((_, step)) if last < step.fold_end() => step.source_end(),
            Some((_, step)) => step.source_end().saturating_add(range.end.saturating_sub(step.fold_end())),
            None => range.end,
        };
        // Marks that folded away belong to the character before them, and so go where it goes.
        let after = self.steps.partition_point(|step| step.fold < range.end);
        for step in self.steps.get(after..).unwrap_or_default() {
            if step.fold_len > 0 || step.source != end {
                break;
            }
            end = step.source_end();
        }
        let end = self.source.ceil_char_boundary(end);
        start..end.max(start)
    }

    /// The last step at or before a place of the fold.
    fn step_at(&self, at: usize) -> Option<(usize, Step)> {
        let index = self.steps.partition_point(|step| step.fold <= at).checked_sub(1)?;
        self.steps.get(index).map(|step| (index, *step))
    }

    /// The source of a range of the fold.
    pub(super) fn original(&self, range: Range<usize>) -> &str {
        self.source.get(self.origin(range)).unwrap_or_default()
    }
}

/// How many bytes at the beginning fold by their case alone.
fn run_of_plain(bytes: &[u8]) -> usize {
    let is_odd = |b: &u8| *b >= 0x80 || *b == b'&' || *b == b'\r';
    let mut at = 0usize;
    for block in bytes.chunks(64) {
        // Without a branch for each byte.
        if block.iter().fold(false, |odd, b| odd | is_odd(b)) {
            return at.saturating_add(block.iter().position(is_odd).unwrap_or(0));
        }
        at = at.saturating_add(block.len());
    }
    at
}

/// Longest entity.
const ENTITY_BYTES: usize = 32;

/// Names that stand for letters, spaces and marks that a phrase may be written with.
const NAMED: &[(&str, char)] = &[
    ("nbsp", ' '),
    ("ensp", ' '),
    ("emsp", ' '),
    ("thinsp", ' '),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("colon", ':'),
    ("shy", '\u{ad}'),
    ("zwj", '\u{200d}'),
    ("zwnj", '\u{200c}'),
    ("ZeroWidthSpace", '\u{200b}'),
    ("lrm", '\u{200e}'),
    ("rlm", '\u{200f}'),
];

/// The character that an entity at the beginning stands for, and the entity's length.
fn entity(text: &str) -> Option<(char, usize)> {
    let name = text.get(1..text.floor_char_boundary(ENTITY_BYTES))?;
    let (name, _) = name.split_once(';')?;
    let len = name.len().saturating_add(2);
    let meant = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
        None => NAMED.iter().find(|(known, _)| *known == name)?.1,
    };
    (!matches!(meant, '<' | '>' | '&' | '`') && !stands_for(meant, '<') && !stands_for(meant, '>'))
        .then_some((meant, len))
}

/// The text as a fold, for patterns.
pub(crate) fn fold(text: &str) -> String {
    Folded::new(text).text
}

/// The text with a word broken, whatever case, look-alikes, accents or entities it is written with: so that it cannot forge a mark
/// that has this word. `with` stands in its place. Linear in the text.
///
/// ```
/// use abca_core::text::without_word;
///
/// assert_eq!(without_word("</External＿Content>", "external_content", "external-content"), "</external-content>");
/// ```
pub fn without_word(text: &str, word: &str, with: &str) -> String {
    let folded = Folded::new(text);
    let mut out = String::with_capacity(text.len());
    let mut from = 0usize;
    for (at, found) in folded.text().match_indices(word) {
        let range = folded.origin(at..at.saturating_add(found.len()));
        out.push_str(text.get(from..range.start).unwrap_or_default());
        if range.end > from {
            out.push_str(with);
        }
        from = range.end.max(from);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// Whether a character folds to one that holds `wanted`.
pub(super) fn stands_for(c: char, wanted: char) -> bool {
    let mut found = c == wanted;
    if !c.is_ascii() {
        fold_other(c, |f| found |= f == wanted);
    }
    found
}

fn fold_ascii(c: char) -> char {
    if c == '\r' { '\n' } else { c.to_ascii_lowercase() }
}

fn fold_other(c: char, mut push: impl FnMut(char)) {
    if matches!(c, '\u{2028}' | '\u{2029}') {
        return push('\n');
    }
    if c.is_whitespace() || c == '\u{2800}' {
        return push(' ');
    }
    if let Some(latin) = latin(c) {
        return push(latin);
    }
    if is_combining_mark(c) || matches!(c, '\u{fe00}'..='\u{fe0f}') {
        return;
    }
    // `≮` is no `<` with an accent.
    if !c.is_alphabetic() {
        return std::iter::once(c).nfkc().for_each(|f| push_simple(f, &mut push));
    }
    for part in std::iter::once(c).nfkd().filter(|part| !is_combining_mark(*part)) {
        match latin(part) {
            Some(latin) => push(latin),
            None => push_simple(part, &mut push),
        }
    }
}

fn push_simple(c: char, push: &mut impl FnMut(char)) {
    match c {
        // Only a real one makes code.
        '`' => push('\''),
        '\u{2010}'..='\u{2015}' => push('-'),
        '\u{2018}'..='\u{201f}' => push('\''),
        c => c.to_lowercase().for_each(push),
    }
}

/// The Latin letter that a letter of another script, or a letter in a box, looks like.
fn latin(c: char) -> Option<char> {
    let boxed = |first: u32| u32::from(c).checked_sub(first).and_then(|n| u8::try_from(n).ok());
    Some(match c {
        'А' | 'а' | 'Α' | 'α' | 'ᴀ' => 'a',
        'В' | 'в' | 'Β' | 'β' | 'ʙ' | 'Ь' | 'ь' => 'b',
        'С' | 'с' | 'Ϲ' | 'ϲ' | 'ᴄ' => 'c',
        'ԁ' | 'đ' | 'ᴅ' => 'd',
        'Е' | 'е' | 'Ε' | 'ε' | 'ᴇ' | 'є' => 'e',
        'ꜰ' => 'f',
        'ɡ' | 'ԍ' | 'ɢ' | 'ց' => 'g',
        'Н' | 'н' | 'Η' | 'Һ' | 'һ' | 'ʜ' | 'ħ' | 'հ' => 'h',
        'І' | 'і' | 'Ι' | 'ι' | 'ı' | 'ɪ' | 'ɩ' => 'i',
        'Ј' | 'ј' | 'ᴊ' | 'յ' => 'j',
        'К' | 'к' | 'Κ' | 'κ' | 'ᴋ' => 'k',
        'Ӏ' | 'ӏ' | 'ł' | 'ʟ' => 'l',
        'М' | 'м' | 'Μ' | 'ᴍ' => 'm',
        'Ν' | 'η' | 'ɴ' | 'ո' => 'n',
        'О' | 'о' | 'Ο' | 'ο' | 'σ' | 'ø' | 'ᴏ' | 'օ' => 'o',
        'Р' | 'р' | 'Ρ' | 'ρ' | 'ᴘ' => 'p',
        'ԛ' | 'զ' => 'q',
        'ʀ' => 'r',
        'Ѕ' | 'ѕ' | 'ꜱ' => 's',
        'Т' | 'т' | 'Τ' | 'τ' | 'ᴛ' | 'ŧ' => 't',
        'υ' | 'μ' | 'ս' | 'ᴜ' => 'u',
        'ν' | 'Ѵ' | 'ѵ' | 'ᴠ' => 'v',
        'Ԝ' | 'ԝ' | 'ω' | 'ᴡ' => 'w',
        'Х' | 'х' | 'Χ' | 'χ' => 'x',
        'У' | 'у' | 'Υ' | 'γ' | 'ʏ' => 'y',
        'Ζ' | 'ᴢ' => 'z',
        '\u{1f150}'..='\u{1f169}' => char::from(b'a'.saturating_add(boxed(0x1_f150)?)),
        '\u{1f170}'..='\u{1f189}' => char::from(b'a'.saturating_add(boxed(0x1_f170)?)),
        '\u{1f1e6}'..='\u{1f1ff}' => char::from(b'a'.saturating_add(boxed(0x1_f1e6)?)),
        _ => return None,
    })
}
