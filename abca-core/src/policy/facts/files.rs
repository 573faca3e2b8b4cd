//! Files that well-known programs read, write and delete.

use super::{Facts, Use};
use crate::policy::lexical;
use crate::policy::shell::{Simple, Word};

/// Files that wildcards are tried on: what the built-in policies guard.
const GUARDED: &[&str] = &[
    ".git",
    ".git/config",
    ".git/hooks/pre-commit",
    ".github",
    ".github/workflows",
    ".github/workflows/ci.yml",
    ".github/workflows/ci.yaml",
    ".github/actions/a/action.yml",
    ".gitlab-ci.yml",
    ".circleci",
    ".circleci/config.yml",
    ".husky",
    "Jenkinsfile",
    ".env",
    ".env.local",
    ".claude",
    ".claude/settings.json",
    ".mcp.json",
    "CLAUDE.md",
    "AGENTS.md",
    ".cursor",
    ".npmrc",
    ".netrc",
    ".ssh",
    ".aws",
];

/// What of the guarded files a path with wildcards may name. `*` crosses no `/`, and no leading dot is matched by a wildcard;
/// `**` stands for any folders, and what follows it matches dots too, as `find` does.
pub fn could_be(path: &str) -> Vec<String> {
    let asked: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    let lead = if path.starts_with('/') { "/" } else { "" };
    let mut found = Vec::new();
    if let Some(at) = asked.iter().position(|p| *p == "**") {
        let before: Vec<&str> = asked.get(..at).unwrap_or_default().to_vec();
        let name = asked.get(at.saturating_add(1)).copied().unwrap_or("*");
        for guarded in GUARDED {
            let parts: Vec<&str> = guarded.split('/').collect();
            if parts.starts_with(&before) && parts.last().is_some_and(|last| part_matches(name, last, true)) {
                found.push(format!("{lead}{guarded}"));
            }
        }
        return found;
    }
    for guarded in GUARDED {
        let parts: Vec<&str> = guarded.split('/').collect();
        for at in 0..=asked.len().saturating_sub(parts.len()) {
            let end = at.saturating_add(parts.len());
            let Some(piece) = asked.get(at..end) else { break };
            let wild = piece.iter().any(|p| p.contains(['*', '?', '[']));
            if wild && piece.iter().zip(&parts).all(|(glob, name)| part_matches(glob, name, false)) {
                let mut whole: Vec<&str> = asked.get(..at).unwrap_or_default().to_vec();
                whole.extend(&parts);
                whole.extend(asked.get(end..).unwrap_or_default());
                found.push(format!("{lead}{}", whole.join("/")));
            }
        }
    }
    found
}

