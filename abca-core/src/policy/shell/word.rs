//! Words, as they are written: parts that are still to be expanded.

use super::Problem;
use super::parse::Parser;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text.
    Text { text: String, quoted: bool },
    /// An unquoted `*`, `?`, `[` or `]`.
    Wild(char),
    /// An unquoted `{`, `,` or `}`.
    Brace(char),
    /// An unquoted `~` that begins a word.
    Home,
    /// `$name` or `${name}`.
    Var { name: String, quoted: bool },
    /// A command substitution, by the commands in it.
    Commands { from: usize, to: usize, quoted: bool },
    /// `<(…)` or `>(…)`, by the commands in it.
    Process { from: usize, to: usize },
    /// Anything else that only a shell knows.
    Unknown { quoted: bool },
}

pub(super) type Parts = Vec<Part>;

/// The text, when the word is one piece of unquoted text: only then it can be a keyword.
pub(super) fn bare(parts: &Parts) -> Option<&str> {
    match parts.as_slice() {
        [Part::Text { text, quoted: false }] => Some(text),
        // `{` and `}` stand alone as keywords; so do `[[` and `]]`, which look like wildcards.
        [Part::Brace('{')] => Some("{"),
        [Part::Brace('}')] => Some("}"),
        [Part::Wild('['), Part::Wild('[')] => Some("[["),
        [Part::Wild(']'), Part::Wild(']')] => Some("]]"),
        _ => None,
    }
}

const fn ends_word(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
}

fn push_text(parts: &mut Parts, c: char, quoted: bool) {
    if let Some(Part::Text { text, quoted: q }) = parts.last_mut()
        && *q == quoted
    {
        text.push(c);
        return;
    }
    parts.push(Part::Text { text: c.to_string(), quoted });
}

/// An empty quoted text still makes a word.
fn push_empty(parts: &mut Parts) {
    parts.push(Part::Text { text: String::new(), quoted: true });
}

