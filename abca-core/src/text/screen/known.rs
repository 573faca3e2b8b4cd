//! Values that the platform handed out, in every form in which a tool may print them.

use secrecy::{ExposeSecret, SecretString};

use super::base64;

/// A value of fewer bytes is not looked for: it would be found everywhere.
pub(super) const MIN_KNOWN_BYTES: usize = 8;
/// A line of a value of many lines is looked for by itself when it is this long.
const MIN_LINE_BYTES: usize = 20;
/// Most bytes that one byte of a value becomes (`\u0061`).
const WIDEST: usize = 6;
/// Longest anchor.
const ANCHOR_BYTES: usize = 12;
/// An anchor of letters and digits is looked for among the first bytes, so that little has to be held back.
const NEAR_BYTES: usize = 48;

/// A form of a value: how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is, or escaped byte by byte in any way: percent, backslash, `\x61`, `\u0061`, HTML entities.
    Plain,
    /// Hexadecimal digits of either case, line breaks between them.
    Hex,
    /// Base64 digits, line breaks between them; `extends` when a digit before holds bits of it too.
    Base64 { extends: bool },
}

/// A form with its anchor: where the anchor stands, the form may stand.
pub(super) struct Anchor {
    value: SecretString,
    form: Form,
    /// The anchor's place in the value.
    at: usize,
    anchor: SecretString,
}

impl Anchor {
    /// What to look for, in any case.
    pub(super) fn text(&self) -> &str {
        self.anchor.expose_secret()
    }

    /// Most bytes from the anchor to either end.
    pub(super) fn span(&self) -> usize {
        let len = self.value.expose_secret().len();
        match self.form {
            Form::Plain => len.saturating_mul(WIDEST),
            // Lines of sixteen digits and more.
            Form::Hex | Form::Base64 { .. } => len.saturating_add(len / 4).saturating_add(8),
        }
    }

    /// The range of the whole form around an anchor that was found.
    pub(super) fn around(&self, text: &[u8], found: usize) -> Option<(usize, usize)> {
        let value = self.value.expose_secret().as_bytes();
        let (before, after) = value.split_at_checked(self.at)?;
        match self.form {
            Form::Plain => {
                let exact = |start: usize| text.get(start..)?.starts_with(value).then_some(start);
                if let Some(start) = found.checked_sub(self.at).and_then(exact) {
                    return Some((start, start.saturating_add(value.len())));
                }
                let end = after.iter().try_fold(found, |at, byte| forward(text, at, *byte))?;
                let start = before.iter().rev().try_fold(found, |at, byte| backward(text, at, *byte))?;
                Some((start, end))
            }
            Form::Hex => digits(text, found, before, after, |a, b| a.eq_ignore_ascii_case(&b)),
            Form::Base64 { extends } => {
                let (mut start, mut end) = digits(text, found, before, after, |a, b| a == b)?;
                let is_digit = |at: usize| text.get(at).is_some_and(|b| base64::is_digit(*b));
                if extends && start.checked_sub(1).is_some_and(is_digit) {
                    start = start.saturating_sub(1);
                }
                if is_digit(end) {
                    end = end.saturating_add(1);
                }
                Some((start, end))
            }
        }
    }
}

/// The anchors of all forms of a value. None when it is too short.
pub(super) fn anchors(value: &SecretString) -> Vec<Anchor> {
    let mut out = Vec::new();
    let whole = value.expose_secret().trim_matches(['\r', '\n']);
    add(whole, &mut out);
    if whole.contains('\n') {
        let lines = whole.lines().map(str::trim);
        lines.filter(|l| l.len() >= MIN_LINE_BYTES && !l.starts_with("-----")).for_each(|line| add(line, &mut out));
    }
    out
}

fn add(value: &str, out: &mut Vec<Anchor>) {
    if value.len() < MIN_KNOWN_BYTES {
        return;
    }
    let mut push = |value: &str, form: Form, at: usize, anchor: &str| {
        let (value, anchor) = (SecretString::from(value), SecretString::from(anchor));
        out.push(Anchor { value, form, at, anchor });
    };
    let (at, plain) = best_anchor(value);
    push(value, Form::Plain, at, plain);
    let first: Vec<u8> = value.bytes().take(4).collect();
    let escaped = |mark: &str| first.iter().map(|b| format!("{mark}{b:02x}")).collect::<String>();
    for mark in ["%", r"\x", r"\u00"] {
        push(value, Form::Plain, 0, &escaped(mark));
    }
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    for (at, anchor) in two_anchors(&hex) {
        push(&hex, Form::Hex, at, anchor);
    }
    for shift in 0..3usize {
        for form in base64::inside(value.as_bytes(), shift).0 {
            for (at, anchor) in two_anchors(&form) {
                push(&form, Form::Base64 { extends: shift > 0 }, at, anchor);
            }
        }
    }
}

