//! What commands run: `sh -c`, `eval`, `env`, `sudo`, `xargs`, `find -exec`, `git -c alias.x=!…`.

use std::collections::BTreeMap;

use super::cursor::Budget;
use super::expand::Variables;
use super::parse::{Parser, Raw};
use super::{Limits, Problem, Redirect, RedirectKind, Script, Simple, Word};
use crate::policy::lexical;

/// Most folders that a command may run in.
const FOLDERS: usize = 12;

/// Analyses a text as a shell would read it. Pure; see the module for what it answers.
pub fn analyse(text: &str, limits: Limits) -> Script {
    let mut walk = Walk { budget: Budget::new(limits), out: Script::default(), aliases: BTreeMap::new() };
    if text.len() > limits.bytes {
        walk.problem(Problem::TooLong);
    } else {
        let base = Base { folders: vec![".".to_owned()], ..Base::default() };
        walk.text(text, &base);
    }
    walk.out
}

/// What a nested text inherits.
#[derive(Debug, Clone, Default)]
struct Base {
    via: Vec<&'static str>,
    folders: Vec<String>,
    folder_unknown: bool,
    more_arguments: bool,
    upstream: Vec<usize>,
}

/// A command, and which of the text write into it.
type Resolved = (Option<Simple>, (usize, usize));

struct Walk {
    budget: Budget,
    out: Script,
    aliases: BTreeMap<String, String>,
}