impl Parser<'_> {
    /// A word; `None` when none begins here.
    pub(super) fn word(&mut self) -> Result<Option<Parts>, Problem> {
        let mut parts = Parts::new();
        loop {
            self.continuations();
            let Some(c) = self.cur.peek() else { break };
            if ends_word(c) {
                // `<(` and `>(` are words, or parts of one.
                if matches!(c, b'<' | b'>') && self.cur.peek_at(1) == Some(b'(') {
                    self.cur.skip(2);
                    let (from, to) = self.nested_list()?;
                    parts.push(Part::Process { from, to });
                    continue;
                }
                break;
            }
            self.budget.pay(1)?;
            match c {
                b'\'' => {
                    self.cur.skip(1);
                    push_empty(&mut parts);
                    self.single(&mut parts)?;
                }
                b'"' => {
                    self.cur.skip(1);
                    push_empty(&mut parts);
                    self.double(&mut parts)?;
                }
                b'\\' => {
                    self.cur.skip(1);
                    match self.cur.bump() {
                        Some(c) => push_text(&mut parts, c, true),
                        // Versions of bash differ.
                        None => parts.push(Part::Unknown { quoted: true }),
                    }
                }
                b'$' => self.dollar(&mut parts, false)?,
                b'`' => self.backtick(&mut parts, false)?,
                b'*' | b'?' | b'[' | b']' => {
                    self.cur.skip(1);
                    parts.push(Part::Wild(char::from(c)));
                }
                b'{' | b'}' | b',' => {
                    self.cur.skip(1);
                    parts.push(Part::Brace(char::from(c)));
                }
                b'~' if parts.is_empty() || ends_with_equals(&parts) => {
                    self.cur.skip(1);
                    match self.cur.peek() {
                        None | Some(b'/' | b':') => parts.push(Part::Home),
                        Some(c) if ends_word(c) => parts.push(Part::Home),
                        Some(_) => parts.push(Part::Unknown { quoted: true }),
                    }
                }
                _ => match self.cur.bump() {
                    Some(c) => push_text(&mut parts, c, false),
                    None => break,
                },
            }
        }
        Ok((!parts.is_empty()).then_some(parts))
    }

    fn single(&mut self, parts: &mut Parts) -> Result<(), Problem> {
        loop {
            self.budget.pay(1)?;
            match self.cur.bump().ok_or(Problem::Unclosed)? {
                '\'' => return Ok(()),
                c => push_text(parts, c, true),
            }
        }
    }

    fn double(&mut self, parts: &mut Parts) -> Result<(), Problem> {
        loop {
            self.budget.pay(1)?;
            match self.cur.peek().ok_or(Problem::Unclosed)? {
                b'"' => {
                    self.cur.skip(1);
                    return Ok(());
                }
                b'\\' => {
                    self.cur.skip(1);
                    match self.cur.peek().ok_or(Problem::Unclosed)? {
                        b'\n' => self.cur.skip(1),
                        c @ (b'$' | b'`' | b'"' | b'\\') => {
                            self.cur.skip(1);
                            push_text(parts, char::from(c), true);
                        }
                        _ => push_text(parts, '\\', true),
                    }
                }
                b'$' => self.dollar(parts, true)?,
                b'`' => self.backtick(parts, true)?,
                _ => {
                    if let Some(c) = self.cur.bump() {
                        push_text(parts, c, true);
                    }
                }
            }
        }
    }

    /// What begins with `$`.
    pub(super) fn dollar(&mut self, parts: &mut Parts, quoted: bool) -> Result<(), Problem> {
        self.cur.skip(1);
        self.continuations();
        match self.cur.peek() {
            Some(b'(') if self.cur.peek_at(1) == Some(b'(') => {
                let here = self.cur.at();
                self.cur.skip(2);
                if self.arithmetic(b")")? {
                    parts.push(Part::Unknown { quoted });
                } else {
                    // `$( (…) … )`: a subshell in a substitution.
                    self.cur.goto(here);
                    self.cur.skip(1);
                    let (from, to) = self.nested_list()?;
                    parts.push(Part::Commands { from, to, quoted });
                }
            }
            Some(b'(') => {
                self.cur.skip(1);
                let (from, to) = self.nested_list()?;
                parts.push(Part::Commands { from, to, quoted });
            }
            Some(b'[') => {
                self.cur.skip(1);
                if !self.arithmetic(b"]")? {
                    return Err(Problem::Unclosed);
                }
                parts.push(Part::Unknown { quoted });
            }
            Some(b'{') => {
                self.cur.skip(1);
                self.braced(parts, quoted)?;
            }
            Some(b'\'') if !quoted => {
                self.cur.skip(1);
                push_empty(parts);
                self.ansi_c(parts)?;
            }
            Some(b'"') if !quoted => {
                self.cur.skip(1);
                push_empty(parts);
                self.double(parts)?;
            }
            Some(c) if c.is_ascii_alphabetic() || c == b'_' => {
                let name = self.name();
                parts.push(Part::Var { name, quoted });
            }
            Some(c) if c.is_ascii_digit() || b"@*#?-$!".contains(&c) => {
                self.cur.skip(1);
                parts.push(Part::Unknown { quoted });
            }
            Some(_) | None => push_text(parts, '$', true),
        }
        Ok(())
    }

    pub(super) fn name(&mut self) -> String {
        let from = self.cur.at();
        while self.cur.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_') {
            self.cur.skip(1);
        }
        self.cur.slice(from, self.cur.at()).to_owned()
    }

    /// After `${`.
    fn braced(&mut self, parts: &mut Parts, quoted: bool) -> Result<(), Problem> {
        self.budget.deeper()?;
        let name = self.name();
        if !name.is_empty() && self.cur.eat("}") {
            self.budget.back();
            parts.push(Part::Var { name, quoted });
            return Ok(());
        }
        // It may assign, and it is not computed here.
        if !name.is_empty() {
            self.touched.push(name);
        }
        let mut inner = Parts::new();
        loop {
            self.budget.pay(1)?;
            match self.cur.peek().ok_or(Problem::Unclosed)? {
                b'}' => {
                    self.cur.skip(1);
                    break;
                }
                b'\\' => {
                    self.cur.skip(1);
                    self.cur.bump();
                }
                b'\'' if !quoted => {
                    self.cur.skip(1);
                    self.single(&mut inner)?;
                }
                b'"' => {
                    self.cur.skip(1);
                    self.double(&mut inner)?;
                }
                b'$' => self.dollar(&mut inner, quoted)?,
                b'`' => self.backtick(&mut inner, quoted)?,
                _ => {
                    self.cur.bump();
                }
            }
        }
        self.budget.back();
        parts.push(Part::Unknown { quoted });
        Ok(())
    }

    /// After `$((`, `((` or `$[`: to the end of the expression. `false` when it does not end as one.
    pub(super) fn arithmetic(&mut self, close: &[u8]) -> Result<bool, Problem> {
        self.budget.deeper()?;
        let from = self.cur.at();
        let mut open = 0_usize;
        let mut inner = Parts::new();
        let ended = loop {
            self.budget.pay(1)?;
            match self.cur.peek() {
                None => break false,
                Some(b'$') => self.dollar(&mut inner, true)?,
                Some(b'`') => self.backtick(&mut inner, true)?,
                Some(b'\\') => {
                    self.cur.skip(1);
                    self.cur.bump();
                }
                Some(b'\'') => {
                    self.cur.skip(1);
                    self.single(&mut inner)?;
                }
                Some(b'"') => {
                    self.cur.skip(1);
                    self.double(&mut inner)?;
                }
                Some(b'(') => {
                    open = open.saturating_add(1);
                    self.cur.skip(1);
                }
                Some(b')') if open > 0 => {
                    open = open.saturating_sub(1);
                    self.cur.skip(1);
                }
                Some(b')') => {
                    break if close == b")" && self.cur.peek_at(1) == Some(b')') {
                        self.cur.skip(2);
                        true
                    } else {
                        false
                    };
                }
                Some(b']') if close == b"]" => {
                    self.cur.skip(1);
                    break true;
                }
                Some(_) => {
                    self.cur.bump();
                }
            }
        };
        if ended {
            // Any name in it may be assigned to.
            let text = self.cur.slice(from, self.cur.at());
            let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|n| !n.is_empty());
            self.touched.extend(names.map(str::to_owned));
        }
        self.budget.back();
        Ok(ended)
    }

    /// `` `…` ``: its text is unescaped, and parsed as one of its own.
    pub(super) fn backtick(&mut self, parts: &mut Parts, quoted: bool) -> Result<(), Problem> {
        self.cur.skip(1);
        let mut text = String::new();
        loop {
            self.budget.pay(1)?;
            match self.cur.bump().ok_or(Problem::Unclosed)? {
                '`' => break,
                '\\' => match self.cur.bump().ok_or(Problem::Unclosed)? {
                    c @ ('`' | '\\' | '$') => text.push(c),
                    '"' if quoted => text.push('"'),
                    c => {
                        text.push('\\');
                        text.push(c);
                    }
                },
                c => text.push(c),
            }
        }
        let (from, to) = self.nested_text(&text)?;
        parts.push(Part::Commands { from, to, quoted });
        Ok(())
    }

    /// After `$'`.
    fn ansi_c(&mut self, parts: &mut Parts) -> Result<(), Problem> {
        loop {
            self.budget.pay(1)?;
            match self.cur.bump().ok_or(Problem::Unclosed)? {
                '\'' => return Ok(()),
                '\\' => match self.cur.bump().ok_or(Problem::Unclosed)? {
                    'a' => push_text(parts, '\u{7}', true),
                    'b' => push_text(parts, '\u{8}', true),
                    'e' | 'E' => push_text(parts, '\u{1b}', true),
                    'f' => push_text(parts, '\u{c}', true),
                    'n' => push_text(parts, '\n', true),
                    'r' => push_text(parts, '\r', true),
                    't' => push_text(parts, '\t', true),
                    'v' => push_text(parts, '\u{b}', true),
                    'x' => self.code(parts, 16, 2, None)?,
                    'u' => self.code(parts, 16, 4, None)?,
                    'U' => self.code(parts, 16, 8, None)?,
                    'c' => {
                        self.cur.bump();
                        parts.push(Part::Unknown { quoted: true });
                    }
                    c @ '0'..='7' => self.code(parts, 8, 2, c.to_digit(8))?,
                    c @ ('\\' | '\'' | '"' | '?') => push_text(parts, c, true),
                    c => {
                        push_text(parts, '\\', true);
                        push_text(parts, c, true);
                    }
                },
                c => push_text(parts, c, true),
            }
        }
    }

    /// A character by its number. Bytes that make no character by themselves are not put together.
    fn code(&mut self, parts: &mut Parts, radix: u32, most: usize, first: Option<u32>) -> Result<(), Problem> {
        let mut value = first.unwrap_or(0);
        let mut digits = 0_usize;
        while digits < most
            && let Some(d) = self.cur.peek().and_then(|c| char::from(c).to_digit(radix))
        {
            value = value.saturating_mul(radix).saturating_add(d);
            digits = digits.saturating_add(1);
            self.cur.skip(1);
        }
        if first.is_none() && digits == 0 {
            return Err(Problem::Syntax);
        }
        match char::from_u32(value) {
            // A NUL ends the text for bash; what follows would be lost.
            Some('\0') => return Err(Problem::Nul),
            Some(c) if value < 0x80 || most > 2 => push_text(parts, c, true),
            Some(_) | None => parts.push(Part::Unknown { quoted: true }),
        }
        Ok(())
    }
}

fn ends_with_equals(parts: &Parts) -> bool {
    matches!(parts.as_slice(), [Part::Text { text, quoted: false }] if text.ends_with('='))
}
