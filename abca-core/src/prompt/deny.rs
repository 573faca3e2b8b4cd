//! Rules by which a project denies tool calls, as it writes them in `.claude/settings.json`.
//!
//! They are the project's wish about how its agents should work, matched on the text of a call. They are no wall: what
//! must not happen is held off by the hands and the policy engine, which judge structure.

use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Longest rule that is read, in bytes.
const RULE_BYTES: usize = 500;
/// Most memory that a rule's pattern may take, compiled.
const PATTERN_BYTES: usize = 256 * 1024;

/// Text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rule: write `Tool` or `Tool(what)`")]
pub struct InvalidRule(String);

/// One rule: `Tool` for every call, `Tool(what)` for some.
///
/// | rule | denies |
/// | --- | --- |
/// | `Bash(git push:*)` | a command that begins so, at its beginning or after `&&`, `\|\|`, `;`, `\|`, `&` or a line break |
/// | `Bash(rm *)` | a command that matches as a whole, `*` for anything |
/// | `Bash(make)` | exactly this command |
/// | `Read(./secrets/**)` | reading what matches, by `Read`, `Grep` or `Glob`; a pattern without a slash matches at any depth |
/// | `Edit(*.lock)` | changing what matches, by `Edit` or `Write`; `Edit` alone denies both |
///
/// Any other rule (`WebFetch(domain:…)`, `Read(~/…)`, a path with `[`, `{` or `!`) is kept and shown to the model, and
/// denies nothing: [`DenyRule::is_enforced`] says so.
#[derive(Debug, Clone)]
pub struct DenyRule {
    text: String,
    tool: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Whole,
    Prefix(String),
    Command(Regex),
    Path(Regex),
    Unknown,
}

impl PartialEq for DenyRule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DenyRule {}

impl FromStr for DenyRule {
    type Err = InvalidRule;

    fn from_str(s: &str) -> Result<Self, InvalidRule> {
        let text = s.trim();
        let bad = || InvalidRule(crate::text::preview(text, 80));
        let (tool, what) = match text.split_once('(') {
            None => (text, None),
            Some((tool, rest)) => (tool.trim(), Some(rest.strip_suffix(')').ok_or_else(bad)?.trim())),
        };
        let named = !tool.is_empty() && tool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !named || text.len() > RULE_BYTES {
            return Err(bad());
        }
        let matcher = match (tool, what) {
            (_, None | Some("" | "*")) => Matcher::Whole,
            ("Bash", Some(what)) => command(what),
            ("Read" | "Edit" | "Write", Some(what)) => path(what),
            (_, Some(_)) => Matcher::Unknown,
        };
        Ok(Self { text: text.to_owned(), tool: tool.to_owned(), matcher })
    }
}

impl DenyRule {
    /// The rule as the project wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the rule can deny anything here.
    pub const fn is_enforced(&self) -> bool {
        !matches!(self.matcher, Matcher::Unknown)
    }

    /// The tool, when the rule denies every call of it.
    pub fn whole_tool(&self) -> Option<&str> {
        matches!(self.matcher, Matcher::Whole).then_some(self.tool.as_str())
    }

    /// Whether the rule denies a call. `work_tree` is the absolute path that absolute paths in the input are taken from;
    /// paths that lead out of it match no rule.
    pub fn denies(&self, tool: &str, input: &Value, work_tree: &str) -> bool {
        let text = |key: &str| input.get(key).and_then(Value::as_str);
        let same = self.tool == tool || (self.tool == "Edit" && tool == "Write");
        match &self.matcher {
            Matcher::Whole => same,
            Matcher::Prefix(prefix) => {
                same && text("command").is_some_and(|c| segments(c).any(|s| begins(&squeeze(s), prefix)))
            }
            Matcher::Command(pattern) => {
                same && text("command").is_some_and(|c| {
                    pattern.is_match(&squeeze(c)) || segments(c).any(|s| pattern.is_match(&squeeze(s)))
                })
            }
            Matcher::Path(pattern) => {
                let looks = self.tool == "Read" && matches!(tool, "Grep" | "Glob");
                let given = match tool {
                    "Read" | "Edit" | "Write" if same => text("file_path"),
                    "Grep" | "Glob" if looks => text("path"),
                    _ => None,
                };
                given.and_then(|p| inside(p, work_tree)).is_some_and(|p| pattern.is_match(&p))
            }
            Matcher::Unknown => false,
        }
    }
}

fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build().ok()
}

fn command(what: &str) -> Matcher {
    if let Some(prefix) = what.strip_suffix(":*") {
        return Matcher::Prefix(squeeze(prefix));
    }
    let parts: Vec<String> = squeeze(what).split('*').map(regex::escape).collect();
    compile(&format!("(?s)^{}$", parts.join(".*"))).map_or(Matcher::Unknown, Matcher::Command)
}

