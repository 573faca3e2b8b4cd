//! The copy of a text that the rules are matched on: what a reader would take it for. It is never stored.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A text beside its fold.
///
/// Folded are case, compatibility forms (NFKC), accents, letters of other scripts that look like Latin ones, and spaces.
/// Lines end in `\n`, whatever ended them.
pub(super) struct Folded<'a> {
    source: &'a str,
    text: String,
    /// For each byte of the fold where in the source its character starts; `None` when the two run in step.
    origins: Option<Vec<usize>>,
}

impl<'a> Folded<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        if source.is_ascii() {
            let mut text = source.to_ascii_lowercase();
            if text.contains('\r') {
                // In step: the first of `\r\n` becomes a space at the line's end.
                text = text.replace("\r\n", " \n").replace('\r', "\n");
            }
            return Self { source, text, origins: None };
        }
        let mut text = String::with_capacity(source.len());
        let mut origins = Vec::with_capacity(source.len());
        let mut chars = source.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\r' if chars.peek().is_some_and(|(_, next)| *next == '\n') => text.push(' '),
                c if c.is_ascii() => text.push(fold_ascii(c)),
                c => fold_other(c, |f| text.push(f)),
            }
            origins.resize(text.len(), at);
        }
        Self { source, text, origins: Some(origins) }
    }

    /// The fold.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The characters of the source that a range of the fold stands for.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        let Some(origins) = &self.origins else { return range };
        let start = origins.get(range.start).copied().unwrap_or(self.source.len());
        let last = range.end.checked_sub(1).and_then(|last| origins.get(last)).copied().unwrap_or(start);
        // Marks that folded away belong to the character before them, and so go where it goes.
        let end = origins.get(range.end..).and_then(|after| after.iter().find(|at| **at > last));
        start..end.copied().unwrap_or(self.source.len())
    }

    /// The source of a range of the fold.
    pub(super) fn original(&self, range: Range<usize>) -> &str {
        self.source.get(self.origin(range)).unwrap_or_default()
    }
}

/// The text as a fold, for patterns.
pub(super) fn fold(text: &str) -> String {
    Folded::new(text).text
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
