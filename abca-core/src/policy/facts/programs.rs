//! What else well-known programs do: take code, publish, drop tables, take more rights.

use super::Facts;
use crate::policy::shell::{Simple, Word};

/// Interpreters, and the options that give them code.
const CODE: &[(&str, &[&str])] = &[
    ("python", &["-c"]),
    ("pypy", &["-c"]),
    ("perl", &["-e", "-E"]),
    ("ruby", &["-e"]),
    ("node", &["-e", "-p", "--eval", "--print"]),
    ("nodejs", &["-e", "-p", "--eval", "--print"]),
    ("deno", &["eval"]),
    ("bun", &["-e", "--eval"]),
    ("php", &["-r"]),
    ("lua", &["-e"]),
    ("osascript", &["-e"]),
    ("Rscript", &["-e"]),
    ("tclsh", &[]),
    ("expect", &["-c"]),
    ("gdb", &["-ex", "--eval-command"]),
    ("vim", &["-c", "--cmd"]),
    ("vi", &["-c"]),
    ("nvim", &["-c", "--cmd"]),
    ("emacs", &["--eval", "-f", "--funcall"]),
];

impl Facts {
    pub(super) fn programs(&mut self, simple: &Simple) {
        let args = simple.arguments();
        self.privileged = matches!(self.program.as_str(), "sudo" | "doas" | "su" | "pkexec" | "runuser");
        // `python3.12` is python.
        let family = self.program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
        if let Some((name, options)) = CODE.iter().find(|(name, _)| *name == family) {
            let given = options.iter().any(|o| self.flags.contains(*o) || self.subcommand == *o);
            let from_input = simple.stdin.is_some() || !simple.upstream.is_empty() || simple.more_arguments;
            let no_file = !args.iter().any(|w| !w.text.starts_with('-')) || args.iter().any(|w| w.text == "-");
            // `python -m json.tool` and `node x.js` read data there, not code.
            let module = self.flags.contains("-m") && *name == "python";
            self.opaque |= given && !module;
            self.opaque |= from_input && no_file && !module;
            self.opaque |= !module && args.iter().take_while(|w| w.text.starts_with('-') || !w.known).any(|w| !w.known);
        }
        match self.program.as_str() {
            "awk" | "gawk" | "mawk" | "nawk" => {
                let code = |w: &Word| {
                    !w.known
                        || ["system", "getline", "|", "print >", "print>", "> \"", ">\"", ">>"]
                            .iter()
                            .any(|s| w.text.contains(s))
                };
                self.opaque |= args.iter().find(|w| !w.text.starts_with('-')).is_some_and(code);
            }
            "sed" | "gsed" => {
                self.opaque |= args.iter().any(|w| w.known && sed_runs(&w.text));
            }
            "tar" | "bsdtar" => {
                const RUNS: [&str; 5] =
                    ["--to-command", "--checkpoint-action", "--use-compress-program", "-I", "--rsh-command"];
                self.opaque |=
                    RUNS.iter().any(|r| self.flags.contains(*r) && *r != "-I") || args.iter().any(|w| w.text == "-I");
            }
            "rsync" => self.opaque |= self.flags.contains("-e") || self.flags.contains("--rsh"),
            "ssh" | "scp" | "sftp" => {
                self.opaque |= args.iter().any(|w| {
                    let text = w.text.to_ascii_lowercase();
                    text.contains("proxycommand") || text.contains("localcommand")
                });
            }
            "zip" => self.opaque |= self.flags.contains("-TT") || self.flags.contains("--unzip-command"),
            "ed" | "ex" => self.opaque = true,
            "kubectl" | "docker" | "podman" | "nsenter" => self.opaque |= self.subcommand == "exec",
            _ => {}
        }
        self.publishes = self.publishing() && !self.flags.contains("--dry-run");
        self.drops = self.dropping(simple);
    }

