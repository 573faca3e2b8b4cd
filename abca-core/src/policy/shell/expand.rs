//! From words as they are written to words as a program gets them, as far as the letters tell.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::Budget;
use super::parse::{Raw, Role, assignment};
use super::word::{Part, Parts, bare};
use super::{Problem, Word};

/// Most words that braces may make of one.
const BRACE_WORDS: usize = 64;
/// Most values of a loop's variable that are looked at.
const LOOP_VALUES: usize = 32;

/// Commands of the shell's own that may give any variable any value.
const RUNS_TEXT: [&str; 7] = ["eval", "source", ".", "builtin", "command", "trap", "alias"];
/// Those that give a value to the variables they name.
const ASSIGNS: [&str; 13] = [
    "read",
    "mapfile",
    "readarray",
    "unset",
    "printf",
    "getopts",
    "let",
    "declare",
    "local",
    "typeset",
    "readonly",
    "export",
    "wait",
];

/// Whether a program may assign variables.
pub(super) fn assigns(program: &str) -> bool {
    RUNS_TEXT.contains(&program) || ASSIGNS.contains(&program)
}

/// What a variable holds.
#[derive(Debug, Clone)]
enum Value {
    Known(String),
    OneOf(Vec<Word>),
}

/// Variables of a text.
#[derive(Debug, Default)]
pub(super) struct Variables {
    values: BTreeMap<String, Value>,
    /// May hold anything.
    open: BTreeSet<String>,
    /// Any may hold anything: the text runs text.
    all_open: bool,
    /// A function may stand for any program.
    functions: bool,
}

impl Variables {
    /// Which variables of a text can be known: those that are assigned once, for sure, from a known text.
    pub(super) fn of(raws: &[Raw], touched: &[String], functions: bool, all_open: bool) -> Self {
        let mut this = Self { functions, all_open, open: touched.iter().cloned().collect(), ..Self::default() };
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for raw in raws {
            if let Role::Loop(name) = &raw.role {
                this.assigned(name, &mut seen, true);
                continue;
            }
            for (name, _, replaces) in &raw.assignments {
                let lasts = raw.words.is_empty();
                this.assigned(name, &mut seen, lasts && raw.sure && *replaces);
            }
            let Some(program) = raw.words.first() else { continue };
            let rest = raw.words.get(1..).unwrap_or_default();
            match bare(program) {
                Some(program) if RUNS_TEXT.contains(&program) => this.all_open = true,
                Some(program) if ASSIGNS.contains(&program) => {
                    for word in rest {
                        this.named(word, raw.sure, &mut seen);
                    }
                }
                Some(_) | None => {}
            }
        }
        this
    }

    fn assigned(&mut self, name: &str, seen: &mut BTreeSet<String>, sure: bool) {
        if !seen.insert(name.to_owned()) || !sure {
            self.open.insert(name.to_owned());
        }
    }

    /// An argument of a command that assigns.
    fn named(&mut self, word: &Parts, sure: bool, seen: &mut BTreeSet<String>) {
        match (assignment(word), bare(word)) {
            (Some((name, _, replaces)), _) => self.assigned(&name, seen, sure && replaces),
            (None, Some(text)) => {
                let name = text.split(['[', '=', '+', '-']).next().unwrap_or_default();
                self.open.insert(name.to_owned());
            }
            // `read "$x"`: any name.
            (None, None) => self.all_open = true,
        }
    }

    fn value(&self, name: &str) -> Option<Value> {
        if self.all_open || self.open.contains(name) {
            return None;
        }
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        let default = match name {
            "HOME" => "~",
            "PWD" => ".",
            "TMPDIR" => "/tmp",
            "IFS" => " \t\n",
            _ => return None,
        };
        Some(Value::Known(default.to_owned()))
    }

    /// Whether words are split as they are by default.
    fn splits_plainly(&self) -> bool {
        !self.all_open && !self.open.contains("IFS") && !self.values.contains_key("IFS")
    }