impl Walk {
    fn problem(&mut self, problem: Problem) {
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn text(&mut self, text: &str, base: &Base) {
        if let Err(problem) = self.try_text(text, base) {
            self.problem(problem);
        }
    }

    fn try_text(&mut self, text: &str, base: &Base) -> Result<(), Problem> {
        if text.contains('\0') {
            return Err(Problem::Nul);
        }
        self.budget.deeper()?;
        let mut parser = Parser::new(text, self.budget.clone());
        let read = parser.text();
        self.budget = parser.budget;
        let raws = parser.raws;
        let functions = !parser.functions.is_empty();
        self.out.functions.append(&mut parser.functions);
        // First the words, for the folders that are entered anywhere in the text. A program that stands in a variable may
        // be one that assigns: then no variable is known.
        let mut simples = self.resolve(&raws, Variables::of(&raws, &parser.touched, functions, false), base)?;
        let assigns = raws.iter().zip(&simples).any(|(raw, (simple, _))| {
            let Some(simple) = simple else { return false };
            raw.words.first().is_some_and(|w| super::word::bare(w).is_none())
                && simple.program().is_none_or(super::expand::assigns)
        });
        if assigns {
            simples = self.resolve(&raws, Variables::of(&raws, &parser.touched, functions, true), base)?;
        }
        let mut base = base.clone();
        for (simple, _) in &simples {
            if let Some(simple) = simple {
                self.note_alias(simple);
                enter(simple, &mut base);
            }
        }
        // Then each with what it runs.
        let mut starts = Vec::new();
        for (simple, (from, to)) in simples {
            starts.push(self.out.commands.len());
            let Some(mut simple) = simple else { continue };
            simple.folders.clone_from(&base.folders);
            simple.folder_unknown = base.folder_unknown;
            let first = starts.get(from).copied().unwrap_or_default();
            let end = starts.get(to).copied().unwrap_or(self.out.commands.len());
            simple.upstream = if from == to { base.upstream.clone() } else { (first..end).collect() };
            self.command(simple)?;
        }
        self.budget.back();
        read
    }

    /// The commands with their words resolved; `None` for what is no command.
    fn resolve(&mut self, raws: &[Raw], mut variables: Variables, base: &Base) -> Result<Vec<Resolved>, Problem> {
        let mut simples = Vec::new();
        for raw in raws {
            let mut simple = Simple { via: base.via.clone(), more_arguments: base.more_arguments, ..Simple::default() };
            for (name, value, _) in &raw.assignments {
                simple.assignments.push((name.clone(), variables.one(value, raws)));
            }
            for word in &raw.words {
                simple.words.extend(variables.words(word, raws, &mut self.budget)?);
            }
            for (kind, target) in &raw.redirects {
                simple.redirects.push(Redirect { kind: *kind, target: variables.one(target, raws) });
            }
            simple.stdin = raw.stdin.as_ref().map(|s| variables.one(s, raws));
            variables.learn(raw, &simple.assignments, &simple.words);
            if raw.role == super::parse::Role::Command {
                simples.push((Some(simple), raw.upstream));
            } else {
                simples.push((None, raw.upstream));
            }
        }
        Ok(simples)
    }

    fn note_alias(&mut self, simple: &Simple) {
        if simple.program() == Some("alias") {
            for word in simple.arguments() {
                match word.get().and_then(|w| w.split_once('=')) {
                    Some((name, value)) => {
                        self.aliases.insert(name.to_owned(), value.to_owned());
                    }
                    None => {
                        if !word.known {
                            self.problem(Problem::UnknownScript);
                        }
                    }
                }
            }
        }
    }

    /// Takes a command in, and what it runs.
    fn command(&mut self, simple: Simple) -> Result<(), Problem> {
        self.budget.pay(simple.words.len().saturating_add(1))?;
        if self.out.commands.len() >= self.budget.limits.commands {
            return Err(Problem::TooMany);
        }
        self.out.commands.push(simple.clone());
        self.budget.deeper()?;
        self.inner(&simple)?;
        self.budget.back();
        Ok(())
    }

    fn inner(&mut self, simple: &Simple) -> Result<(), Problem> {
        let Some(program) = simple.program().map(str::to_owned) else { return Ok(()) };
        let args = simple.arguments();
        if let Some(value) = self.aliases.get(&program).cloned() {
            let rest: Vec<String> = args.iter().map(super::shown).collect();
            self.text(&format!("{value} {}", rest.join(" ")), &base_of(simple, "alias"));
        }
        if let Some((name, with_value, positional)) = wrapper(&program) {
            let mut args = args;
            let mut simple = simple.clone();
            if name == "env" {
                if let Some(text) = env_string(args) {
                    return self.script(&simple, Some(&text), "env");
                }
                if let Some(folder) = option_value(args, "-C", "--chdir") {
                    into(&mut simple, &folder);
                }
            }
            match skip_options(args, with_value, positional, name == "env") {
                Ok(rest) => args = rest,
                // An option that is not known may be the program.
                Err(()) => return self.command(derived(&simple, vec![Word::unknown("$…")], name)),
            }
            if args.is_empty() {
                return Ok(());
            }
            return self.command(derived(&simple, args.to_vec(), name));
        }
        match program.as_str() {
            "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" | "mksh" | "rbash" | "fish" => self.shell(simple),
            "eval" => {
                let text: Option<Vec<&str>> = args.iter().map(Word::get).collect();
                self.script(simple, text.map(|t| Word::literal(t.join(" "))).as_ref(), "eval")
            }
            "source" | "." => {
                let file = args.first();
                if file.is_some_and(|f| !f.known || f.text.starts_with("/dev/")) {
                    self.problem(Problem::UnknownScript);
                }
                Ok(())
            }
            "trap" => match args.first() {
                Some(word) if word.get().is_some_and(|t| t.starts_with('-') || t.is_empty()) => Ok(()),
                Some(word) if args.len() > 1 => self.script(simple, Some(word), "trap"),
                Some(_) | None => Ok(()),
            },
            "xargs" => self.xargs(simple),
            "find" | "fd" | "fdfind" => self.find(simple),
            "parallel" => self.command(derived(simple, vec![Word::unknown("$…")], "parallel")),
            "watch" | "entr" => match skip_options(args, &["-n", "--interval", "-d"], 0, false) {
                Ok(rest) => self.joined(simple, rest, "watch"),
                Err(()) => self.joined(simple, args, "watch"),
            },
            "su" | "script" | "runuser" => match option_value(args, "-c", "--command") {
                Some(word) => self.script(simple, Some(&word), "su"),
                None => Ok(()),
            },
            "flock" => match option_value(args, "-c", "--command") {
                Some(word) => self.script(simple, Some(&word), "flock"),
                None => match skip_options(args, &["-w", "--timeout", "-E"], 1, false) {
                    Ok(rest) if !rest.is_empty() => self.command(derived(simple, rest.to_vec(), "flock")),
                    Ok(_) | Err(()) => Ok(()),
                },
            },
            "ssh" => {
                const VALUES: &[&str] = &[
                    "-b", "-c", "-D", "-E", "-e", "-F", "-I", "-i", "-J", "-L", "-l", "-m", "-O", "-o", "-p", "-Q",
                    "-R", "-S", "-W", "-w",
                ];
                match skip_options(args, VALUES, 1, false) {
                    Ok(rest) if !rest.is_empty() => self.joined(simple, rest, "ssh"),
                    Ok(_) | Err(()) => Ok(()),
                }
            }
            "git" => self.git(simple),
            _ => Ok(()),
        }
    }

    /// Words that are put together to a text for a shell.
    fn joined(&mut self, simple: &Simple, words: &[Word], via: &'static str) -> Result<(), Problem> {
        let text: Option<Vec<&str>> = words.iter().map(Word::get).collect();
        self.script(simple, text.map(|t| Word::literal(t.join(" "))).as_ref(), via)
    }

    /// A text for a shell; `None` or unknown is a problem.
    fn script(&mut self, simple: &Simple, text: Option<&Word>, via: &'static str) -> Result<(), Problem> {
        match text.and_then(Word::get) {
            Some(text) => self.text(text, &base_of(simple, via)),
            None => self.problem(Problem::UnknownScript),
        }
        Ok(())
    }

    fn shell(&mut self, simple: &Simple) -> Result<(), Problem> {
        let mut args = simple.arguments().iter();
        let mut text_follows = false;
        let mut from_input = false;
        while let Some(word) = args.next() {
            let Some(arg) = word.get() else {
                self.problem(Problem::UnknownScript);
                return Ok(());
            };
            match arg {
                "--rcfile" | "--init-file" | "-o" | "+o" | "-O" | "+O" => {
                    args.next();
                }
                "--" => {}
                "-" => {}
                long if long.starts_with("--") => text_follows |= long == "--command",
                short if short.starts_with('-') || short.starts_with('+') => {
                    text_follows |= short.contains('c');
                    from_input |= short.contains('s');
                    if short.contains('o') {
                        args.next();
                    }
                }
                _ if text_follows => return self.script(simple, Some(word), "sh"),
                file => {
                    if file.starts_with("/dev/") || file.starts_with("/proc/") {
                        self.problem(Problem::UnknownScript);
                    }
                    // A script that is a file is a program like any other.
                    if !from_input {
                        return Ok(());
                    }
                    break;
                }
            }
        }
        if text_follows {
            return Ok(());
        }
        let reads = simple.redirects.iter().any(|r| r.kind == RedirectKind::Read);
        match &simple.stdin {
            Some(stdin) => self.script(simple, Some(&stdin.clone()), "sh"),
            None => {
                if reads || !simple.upstream.is_empty() || simple.more_arguments {
                    self.problem(Problem::UnknownScript);
                }
                Ok(())
            }
        }
    }

    fn xargs(&mut self, simple: &Simple) -> Result<(), Problem> {
        const VALUES: &[&str] =
            &["-I", "-n", "-P", "-L", "-d", "-a", "-E", "-s", "--max-args", "--max-procs", "--delimiter", "--arg-file"];
        let replace = option_value(simple.arguments(), "-I", "--replace").and_then(|w| w.get().map(str::to_owned));
        let replace = replace.or_else(|| simple.arguments().iter().any(|w| w.text == "-i").then(|| "{}".to_owned()));
        match skip_options(simple.arguments(), VALUES, 0, false) {
            Ok([]) => Ok(()),
            Ok(rest) => {
                let put = |w: &Word| match &replace {
                    Some(r) if !r.is_empty() && w.text.contains(r.as_str()) => Word::unknown(w.text.clone()),
                    Some(_) | None => w.clone(),
                };
                let mut inner = derived(simple, rest.iter().map(put).collect(), "xargs");
                inner.more_arguments = replace.is_none();
                self.command(inner)
            }
            Err(()) => self.command(derived(simple, vec![Word::unknown("$…")], "xargs")),
        }
    }

    fn find(&mut self, simple: &Simple) -> Result<(), Problem> {
        let args = simple.arguments();
        let roots: Vec<&Word> = args.iter().take_while(|w| !w.text.starts_with(['-', '(', '!'])).collect();
        let name = option_value(args, "-name", "-iname").and_then(|w| w.get().map(str::to_owned));
        let all_known = roots.iter().all(|r| r.known) && args.iter().all(|w| w.known);
        // What `{}` may be: a file of that name, or anything below.
        let found = Word {
            text: "{}".to_owned(),
            known: false,
            glob: true,
            alternatives: if all_known {
                let roots: Vec<&str> =
                    if roots.is_empty() { vec!["."] } else { roots.iter().map(|r| r.text.as_str()).collect() };
                let name = name.as_deref().unwrap_or("*");
                roots.iter().map(|r| format!("{}/**/{name}", r.trim_end_matches('/'))).collect()
            } else {
                Vec::new()
            },
        };
        let mut i = 0_usize;
        while let Some(word) = args.get(i) {
            i = i.saturating_add(1);
            match word.text.as_str() {
                "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X" | "--exec" | "--exec-batch" => {
                    let rest = args.get(i..).unwrap_or_default();
                    let len = rest.iter().position(|w| w.text == ";" || w.text == "+").unwrap_or(rest.len());
                    let put = |w: &Word| match w.text.as_str() {
                        "{}" => found.clone(),
                        text if text.contains("{}") => Word::unknown(text),
                        _ => w.clone(),
                    };
                    let words: Vec<Word> = rest.iter().take(len).map(put).collect();
                    i = i.saturating_add(len);
                    if !words.is_empty() {
                        self.command(derived(simple, words, "find"))?;
                    }
                }
                "-delete" => {
                    self.command(derived(
                        simple,
                        vec![Word::literal("rm"), Word::literal("-r"), found.clone()],
                        "find",
                    ))?;
                }
                "-fprint" | "-fprintf" | "-fls" | "-fprint0" => {
                    let file = args.get(i).cloned().unwrap_or_default();
                    self.command(derived(simple, vec![Word::literal("tee"), file], "find"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Aliases that are given with the command, and what some commands of git run.
    fn git(&mut self, simple: &Simple) -> Result<(), Problem> {
        let args = simple.arguments();
        let mut i = 0_usize;
        let mut aliases: Vec<(String, String)> = Vec::new();
        while let Some(word) = args.get(i) {
            let value = args.get(i.saturating_add(1));
            match word.text.as_str() {
                "-c" | "--config-env" => {
                    if let Some((key, text)) = value.and_then(Word::get).and_then(|v| v.split_once('='))
                        && let Some(name) = key.strip_prefix("alias.")
                    {
                        aliases.push((name.to_owned(), text.to_owned()));
                    }
                    i = i.saturating_add(2);
                }
                "-C" | "--git-dir" | "--work-tree" | "--namespace" | "--exec-path" | "--super-prefix" => {
                    i = i.saturating_add(2);
                }
                text if text.starts_with('-') => i = i.saturating_add(1),
                _ => break,
            }
        }
        let Some(operation) = args.get(i).and_then(Word::get) else { return Ok(()) };
        let rest = args.get(i.saturating_add(1)..).unwrap_or_default();
        if let Some((_, text)) = aliases.iter().rev().find(|(name, _)| name == operation) {
            let shown: Vec<String> = rest.iter().map(super::shown).collect();
            let text = match text.strip_prefix('!') {
                Some(command) => format!("{command} {}", shown.join(" ")),
                None => format!("git {text} {}", shown.join(" ")),
            };
            self.text(&text, &base_of(simple, "git"));
            return Ok(());
        }
        match operation {
            "submodule" => match rest.iter().position(|w| w.text == "foreach") {
                Some(at) => {
                    let words = rest.get(at.saturating_add(1)..).unwrap_or_default();
                    let words = skip_options(words, &[], 0, false).unwrap_or(words);
                    self.joined(simple, words, "git")
                }
                None => Ok(()),
            },
            "bisect" if rest.first().is_some_and(|w| w.text == "run") => {
                let words = rest.get(1..).unwrap_or_default().to_vec();
                if words.is_empty() { Ok(()) } else { self.command(derived(simple, words, "git")) }
            }
            "rebase" => match option_value(rest, "-x", "--exec") {
                Some(word) => self.script(simple, Some(&word), "git"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn base_of(simple: &Simple, via: &'static str) -> Base {
    let mut chain = simple.via.clone();
    chain.push(via);
    Base {
        via: chain,
        folders: simple.folders.clone(),
        folder_unknown: simple.folder_unknown,
        more_arguments: false,
        upstream: simple.upstream.clone(),
    }
}

/// The command that another runs.
fn derived(simple: &Simple, words: Vec<Word>, via: &'static str) -> Simple {
    let mut out = Simple { words, redirects: Vec::new(), assignments: Vec::new(), ..simple.clone() };
    out.via.push(via);
    out
}

/// Programs that run the rest of their arguments: their name, options that take a value, and how many arguments come first.
fn wrapper(program: &str) -> Option<(&'static str, &'static [&'static str], usize)> {
    Some(match program {
        "command" => ("command", &[], 0),
        "builtin" => ("builtin", &[], 0),
        "exec" => ("exec", &["-a"], 0),
        "nohup" => ("nohup", &[], 0),
        "setsid" => ("setsid", &[], 0),
        "busybox" => ("busybox", &[], 0),
        "toybox" => ("toybox", &[], 0),
        "nice" => ("nice", &["-n", "--adjustment"], 0),
        "ionice" => ("ionice", &["-c", "-n", "-t", "--class", "--classdata"], 0),
        "chrt" => ("chrt", &[], 1),
        "taskset" => ("taskset", &[], 1),
        "stdbuf" => ("stdbuf", &["-i", "-o", "-e"], 0),
        "unbuffer" => ("unbuffer", &[], 0),
        "fakeroot" => ("fakeroot", &[], 0),
        "strace" => ("strace", &["-e", "-o", "-p", "-s", "-u"], 0),
        "ltrace" => ("ltrace", &["-e", "-o", "-p", "-s", "-u"], 0),
        "time" => ("time", &["-f", "-o", "--format", "--output"], 0),
        "env" => ("env", &["-u", "--unset", "-C", "--chdir", "--argv0", "-a"], 0),
        "sudo" => (
            "sudo",
            &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-U", "-r", "-t", "--user", "--group", "--chdir"],
            0,
        ),
        "doas" => ("doas", &["-u", "-C", "-a"], 0),
        "timeout" | "gtimeout" => ("timeout", &["-s", "-k", "--signal", "--kill-after"], 1),
        "chroot" => ("chroot", &["--userspec", "--groups"], 1),
        "unshare" => ("unshare", &[], 0),
        "setpriv" => ("setpriv", &["--reuid", "--regid", "--groups"], 0),
        "xvfb-run" => ("xvfb-run", &["-s", "-n", "-e", "-f", "-p", "-w"], 0),
        _ => return None,
    })
}

/// What stands after options, their values, and so many arguments; `Err` when it is not known where that is.
fn skip_options<'a>(
    args: &'a [Word],
    with_value: &[&str],
    mut positional: usize,
    assignments: bool,
) -> Result<&'a [Word], ()> {
    let mut i = 0_usize;
    while let Some(word) = args.get(i) {
        let text = word.get().ok_or(())?;
        if text == "--" {
            i = i.saturating_add(1);
            return Ok(args.get(i.saturating_add(positional)..).unwrap_or_default());
        }
        if text.starts_with('-') && text.len() > 1 {
            i = i.saturating_add(if with_value.contains(&text) { 2 } else { 1 });
        } else if assignments && text.contains('=') {
            i = i.saturating_add(1);
        } else if positional > 0 {
            positional = positional.saturating_sub(1);
            i = i.saturating_add(1);
        } else {
            break;
        }
    }
    Ok(args.get(i..).unwrap_or_default())
}

/// The value of an option, in any of the ways to write it.
fn option_value(args: &[Word], short: &str, long: &str) -> Option<Word> {
    for (i, word) in args.iter().enumerate() {
        let letter = short.strip_prefix('-').filter(|_| short.len() == 2);
        let cluster = letter.is_some_and(|l| {
            word.text.strip_prefix('-').is_some_and(|c| c.ends_with(l) && c.chars().all(char::is_alphanumeric))
        });
        if cluster || word.text == long || word.text == short {
            return args.get(i.saturating_add(1)).cloned();
        }
        let rest = word.text.strip_prefix(long).and_then(|r| r.strip_prefix('='));
        let rest = rest.or_else(|| {
            let short = (short.len() == 2 && !word.text.starts_with("--")).then_some(short)?;
            word.text.strip_prefix(short)
        });
        if let Some(rest) = rest {
            return Some(Word { text: rest.to_owned(), alternatives: Vec::new(), ..word.clone() });
        }
    }
    None
}

/// `env -S "text"`: the text with what follows it.
fn env_string(args: &[Word]) -> Option<Word> {
    let at = args.iter().position(|w| {
        w.text.starts_with("-S")
            || w.text.starts_with("--split-string")
            || (w.text.starts_with("-v") && w.text.contains('S'))
    })?;
    if args.iter().any(|w| !w.known) {
        return Some(Word::unknown("$…"));
    }
    let word = args.get(at)?;
    let inline = word.text.trim_start_matches("--split-string").trim_start_matches("-vS").trim_start_matches("-S");
    let rest = args.get(at.saturating_add(1)..).unwrap_or_default();
    let mut text = inline.trim_start_matches('=').to_owned();
    for word in rest {
        text.push(' ');
        text.push_str(&word.text);
    }
    Some(Word::literal(text))
}

/// A folder is entered: whatever may run in the old ones may run in the new.
fn enter(simple: &Simple, base: &mut Base) {
    let Some("cd" | "pushd") = simple.program() else { return };
    let target = simple.arguments().iter().find(|w| !w.text.starts_with('-') && !w.text.starts_with('+'));
    match target {
        None => {
            if simple.arguments().is_empty() {
                add_folder(&mut base.folders, &mut base.folder_unknown, "~");
            }
        }
        Some(word) if word.known && !word.glob => {
            add_folder(&mut base.folders, &mut base.folder_unknown, &word.text);
        }
        Some(word) if !word.alternatives.is_empty() => {
            for one in &word.alternatives {
                add_folder(&mut base.folders, &mut base.folder_unknown, one);
            }
        }
        Some(_) => base.folder_unknown = true,
    }
}

fn into(simple: &mut Simple, folder: &Word) {
    match folder.get() {
        Some(text) => add_folder(&mut simple.folders, &mut simple.folder_unknown, text),
        None => simple.folder_unknown = true,
    }
}

fn add_folder(folders: &mut Vec<String>, unknown: &mut bool, target: &str) {
    for folder in folders.clone() {
        let joined = join(&folder, target);
        if !folders.contains(&joined) {
            if folders.len() >= FOLDERS {
                *unknown = true;
                return;
            }
            folders.push(joined);
        }
    }
}

/// A path from a folder, both as they are written; `~` stays.
pub(in crate::policy) fn join(folder: &str, path: &str) -> String {
    let whole = path.starts_with('/') || path == "~" || path.starts_with("~/");
    let joined = if whole || folder == "." { path.to_owned() } else { format!("{folder}/{path}") };
    // The letters are tidied, so that going in circles makes no new folders; what leads up stays as it is.
    if joined.starts_with('~') || joined.split('/').any(|p| p == "..") && !joined.starts_with('/') {
        return joined;
    }
    lexical("/\u{1}", "~", &if joined.starts_with('/') { joined } else { format!("/\u{1}/{joined}") })
}