/// A path pattern of the kind that `.gitignore` has.
fn path(what: &str) -> Matcher {
    if what.starts_with("//") || what.starts_with('~') || what.contains(['[', '{', '!', '\\']) {
        return Matcher::Unknown;
    }
    let rest = what.trim_start_matches("./").trim_start_matches('/');
    let anchored = rest.len() < what.len() || rest.trim_end_matches('/').contains('/');
    let mut pattern = if anchored { "^".to_owned() } else { "^(?:.*/)?".to_owned() };
    let mut parts = rest.trim_end_matches('/').split('/').peekable();
    while let Some(part) = parts.next() {
        let more = parts.peek().is_some();
        match part {
            "**" if more => pattern.push_str("(?:.*/)?"),
            "**" => pattern.push_str(".+"),
            part => {
                for c in part.chars() {
                    match c {
                        '*' => pattern.push_str("[^/]*"),
                        '?' => pattern.push_str("[^/]"),
                        c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                    }
                }
                if more {
                    pattern.push('/');
                }
            }
        }
    }
    // What denies a folder denies what is in it.
    pattern.push_str("(?:/.*)?$");
    compile(&format!("(?s){pattern}")).map_or(Matcher::Unknown, Matcher::Path)
}

/// The path relative to the work tree, without `.` and `..`; `None` when it leads out.
fn inside(path: &str, work_tree: &str) -> Option<String> {
    let relative = match path.strip_prefix('/') {
        None => path,
        Some(_) => {
            let rest = path.strip_prefix(work_tree.trim_end_matches('/'))?;
            if rest.is_empty() { "" } else { rest.strip_prefix('/')? }
        }
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn segments(command: &str) -> impl Iterator<Item = &str> {
    command.split(['&', '|', ';', '\n'])
}

fn begins(command: &str, prefix: &str) -> bool {
    command.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(text: &str) -> DenyRule {
        text.parse().unwrap()
    }

    fn bash(rule_text: &str, command: &str) -> bool {
        rule(rule_text).denies("Bash", &json!({ "command": command }), "/work")
    }

    fn file(rule_text: &str, tool: &str, path: &str) -> bool {
        rule(rule_text).denies(tool, &json!({ "file_path": path, "path": path }), "/work/")
    }

    #[test]
    fn commands_are_denied_by_prefix_pattern_and_whole() {
        for denied in ["git push", "git  push origin", "make && git push", "a | b; git push -f", "x &\ngit push"] {
            assert!(bash("Bash(git push:*)", denied), "{denied}");
        }
        for fine in ["git pushx", "echo git push", "git pull"] {
            assert!(!bash("Bash(git push:*)", fine), "{fine}");
        }
        assert!(bash("Bash(rm * /)", "rm -rf /") && !bash("Bash(rm * /)", "rm -rf /tmp"));
        assert!(bash("Bash(make)", " make ") && !bash("Bash(make)", "make test"));
        assert!(bash("Bash", "anything") && bash("Bash(*)", "anything") && !bash("WebFetch", "x"));
    }

    #[test]
    fn paths_are_matched_as_gitignore_does() {
        for (pattern, path) in [
            ("./secrets/**", "secrets/a/b"),
            ("secrets/**", "/work/secrets/a"),
            (".env", "deep/down/.env"),
            ("*.pem", "a/x.pem"),
            ("**/keys/*.txt", "keys/a.txt"),
            ("**/keys/*.txt", "a/b/keys/a.txt"),
            ("/config", "config/x/y"),
            ("build/", "a/build/out"),
            (".env", "x/../.env"),
            ("a?c", "abc"),
        ] {
            assert!(file(&format!("Read({pattern})"), "Read", path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("./secrets/**", "a/secrets/b"),
            (".env", "env"),
            ("*.pem", "x.pem.txt"),
            ("/config", "a/config"),
            (".env", "/elsewhere/.env"),
            (".env", "../.env"),
            (".env", "/workshop/.env"),
        ] {
            assert!(!file(&format!("Read({pattern})"), "Read", path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_rule_covers_the_tools_that_do_the_same() {
        assert!(file("Edit(*.lock)", "Write", "Cargo.lock") && !file("Edit(*.lock)", "Read", "Cargo.lock"));
        assert!(file("Read(.env)", "Grep", ".env") && !file("Read(.env)", "Edit", ".env"));
        assert!(
            rule("Edit").denies("Write", &json!({}), "/work") && !rule("Write").denies("Edit", &json!({}), "/work")
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_and_what_has_no_effect_says_so() {
        for bad in ["", "(x)", "Bash(x", "Bash x(y)", &"x".repeat(501)] {
            assert!(bad.parse::<DenyRule>().is_err(), "{bad}");
        }
        assert_eq!(
            "Bash(x".parse::<DenyRule>().unwrap_err().to_string(),
            "`Bash(x` is not a rule: write `Tool` or `Tool(what)`"
        );
        for idle in ["WebFetch(domain:x.y)", "Read(~/.ssh/**)", "Read(//etc/passwd)", "Read(a[bc])"] {
            assert!(!rule(idle).is_enforced(), "{idle}");
        }
        assert!(rule("mcp__x__y").is_enforced());
    }
}