    /// Takes over what a command assigns.
    pub(super) fn learn(&mut self, raw: &Raw, resolved: &[(String, Word)], words: &[Word]) {
        if let Role::Loop(name) = &raw.role {
            if words.len() <= LOOP_VALUES && words.iter().all(|w| w.known) {
                self.values.insert(name.clone(), Value::OneOf(words.to_vec()));
            } else {
                self.open.insert(name.clone());
            }
            return;
        }
        if raw.words.is_empty() {
            for (name, word) in resolved {
                self.set(name, word);
            }
        } else if let Some("export" | "declare" | "local" | "typeset" | "readonly") = words.first().and_then(Word::get)
        {
            for (written, word) in raw.words.iter().zip(words) {
                if let (Some((name, ..)), Some((_, value))) = (assignment(written), word.text.split_once('=')) {
                    self.set(&name, &Word { text: value.to_owned(), ..word.clone() });
                }
            }
        }
    }

    fn set(&mut self, name: &str, word: &Word) {
        if word.known && !word.glob {
            self.values.insert(name.to_owned(), Value::Known(word.text.clone()));
        } else {
            self.open.insert(name.to_owned());
        }
    }

    // -- words ----------------------------------------------------------------------------------------------------

    /// The words that one becomes.
    pub(super) fn words(&self, parts: &Parts, raws: &[Raw], budget: &mut Budget) -> Result<Vec<Word>, Problem> {
        let mut out = Vec::new();
        for parts in braces(parts, budget)? {
            budget.pay(parts.len().saturating_add(1))?;
            self.fields(&parts, raws, true, &mut out);
        }
        Ok(out)
    }

    /// One word, whatever is in it: a value, a file of a redirection.
    pub(super) fn one(&self, parts: &Parts, raws: &[Raw]) -> Word {
        let mut out = Vec::new();
        self.fields(parts, raws, false, &mut out);
        match out.len() {
            0 => Word::literal(""),
            1 => out.pop().unwrap_or_default(),
            // An unquoted value with spaces: several words where one must be.
            _ => Word::unknown(out.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")),
        }
    }

    fn fields(&self, parts: &Parts, raws: &[Raw], split: bool, out: &mut Vec<Word>) {
        let mut now: Option<Word> = None;
        for part in parts {
            let word = now.get_or_insert_with(|| Word::literal(""));
            match part {
                Part::Text { text, .. } => append(word, text),
                Part::Wild(c) => {
                    append(word, c.encode_utf8(&mut [0; 4]));
                    word.glob |= matches!(c, '*' | '?' | '[');
                }
                Part::Brace(c) => append(word, c.encode_utf8(&mut [0; 4])),
                Part::Home => append(word, "~"),
                Part::Unknown { .. } => spoil(word, "$…"),
                Part::Process { .. } => spoil(word, "/dev/fd/…"),
                Part::Commands { from, to, .. } => match self.told(raws, *from, *to) {
                    Some(text) => append(word, text),
                    None => spoil(word, "$(…)"),
                },
                Part::Var { name, quoted } => match self.value(name) {
                    None => spoil(word, &format!("${name}")),
                    Some(Value::Known(text)) if *quoted || !split || !text.contains([' ', '\t', '\n']) => {
                        append(word, &text);
                        word.glob |= !quoted && text.contains(['*', '?', '[']);
                    }
                    Some(Value::Known(_)) if !self.splits_plainly() => spoil(word, &format!("${name}")),
                    Some(Value::Known(text)) => {
                        // The first piece belongs to what stands before, the last to what comes.
                        let mut pieces = text.split([' ', '\t', '\n']);
                        if let Some(piece) = pieces.next() {
                            append(word, piece);
                        }
                        for piece in pieces {
                            if let Some(done) = now.take().filter(|w| !w.text.is_empty() || !w.known) {
                                out.push(done);
                            }
                            now = Some(Word { glob: piece.contains(['*', '?', '[']), ..Word::literal(piece) });
                        }
                    }
                    Some(Value::OneOf(values)) => one_of(word, name, &values),
                },
            }
        }
        // An unquoted expansion to nothing is no word at all.
        let empty_is_word = parts.iter().any(|p| matches!(p, Part::Text { .. }));
        out.extend(now.filter(|w| empty_is_word || !w.known || !w.text.is_empty()));
    }

    /// What a few harmless commands are known to print.
    fn told(&self, raws: &[Raw], from: usize, to: usize) -> Option<&'static str> {
        if self.functions || self.all_open || to.saturating_sub(from) != 1 {
            return None;
        }
        let raw = raws.get(from)?;
        if !raw.redirects.is_empty() || !raw.assignments.is_empty() || raw.role != Role::Command {
            return None;
        }
        let words: Option<Vec<&str>> = raw.words.iter().map(bare).collect();
        match words?.as_slice() {
            ["pwd"] | ["git", "rev-parse", "--show-toplevel"] => Some("."),
            ["mktemp"] | ["mktemp", "-d"] => Some("/tmp/mktemp"),
            _ => None,
        }
    }
}

