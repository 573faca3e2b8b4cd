//! What a simple command does, as far as its letters tell: what a policy tests.

mod files;
mod git;
mod hosts;
mod programs;

use std::collections::BTreeSet;

use super::shell::{Redirect, RedirectKind, Simple, Word, join};

pub use files::could_be;
pub use git::GitFacts;
pub use hosts::of_url as host_of_url;

/// Most paths of one command that are looked at; more count as not known.
const PATHS: usize = 200;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Its content is read.
    Read,
    /// It is written, made or changed.
    Write,
    /// It goes away.
    Delete,
}

/// A path that a command uses, as it is written; relative ones start at the work tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathUse {
    /// What is done with it.
    pub used: Use,
    /// The path.
    pub path: String,
    /// With everything below it.
    pub recursive: bool,
}

/// What a simple command does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The program without its folder; empty when it is not known.
    pub program: String,
    /// Options, one letter each where they are written together; the value after `=` is left out.
    pub flags: BTreeSet<String>,
    /// The arguments that are no options, where they are known.
    pub arguments: Vec<String>,
    /// Its first argument that is no option: `install` of `npm install`.
    pub subcommand: String,
    /// What it asks of git, when it is git.
    pub git: Option<GitFacts>,
    /// Files, each once.
    pub paths: BTreeSet<PathUse>,
    /// Hosts that are named, lower-case.
    pub hosts: BTreeSet<String>,
    /// What it does is not known: the program, or an argument that decides.
    pub unknown: bool,
    /// It writes or deletes a file whose name is not known.
    pub target_unknown: bool,
    /// It is given code of a language that is not looked into: `python -c`, `perl -e`, `awk` with `system`.
    pub opaque: bool,
    /// It publishes a package, an image or a release.
    pub publishes: bool,
    /// It takes more rights: `sudo`, `su`.
    pub privileged: bool,
    /// It gives a database a statement that drops what is in it.
    pub drops: bool,
}

impl Facts {
    /// Looks at a command. `branch` is the task's own branch.
    pub fn of(simple: &Simple, branch: &str) -> Self {
        let mut facts = Self { unknown: simple.words.first().is_some_and(|w| !w.known), ..Self::default() };
        for Redirect { kind, target } in &simple.redirects {
            let used = match kind {
                RedirectKind::Read => Use::Read,
                RedirectKind::Write => Use::Write,
            };
            facts.path(simple, used, target, false);
        }
        let Some(program) = simple.program() else { return facts };
        facts.program = program.to_owned();
        for word in simple.arguments() {
            flags_of(word, &mut facts.flags);
            if word.known && !word.text.starts_with('-') {
                facts.arguments.push(word.text.clone());
            }
        }
        facts.subcommand = facts.arguments.iter().find(|a| !a.starts_with('+')).cloned().unwrap_or_default();
        if program == "git" {
            let git = GitFacts::of(simple, branch);
            facts.unknown |= git.unknown;
            facts.git = Some(git);
        }
        facts.files(simple);
        facts.programs(simple);
        facts.hosts = hosts::of(simple, facts.git.as_ref());
        facts
    }

    /// Notes a path, in every folder that the command may run in.
    fn path(&mut self, simple: &Simple, used: Use, word: &Word, recursive: bool) {
        let texts: &[String] = if word.known { std::slice::from_ref(&word.text) } else { &word.alternatives };
        let writes = used != Use::Read;
        if texts.is_empty() && writes {
            self.target_unknown = true;
        }
        for text in texts.iter().filter(|t| !t.is_empty()) {
            if writes && simple.folder_unknown && !text.starts_with(['/', '~']) {
                self.target_unknown = true;
            }
            for folder in &simple.folders {
                if self.paths.len() > PATHS {
                    self.target_unknown |= writes;
                    return;
                }
                let path = join(folder, text);
                if word.glob {
                    for one in could_be(&path) {
                        self.paths.insert(PathUse { used, path: one, recursive });
                    }
                }
                self.paths.insert(PathUse { used, path, recursive });
            }
        }
    }
}

/// `-fu` is `-f` and `-u`; `--force=x` is `--force`.
fn flags_of(word: &Word, flags: &mut BTreeSet<String>) {
    if !word.text.starts_with('-') || word.text == "-" || word.text == "--" {
        return;
    }
    let name = word.text.split('=').next().unwrap_or_default();
    if name.starts_with("--") {
        flags.insert(name.to_owned());
        return;
    }
    flags.insert(name.to_owned());
    for letter in name.chars().skip(1).take(16).filter(|c| c.is_ascii_alphanumeric()) {
        flags.insert(format!("-{letter}"));
    }
}
