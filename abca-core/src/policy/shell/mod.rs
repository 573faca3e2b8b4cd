//! A command line as structure: the simple commands in it, whatever wraps them.
//!
//! [`analyse`] takes the text that a shell would get and answers a flat list of [`Simple`] commands: those of lists,
//! pipelines, loops, conditions, functions, substitutions and here-documents, and those that other commands run: `sh -c`,
//! `eval`, `env`, `sudo`, `xargs`, `find -exec`, `git -c alias.x=!…`, and so on. Control flow is not followed: whatever
//! stands in the text counts as run. A value that is not known by the letters is marked so; nothing is guessed.
//!
//! It never panics, never calls itself deeper than [`Limits::depth`], and its work is bounded by [`Limits::steps`]: what
//! does not fit, or what it does not understand, is a [`Problem`], and the text counts as not parsed.
//!
//! # Why a parser of our own
//!
//! Three crates were tried on hostile input (`docs/src/policy.md` has the table):
//!
//! * `brush-parser` 0.4: takes time that doubles with each `(` that nobody closes (40 of them: minutes) and with nested
//!   `case`; ten thousand `$(` overflow the stack.
//! * `yash-syntax` 0.21: does not know `[[`; overflows the stack on ten thousand `(`; GPL.
//! * `tree-sitter-bash` 0.25: total and fast, but two here-documents on one line are an error; it repairs what it does not
//!   understand instead of refusing it, and is a megabyte of generated C in a core that has none.
//!
//! What a guard needs is less than what a shell needs: no tree, no positions, no evaluation, and a refusal wherever there
//! is doubt. The tests compare it with the real `bash`.

mod cursor;
mod expand;
mod parse;
mod unwrap;
mod word;

use std::fmt;

pub use unwrap::analyse;
pub(in crate::policy) use unwrap::join;

/// What bounds the analysis of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes.
    pub bytes: usize,
    /// Deepest nesting of substitutions, quotes and wrappers.
    pub depth: usize,
    /// Most simple commands.
    pub commands: usize,
    /// Most work: bytes walked over and words made, nested texts included.
    pub steps: usize,
}

impl Default for Limits {
    /// 128 KiB, 24 deep, 2 000 commands, a million steps.
    fn default() -> Self {
        Self { bytes: 128 * 1024, depth: 24, commands: 2_000, steps: 1_000_000 }
    }
}

/// Why a text, or a part of it, is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// It is over [`Limits::bytes`] or [`Limits::steps`].
    TooLong,
    /// It is over [`Limits::depth`].
    TooDeep,
    /// It has more than [`Limits::commands`].
    TooMany,
    /// A quote, a bracket or a keyword has no end.
    Unclosed,
    /// A shell would not take it, or it is beyond what is understood.
    Syntax,
    /// It holds a NUL.
    Nul,
    /// A shell is given a text that is not known: `eval "$x"`, `curl … | sh`, `. file`.
    UnknownScript,
}

impl Problem {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too long",
            Self::TooDeep => "nested too deeply",
            Self::TooMany => "too many commands",
            Self::Unclosed => "something is not closed",
            Self::Syntax => "not understood",
            Self::Nul => "a NUL",
            Self::UnknownScript => "a shell is given a text that is not known",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word of a command, quotes and known expansions resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// The text; where it is not known, `$name` or `$(…)` stands in it.
    pub text: String,
    /// Whether the text is all there is to know.
    pub known: bool,
    /// It holds a wildcard that the shell expands.
    pub glob: bool,
    /// The texts it may be, when it is not known but is one of these: a loop's variable.
    pub alternatives: Vec<String>,
}

impl Word {
    /// A known word.
    pub fn literal(text: impl Into<String>) -> Self {
        Self { text: text.into(), known: true, glob: false, alternatives: Vec::new() }
    }

    /// A word that is not known; `shown` stands for it.
    pub fn unknown(shown: impl Into<String>) -> Self {
        Self { text: shown.into(), known: false, glob: false, alternatives: Vec::new() }
    }

    /// The text, if it is known.
    pub fn get(&self) -> Option<&str> {
        self.known.then_some(self.text.as_str())
    }
}

/// What a redirection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RedirectKind {
    /// `<`.
    Read,
    /// `>`, `>|`, `&>`, `>>`, `<>`.
    Write,
}

/// A redirection to or from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// What it does.
    pub kind: RedirectKind,
    /// The file.
    pub target: Word,
}

/// One simple command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simple {
    /// Variables for it alone, or for the shell when there are no words.
    pub assignments: Vec<(String, Word)>,
    /// The program and its arguments. May be empty: only assignments or redirections.
    pub words: Vec<Word>,
    /// Redirections to and from files.
    pub redirects: Vec<Redirect>,
    /// What a here-document or here-string gives it to read.
    pub stdin: Option<Word>,
    /// What writes into its standard input, as places in [`Script::commands`].
    pub upstream: Vec<usize>,
    /// What it is run by: `sudo`, `xargs`, `sh -c`, outermost first.
    pub via: Vec<&'static str>,
    /// Folders that it may run in: relative to where the text starts, or absolute.
    pub folders: Vec<String>,
    /// It may run in a folder that is not known.
    pub folder_unknown: bool,
    /// Arguments are added to it that are not known: `xargs`, `find -exec`.
    pub more_arguments: bool,
}

impl Simple {
    /// The program's name without its folder, if it is known.
    pub fn program(&self) -> Option<&str> {
        let text = self.words.first()?.get()?;
        Some(text.rsplit('/').next().unwrap_or(text))
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Its normal form on one line: one space between words, quotes only where they are needed.
    pub fn normal_form(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.assignments {
            out.push_str(&format!("{name}={} ", shown(value)));
        }
        for (i, word) in self.words.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            out.push_str(&if i == 0 { self.program().map_or_else(|| shown(word), str::to_owned) } else { shown(word) });
        }
        for redirect in &self.redirects {
            let sign = match redirect.kind {
                RedirectKind::Read => '<',
                RedirectKind::Write => '>',
            };
            out.push_str(&format!(" {sign} {}", shown(&redirect.target)));
        }
        out.trim().to_owned()
    }
}

fn shown(word: &Word) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+,@%^~$*?[]{}()!#".contains(c);
    if word.text.is_empty() || (word.known && !word.text.chars().all(plain)) {
        format!("'{}'", word.text.replace('\'', "'\\''"))
    } else {
        word.text.clone()
    }
}

/// What a text runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Every simple command, in the order in which they stand; what a command runs follows it.
    pub commands: Vec<Simple>,
    /// Why not everything is known. Empty when everything is.
    pub problems: Vec<Problem>,
    /// Names of functions that the text defines.
    pub functions: Vec<String>,
}