fn append(word: &mut Word, text: &str) {
    word.text.push_str(text);
    for one in &mut word.alternatives {
        one.push_str(text);
    }
}

fn spoil(word: &mut Word, shown: &str) {
    word.text.push_str(shown);
    word.known = false;
    word.alternatives.clear();
}

fn one_of(word: &mut Word, name: &str, values: &[Word]) {
    let before = word.text.clone();
    if word.known {
        word.alternatives = values.iter().map(|v| format!("{before}{}", v.text)).collect();
    } else {
        word.alternatives.clear();
    }
    word.glob |= values.iter().any(|v| v.glob);
    word.text.push('$');
    word.text.push_str(name);
    word.known = false;
}

/// `{a,b}`: the words that braces make. `{a..b}` is not computed.
fn braces(parts: &Parts, budget: &mut Budget) -> Result<Vec<Parts>, Problem> {
    let mut done = Vec::new();
    let mut todo = vec![(parts.clone(), 0_usize)];
    while let Some((parts, from)) = todo.pop() {
        budget.pay(parts.len())?;
        if done.len().saturating_add(todo.len()) > BRACE_WORDS {
            return Err(Problem::TooMany);
        }
        let Some((open, commas, close)) = brace(&parts, from) else {
            done.push(parts);
            continue;
        };
        let head = parts.get(..open).unwrap_or_default();
        let tail = parts.get(close.saturating_add(1)..).unwrap_or_default();
        if commas.is_empty() {
            let inner = parts.get(open.saturating_add(1)..close).unwrap_or_default();
            let range = inner.iter().any(|p| matches!(p, Part::Text { text, quoted: false } if text.contains("..")));
            // bash may take a later `}` for the one that closes.
            let later = tail.contains(&Part::Brace(',')) && tail.contains(&Part::Brace('}'));
            if range || later {
                let mut word: Parts = head.to_vec();
                word.push(Part::Unknown { quoted: true });
                word.extend_from_slice(tail);
                todo.push((word, open));
            } else {
                todo.push((parts.clone(), open.saturating_add(1)));
            }
            continue;
        }
        let mut begin = open.saturating_add(1);
        let mut made = Vec::new();
        for end in commas.into_iter().chain([close]) {
            let mut word: Parts = head.to_vec();
            word.extend_from_slice(parts.get(begin..end).unwrap_or_default());
            word.extend_from_slice(tail);
            made.push((word, open));
            begin = end.saturating_add(1);
        }
        // The first is to come out first.
        todo.extend(made.into_iter().rev());
    }
    Ok(done)
}

/// The first brace that closes, from a place on: where it opens, its commas, where it closes.
fn brace(parts: &Parts, from: usize) -> Option<(usize, Vec<usize>, usize)> {
    let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut found: Option<(usize, Vec<usize>, usize)> = None;
    for (i, part) in parts.iter().enumerate().skip(from) {
        match part {
            Part::Brace('{') => stack.push((i, Vec::new())),
            Part::Brace(',') => {
                if let Some((_, commas)) = stack.last_mut() {
                    commas.push(i);
                }
            }
            Part::Brace('}') => {
                if let Some((open, commas)) = stack.pop()
                    && found.as_ref().is_none_or(|(first, ..)| open < *first)
                {
                    found = Some((open, commas, i));
                    if stack.is_empty() {
                        break;
                    }
                }
            }
            Part::Brace(_)
            | Part::Text { .. }
            | Part::Wild(_)
            | Part::Home
            | Part::Var { .. }
            | Part::Commands { .. }
            | Part::Process { .. }
            | Part::Unknown { .. } => {}
        }
    }
    found
}