    fn publishing(&self) -> bool {
        let words: Vec<&str> = self.arguments.iter().map(String::as_str).filter(|a| !a.starts_with('+')).collect();
        let begins = |with: &[&str]| words.starts_with(with);
        match self.program.as_str() {
            "npm" | "pnpm" | "yarn" | "bun" => {
                const OTHERS: [&str; 11] =
                    ["run", "run-script", "exec", "x", "install", "i", "add", "why", "info", "view", "help"];
                let other = words.first().is_some_and(|w| OTHERS.contains(w));
                (!other && words.contains(&"publish"))
                    || begins(&["unpublish"])
                    || begins(&["deprecate"])
                    || begins(&["dist-tag"]) && !begins(&["dist-tag", "ls"])
            }
            "cargo" => begins(&["publish"]) || begins(&["yank"]) || begins(&["owner"]) || begins(&["release"]),
            "twine" => begins(&["upload"]),
            "poetry" | "uv" | "flit" | "hatch" | "pdm" | "vsce" | "ovsx" | "lerna" | "jsr" => {
                words.iter().take(2).any(|w| *w == "publish")
            }
            "gem" => begins(&["push"]) || begins(&["yank"]),
            "docker" | "podman" | "buildah" => {
                begins(&["push"])
                    || begins(&["image", "push"])
                    || begins(&["manifest", "push"])
                    || (words.contains(&"build") && self.flags.contains("--push"))
            }
            "skopeo" => begins(&["copy"]),
            "helm" => begins(&["push"]),
            "mvn" | "mvnw" | "sbt" => {
                words.iter().any(|w| w.starts_with("deploy") || *w == "publish" || *w == "release:perform")
            }
            "gradle" | "gradlew" => words
                .iter()
                .any(|w| w.rsplit(':').next().is_some_and(|t| t.starts_with("publish") && !t.contains("ToMavenLocal"))),
            "dotnet" => begins(&["nuget", "push"]),
            "nuget" | "pod" => begins(&["push"]) || begins(&["trunk", "push"]),
            "goreleaser" => begins(&["release"]),
            "gh" | "glab" => begins(&["release"]) && !begins(&["release", "list"]) && !begins(&["release", "view"]),
            program if program.starts_with("python") => self.flags.contains("-m") && begins(&["twine", "upload"]),
            _ => false,
        }
    }

    fn dropping(&self, simple: &Simple) -> bool {
        const CLIENTS: [&str; 12] = [
            "psql",
            "mysql",
            "mariadb",
            "sqlite3",
            "sqlite",
            "sqlcmd",
            "sqlplus",
            "cockroach",
            "duckdb",
            "clickhouse-client",
            "clickhouse",
            "usql",
        ];
        if matches!(self.program.as_str(), "dropdb") {
            return true;
        }
        if !CLIENTS.contains(&self.program.as_str()) {
            return false;
        }
        simple.arguments().iter().chain(&simple.stdin).any(|w| drops(&w.text))
    }
}

/// Whether a text has `drop table`, in any case and spacing, comments between the words included.
pub(super) fn drops(text: &str) -> bool {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        plain.push_str(rest.get(..at).unwrap_or_default());
        plain.push(' ');
        let after = rest.get(at.saturating_add(2)..).unwrap_or_default();
        rest = after.find("*/").and_then(|end| after.get(end.saturating_add(2)..)).unwrap_or_default();
    }
    plain.push_str(rest);
    let plain = plain.to_ascii_lowercase();
    let words: Vec<&str> =
        plain.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).collect();
    words.windows(2).any(|w| matches!(w, ["drop", "table" | "database" | "schema"]))
}

/// Whether a sed script runs a program or writes a file: `e`, `s/…/…/e`, `w file`.
fn sed_runs(text: &str) -> bool {
    if text.starts_with('-') {
        return false;
    }
    let command = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ',' | '$' | ' ' | '!'));
    if command == "e" || command.starts_with("e ") || command.starts_with("w ") {
        return true;
    }
    let Some(rest) = command.strip_prefix('s') else { return false };
    let Some(mark) = rest.chars().next().filter(|c| !c.is_alphanumeric()) else { return false };
    let flags = rest.rsplit(mark).next().unwrap_or_default();
    let known = flags.trim_end_matches([' ', ';', '}']);
    known.contains('e') && known.len() < 8 && known.chars().all(|c| c.is_ascii_alphanumeric())
        || known.starts_with("w ")
}