/// The longest run of letters and digits near the beginning, else anywhere, else the first characters: escapes leave
/// letters and digits alone.
fn best_anchor(value: &str) -> (usize, &str) {
    let mut near: Option<(usize, &str)> = None;
    let mut best: (usize, &str) = (0, "");
    let mut from = 0usize;
    for run in value.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = run.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if word.len() > best.1.len() {
            best = (from, word);
        }
        if from < NEAR_BYTES && near.is_none_or(|(_, n)| word.len() > n.len()) {
            near = Some((from, word));
        }
        from = from.saturating_add(run.len());
    }
    let chosen = near.filter(|(_, n)| n.len() >= 6).unwrap_or(best);
    if chosen.1.len() >= 4 {
        return (chosen.0, chosen.1.get(..ANCHOR_BYTES).unwrap_or(chosen.1));
    }
    let end = value.char_indices().map(|(at, _)| at).take_while(|at| *at <= 4).last().unwrap_or(0);
    (0, value.get(..end).filter(|a| !a.is_empty()).unwrap_or(value))
}

/// Two places to find digits by: a line break can stand in one of them only.
fn two_anchors(form: &str) -> Vec<(usize, &str)> {
    let first = form.get(..ANCHOR_BYTES).unwrap_or(form);
    let second = form.get(ANCHOR_BYTES..ANCHOR_BYTES.saturating_mul(2)).map(|second| (ANCHOR_BYTES, second));
    std::iter::once((0, first)).chain(second).filter(|(_, anchor)| !anchor.is_empty()).collect()
}

/// Compares digits around a place, line breaks between them left out.
fn digits(
    text: &[u8],
    found: usize,
    before: &[u8],
    after: &[u8],
    same: impl Fn(u8, u8) -> bool,
) -> Option<(usize, usize)> {
    let is_break = |b: &u8| matches!(b, b'\n' | b'\r');
    let mut end = found;
    for digit in after {
        while end > found && text.get(end).is_some_and(is_break) {
            end = end.saturating_add(1);
        }
        text.get(end).filter(|b| same(**b, *digit))?;
        end = end.saturating_add(1);
    }
    let mut start = found;
    for digit in before.iter().rev() {
        let mut at = start.checked_sub(1)?;
        while text.get(at).is_some_and(is_break) {
            at = at.checked_sub(1)?;
        }
        text.get(at).filter(|b| same(**b, *digit))?;
        start = at;
    }
    Some((start, end))
}

/// Where a byte of the value ends that begins here, escaped or not.
fn forward(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let rest = text.get(at..)?;
    let len = forms(byte, |form| same(rest.get(..form.len())?, form).then_some(form.len()))?;
    Some(at.saturating_add(len))
}

/// Where a byte of the value begins that ends here.
fn backward(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let before = text.get(..at)?;
    forms(byte, |form| {
        let start = at.checked_sub(form.len())?;
        same(before.get(start..)?, form).then_some(start)
    })
}

/// The forms of a byte, the longest first, until one fits.
fn forms<T>(byte: u8, fits: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let entity: &[&str] = match byte {
        b'&' => &["&amp;", r"\u0026"],
        b'<' => &["&lt;"],
        b'>' => &["&gt;"],
        b'"' => &["&quot;", "&#34;"],
        b'\'' => &["&#39;", "&apos;"],
        b'\n' => &[r"\r\n", r"\n"],
        b'\r' => &[r"\r"],
        b'\t' => &[r"\t"],
        b' ' => &["+"],
        _ => &[],
    };
    let unicode = format!(r"\u00{byte:02x}");
    let hex = format!(r"\x{byte:02x}");
    let percent = format!("%{byte:02x}");
    let backslash = [b'\\', byte];
    let long = [unicode.as_bytes(), hex.as_bytes(), percent.as_bytes()];
    long.into_iter()
        .chain(entity.iter().map(|e| e.as_bytes()))
        .chain((!byte.is_ascii_alphanumeric()).then_some(backslash.as_slice()))
        .find_map(&fits)
        .or_else(|| fits(&[byte]))
}

/// Equal, but for the case of an escape's digits.
fn same(text: &[u8], form: &[u8]) -> bool {
    if form.len() == 1 { text == form } else { text.eq_ignore_ascii_case(form) }
}