/// One part of a path. A bracket is taken for any character.
fn part_matches(glob: &str, name: &str, dots: bool) -> bool {
    if !dots && name.starts_with('.') && !glob.starts_with('.') {
        return false;
    }
    let mut pattern = Vec::new();
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        if c == '[' {
            for c in chars.by_ref() {
                if c == ']' {
                    break;
                }
            }
            pattern.push('?');
        } else {
            pattern.push(c);
        }
    }
    let name: Vec<char> = name.chars().collect();
    let (mut g, mut t) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    while t < name.len() {
        match (pattern.get(g), name.get(t)) {
            (Some('*'), _) => {
                star = Some((g, t));
                g = g.saturating_add(1);
            }
            (Some(p), Some(c)) if *p == '?' || p == c => {
                g = g.saturating_add(1);
                t = t.saturating_add(1);
            }
            _ => match star {
                Some((at, reach)) => {
                    star = Some((at, reach.saturating_add(1)));
                    g = at.saturating_add(1);
                    t = reach.saturating_add(1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(g).all(|c| *c == '*')
}

/// Arguments that are no options, with options' values left out.
fn plain<'a>(args: &'a [Word], with_value: &[&str]) -> Vec<&'a Word> {
    let mut out = Vec::new();
    let mut args = args.iter();
    let mut only_plain = false;
    while let Some(word) = args.next() {
        if only_plain || !word.text.starts_with('-') || word.text == "-" {
            out.push(word);
        } else if word.text == "--" {
            only_plain = true;
        } else if with_value.contains(&word.text.as_str()) {
            args.next();
        }
    }
    out
}

/// The value of an option, written apart or together.
fn value(args: &[Word], names: &[&str]) -> Option<Word> {
    for (i, word) in args.iter().enumerate() {
        for name in names {
            if word.text == *name {
                return args.get(i.saturating_add(1)).cloned();
            }
            let rest = word.text.strip_prefix(name).filter(|_| !name.starts_with("--"));
            let rest = rest.or_else(|| word.text.strip_prefix(&format!("{name}=")));
            if let Some(rest) = rest {
                return Some(Word { text: rest.to_owned(), ..word.clone() });
            }
        }
    }
    None
}

impl Facts {
    pub(super) fn files(&mut self, simple: &Simple) {
        let args = simple.arguments();
        let has = |this: &Self, flags: &[&str]| flags.iter().any(|f| this.flags.contains(*f));
        let recursive = has(self, &["-r", "-R", "--recursive", "--recursiv", "--recurs"]);
        let program = self.program.clone();
        match program.as_str() {
            "rm" | "rmdir" | "unlink" | "shred" | "srm" | "trash" => {
                self.each(simple, Use::Delete, &plain(args, &["-n", "-s"]), recursive);
                self.more(simple);
            }
            "mv" | "cp" | "install" | "ln" | "rsync" | "scp" => self.copies(simple, &program, recursive),
            "tee" | "sponge" => {
                self.each(simple, Use::Write, &plain(args, &[]), false);
                self.more(simple);
            }
            "touch" | "mkdir" | "mkfifo" | "mknod" | "truncate" => {
                let words = plain(args, &["-s", "--size", "-r", "--reference", "-d", "--date", "-t", "-m", "--mode"]);
                self.each(simple, Use::Write, &words, false);
                self.more(simple);
            }
            "chmod" | "chown" | "chgrp" | "chattr" | "setfacl" => {
                let words = plain(args, &["--reference"]);
                self.each(simple, Use::Write, words.get(1..).unwrap_or_default(), recursive);
                self.more(simple);
            }
            "dd" => {
                for word in args {
                    if let Some(file) = word.text.strip_prefix("of=") {
                        self.path(simple, Use::Write, &Word { text: file.to_owned(), ..word.clone() }, false);
                    } else if let Some(file) = word.text.strip_prefix("if=") {
                        self.path(simple, Use::Read, &Word { text: file.to_owned(), ..word.clone() }, false);
                    }
                }
            }
            "sed" | "gsed" | "perl" | "ruby" => {
                let in_place = self.flags.iter().any(|f| f == "-i" || f == "--in-place" || f.starts_with("-i"));
                let words = plain(args, &["-e", "-f", "-E", "--expression", "--file", "-I", "-M"]);
                let scripted = has(self, &["-e", "-f", "--expression", "--file", "-E"]) && program != "sed"
                    || args.iter().any(|w| w.text == "-e" || w.text == "-f" || w.text.starts_with("--expression"));
                let files = if scripted { words.as_slice() } else { words.get(1..).unwrap_or_default() };
                let used = if in_place { Use::Write } else { Use::Read };
                self.each(simple, used, files, false);
                if in_place {
                    self.more(simple);
                }
            }
            "curl" => {
                if let Some(file) = value(args, &["-o", "--output"]) {
                    self.path(simple, Use::Write, &file, false);
                }
                if let Some(file) = value(args, &["-c", "--cookie-jar", "-D", "--dump-header", "--output-dir"]) {
                    self.path(simple, Use::Write, &file, false);
                }
                for word in args {
                    // `-d @file`, `-T file`, `-F x=@file`: what is sent.
                    if let Some(at) = word.text.find('@').filter(|at| *at == 0 || word.text.contains("=@")) {
                        let file = word.text.get(at.saturating_add(1)..).unwrap_or_default();
                        let file = file.split(';').next().unwrap_or_default();
                        self.path(simple, Use::Read, &Word { text: file.to_owned(), ..word.clone() }, false);
                    }
                }
                if let Some(file) = value(args, &["-T", "--upload-file", "-K", "--config", "-b"]) {
                    self.path(simple, Use::Read, &file, false);
                }
            }
            "wget" => {
                for names in [["-O", "--output-document"], ["-o", "--output-file"], ["-P", "--directory-prefix"]] {
                    if let Some(file) = value(args, &names) {
                        self.path(simple, Use::Write, &file, false);
                    }
                }
                if let Some(file) = value(args, &["--post-file", "--body-file"]) {
                    self.path(simple, Use::Read, &file, false);
                }
            }
            "tar" | "bsdtar" => self.tar(simple),
            "unzip" => {
                if let Some(folder) = value(args, &["-d"]) {
                    self.path(simple, Use::Write, &folder, true);
                }
            }
            "sort" | "uniq" | "shuf" => {
                if let Some(file) = value(args, &["-o", "--output"]) {
                    self.path(simple, Use::Write, &file, false);
                }
                self.each(simple, Use::Read, &plain(args, &["-o", "-k", "-t"]), false);
            }
            "patch" => {
                if let Some(file) = value(args, &["-o", "--output"]) {
                    self.path(simple, Use::Write, &file, false);
                }
                self.each(
                    simple,
                    Use::Write,
                    plain(args, &["-i", "-p", "-d", "-o"]).get(..1).unwrap_or_default(),
                    false,
                );
            }
            "git" => self.git_files(simple),
            "echo" | "printf" | "true" | "false" | ":" | "cd" | "export" | "test" | "[" | "pwd" | "sleep" => {}
            _ => {
                // What is named is read, for all that is known.
                for word in args.iter().filter(|w| w.known && !w.text.starts_with('-') && w.text.len() < 1_024) {
                    self.path(simple, Use::Read, word, recursive);
                }
            }
        }
    }

    fn each(&mut self, simple: &Simple, used: Use, words: &[&Word], recursive: bool) {
        for word in words {
            self.path(simple, used, word, recursive);
        }
    }

    /// Names that come from elsewhere: `… | xargs rm`.
    fn more(&mut self, simple: &Simple) {
        self.target_unknown |= simple.more_arguments;
    }

    fn copies(&mut self, simple: &Simple, program: &str, recursive: bool) {
        let args = simple.arguments();
        let values = ["-t", "--target-directory", "-m", "--mode", "-o", "-g", "-S", "--suffix", "-e", "--exclude"];
        let mut words = plain(args, &values);
        let target = value(args, &["-t", "--target-directory"]).or_else(|| match program {
            "install" if self.flags.contains("-d") => None,
            _ if words.len() >= 2 => words.pop().cloned(),
            // `ln -s target`: a link of that name here.
            _ => None,
        });
        if program == "install" && self.flags.contains("-d") {
            return self.each(simple, Use::Write, &words, false);
        }
        self.more(simple);
        for word in &words {
            self.path(simple, if program == "mv" { Use::Delete } else { Use::Read }, word, recursive);
            if program == "ln" {
                // What is written through a link is written there; a link's text counts from where the link is.
                let folder = target.as_ref().and_then(|t| t.text.rsplit_once('/')).map_or(".", |(folder, _)| folder);
                for text in [word.text.clone(), crate::policy::shell::join(folder, &word.text)] {
                    if !lexical("/w/r", "/", &text).starts_with('/') {
                        self.path(simple, Use::Write, &Word { text, ..Word::clone(word) }, false);
                    }
                }
            }
        }
        let Some(target) = target else { return };
        self.path(simple, Use::Write, &target, recursive);
        if target.known && !target.text.contains(':') {
            for word in words {
                if let Some(name) = word.get().and_then(|w| w.trim_end_matches('/').rsplit('/').next()) {
                    let inside = format!("{}/{name}", target.text.trim_end_matches('/'));
                    self.path(simple, Use::Write, &Word { glob: word.glob, ..Word::literal(inside) }, recursive);
                }
            }
        }
    }

    fn tar(&mut self, simple: &Simple) {
        let args = simple.arguments();
        let first = args.first().map(|w| w.text.trim_start_matches('-').to_owned()).unwrap_or_default();
        let mode = |c: char, long: &str| first.contains(c) || args.iter().any(|w| w.text == long);
        let words = plain(args, &["-f", "-C", "--file", "--directory", "--exclude", "-T", "-X"]);
        let archive = value(args, &["-f", "--file"]).or_else(|| {
            let at = if first.contains('f') { 1 } else { usize::MAX };
            args.get(at).cloned()
        });
        if let Some(archive) = archive.filter(|w| w.text != "-") {
            let writes = mode('c', "--create") || mode('r', "--append") || mode('u', "--update");
            self.path(simple, if writes { Use::Write } else { Use::Read }, &archive, false);
        }
        if let Some(folder) = value(args, &["-C", "--directory"]) {
            self.path(simple, Use::Write, &folder, true);
        }
        if mode('x', "--extract") {
            for word in words.iter().skip(1) {
                self.path(simple, Use::Write, word, true);
            }
        }
    }

    fn git_files(&mut self, simple: &Simple) {
        let Some(git) = self.git.clone() else { return };
        let mut simple = simple.clone();
        if let Some(folder) = &git.folder {
            for at in &mut simple.folders {
                *at = crate::policy::shell::join(at, folder);
            }
        }
        let words = plain(&git.rest, &["-m", "-F", "--message", "-b", "-B", "-e", "-s", "--source"]);
        let forced = git.rest.iter().any(|w| w.text.starts_with('-') && w.text.contains('f'));
        match git.operation.as_str() {
            "rm" if git.rest.iter().any(|w| w.text == "--cached") => {}
            "rm" => self.each(&simple, Use::Delete, &words, true),
            "mv" => {
                if let Some((target, sources)) = words.split_last() {
                    self.each(&simple, Use::Delete, sources, true);
                    self.path(&simple, Use::Write, target, false);
                }
            }
            "clean" if forced => {
                let all = Word::literal(".");
                // Untracked files only: nothing that is in the repository goes.
                if words.is_empty() {
                    self.path(&simple, Use::Write, &all, true);
                } else {
                    self.each(&simple, Use::Delete, &words, true);
                }
            }
            "checkout" | "restore" => {
                let after = git.rest.iter().position(|w| w.text == "--");
                let files: Vec<&Word> = match after {
                    Some(at) => git.rest.iter().skip(at.saturating_add(1)).collect(),
                    None if git.operation == "restore" => words,
                    None => words.get(1..).unwrap_or_default().to_vec(),
                };
                for word in files {
                    if word.known || !word.alternatives.is_empty() {
                        self.path(&simple, Use::Write, word, true);
                    }
                }
            }
            "archive" | "bundle" | "format-patch" => {
                if let Some(file) = value(&git.rest, &["-o", "--output", "--output-directory"]) {
                    self.path(&simple, Use::Write, &file, false);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_find_what_is_guarded() {
        for (glob, want) in [
            (".e*", ".env"),
            ("**/*.yml", ".github/workflows/ci.yml"),
            (".github/**/*", ".github/workflows/ci.yml"),
            (".g?t/hooks/x", ".git/hooks/x"),
            (".github/*/x.yml", ".github/workflows/x.yml"),
            (".git*/workflows/*", ".github/workflows/ci.yml"),
            (".??thub/workflows/ci.yml", ".github/workflows/ci.yml"),
            ("C*.md", "CLAUDE.md"),
            ("/w/.g[i]t/config", "/w/.git/config"),
            ("a/b/.en?", "a/b/.env"),
        ] {
            assert!(could_be(glob).contains(&want.to_owned()), "{glob}: {:?}", could_be(glob));
        }
        for glob in ["*", "*.rs", "src/*", "target/*", "*.env", "src/**/*", "**/*.pyc"] {
            assert!(!could_be(glob).iter().any(|f| f.contains("/.") || f.starts_with('.')), "{glob}");
        }
    }
}
