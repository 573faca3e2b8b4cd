//! `.claude/settings.json`: what of a project's settings bears on a session.
//!
//! Honoured are `permissions.deny` and `env`. Everything else is passed over and named in [`ProjectSettings::ignored`]:
//! `permissions.allow` cannot grant what the platform does not, and hooks are programs that nobody has looked at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::deny::DenyRule;
use super::markdown::code;

/// Where the settings are, relative to the work tree.
pub const SETTINGS_PATH: &str = ".claude/settings.json";

/// Most rules and variables that are read.
const MOST: usize = 200;

/// What a project asks of sessions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProjectSettings {
    /// Calls that the project does not want, in the file's order.
    pub deny: Vec<DenyRule>,
    /// Variables that the project wants commands to see. Names are checked, values are not: they may only reach the hands.
    pub env: BTreeMap<String, String>,
    /// What is in the file and has no effect here, e.g. `hooks`, in alphabetical order.
    pub ignored: Vec<String>,
    /// Why the file, or a part of it, could not be read; for the model and for people.
    pub problem: Option<String>,
}

impl ProjectSettings {
    /// Reads the settings out of a project's files; without the file there are none.
    ///
    /// Total: what cannot be read is said in [`ProjectSettings::problem`], and the rest still holds.
    pub fn of(files: &[(String, String)]) -> Self {
        match files.iter().find(|(path, _)| path == SETTINGS_PATH) {
            Some((_, text)) => Self::parse(text),
            None => Self::default(),
        }
    }

    /// Reads the file.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        let root = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(root)) => root,
            Ok(_) => {
                out.problem = Some("it is not a JSON object".to_owned());
                return out;
            }
            // The parser's words name a place and what was expected, never the text.
            Err(error) => {
                out.problem = Some(format!("it is not JSON: {error}"));
                return out;
            }
        };
        for (key, value) in &root {
            match (key.as_str(), value) {
                ("permissions", Value::Object(permissions)) => {
                    for (key, value) in permissions {
                        match (key.as_str(), value) {
                            ("deny", Value::Array(rules)) => out.read_rules(rules),
                            ("deny", _) => out.complain("`permissions.deny` is not a list"),
                            _ => out.ignored.push(format!("permissions.{key}")),
                        }
                    }
                }
                ("permissions", _) => out.complain("`permissions` is not an object"),
                ("env", Value::Object(env)) => out.read_env(env),
                ("env", _) => out.complain("`env` is not an object"),
                ("$schema", _) => {}
                _ => out.ignored.push(key.clone()),
            }
        }
        out.ignored.sort();
        out
    }

    /// The rule that denies a call, if one does; see [`DenyRule::denies`].
    pub fn denying(&self, tool: &str, input: &Value, work_tree: &str) -> Option<&DenyRule> {
        self.deny.iter().find(|rule| rule.denies(tool, input, work_tree))
    }

    fn read_rules(&mut self, rules: &[Value]) {
        for rule in rules.iter().take(MOST) {
            match rule.as_str().map(str::parse::<DenyRule>) {
                Some(Ok(rule)) => self.deny.push(rule),
                Some(Err(error)) => self.complain(&error.to_string()),
                None => self.complain("a rule of `permissions.deny` is not a string"),
            }
        }
        if rules.len() > MOST {
            self.complain(&format!("`permissions.deny` has more than {MOST} rules; the others have no effect"));
        }
    }

    fn read_env(&mut self, env: &serde_json::Map<String, Value>) {
        for (name, value) in env.iter().take(MOST) {
            let fine = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            match value {
                Value::String(value) if fine && !value.contains('\0') => {
                    self.env.insert(name.clone(), value.clone());
                }
                _ => self.complain("a variable of `env` has no usable name or no string as its value"),
            }
        }
        if env.len() > MOST {
            self.complain(&format!("`env` has more than {MOST} variables; the others have no effect"));
        }
    }

    fn complain(&mut self, what: &str) {
        if self.problem.is_none() {
            self.problem = Some(what.to_owned());
        }
    }

    /// The section of the system prompt; empty when there is nothing to say. Values of variables are not shown.
    pub(super) fn section(&self) -> String {
        let mut out = String::new();
        if !self.deny.is_empty() {
            out.push_str("Calls that the project denies. Do not make them, and do not work around them:\n\n");
            for rule in &self.deny {
                out.push_str(&format!("- {}\n", code(rule.as_str(), 200)));
            }
            out.push('\n');
        }
        if !self.env.is_empty() {
            let names: Vec<String> = self.env.keys().map(|n| code(n, 100)).collect();
            out.push_str(&format!(
                "Your commands see these environment variables of the file: {}.\n\n",
                names.join(", ")
            ));
        }
        if !self.ignored.is_empty() {
            let names: Vec<String> = self.ignored.iter().take(50).map(|n| code(n, 100)).collect();
            out.push_str(&format!("Without effect in this session: {}.\n\n", names.join(", ")));
        }
        if let Some(problem) = &self.problem {
            out.push_str(&format!("Part of the file could not be read: {}.\n\n", crate::text::preview(problem, 300)));
        }
        if out.is_empty() {
            return out;
        }
        format!("## Settings of this project (`{SETTINGS_PATH}`)\n\n{out}")
    }
}

/// The tools that a project denies altogether, each with its rule. For rules about some calls of a tool, and that is most
/// of them, ask [`ProjectSettings::denying`].
pub fn denied_tools(files: &[(String, String)]) -> Vec<(String, String)> {
    let whole = |rule: DenyRule| rule.whole_tool().map(|tool| (tool.to_owned(), rule.as_str().to_owned()));
    ProjectSettings::of(files).deny.into_iter().filter_map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bears_is_read_and_the_rest_is_named() {
        let text = r#"{
            "$schema": "x", "model": "opus", "hooks": {"Stop": []},
            "permissions": {"allow": ["Bash"], "deny": ["WebFetch", "Bash(git push:*)"]},
            "env": {"CI": "1", "TOKEN": "hunter2"}
        }"#;
        let files = [(SETTINGS_PATH.to_owned(), text.to_owned())];
        let got = ProjectSettings::of(&files);
        assert_eq!(got.deny.iter().map(DenyRule::as_str).collect::<Vec<_>>(), ["WebFetch", "Bash(git push:*)"]);
        assert_eq!(got.ignored, ["hooks", "model", "permissions.allow"]);
        assert_eq!((got.env.len(), &got.problem), (2, &None));
        assert_eq!(denied_tools(&files), [("WebFetch".to_owned(), "WebFetch".to_owned())]);
        let want = "## Settings of this project (`.claude/settings.json`)\n\n\
                    Calls that the project denies. Do not make them, and do not work around them:\n\n\
                    - `WebFetch`\n- `Bash(git push:*)`\n\n\
                    Your commands see these environment variables of the file: `CI`, `TOKEN`.\n\n\
                    Without effect in this session: `hooks`, `model`, `permissions.allow`.\n\n";
        assert_eq!(got.section(), want);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_holds() {
        let problem = |text: &str| ProjectSettings::parse(text).problem.unwrap_or_default();
        assert_eq!(problem("{,"), "it is not JSON: key must be a string at line 1 column 2");
        assert_eq!(problem("[]"), "it is not a JSON object");
        assert_eq!(
            problem(r#"{"env": {"A=B": "x"}}"#),
            "a variable of `env` has no usable name or no string as its value"
        );
        let half = ProjectSettings::parse(r#"{"permissions": {"deny": [7, "Edit"]}}"#);
        assert_eq!((half.deny.len(), half.problem.is_some()), (1, true));
        assert_eq!(ProjectSettings::parse("{}").section(), "");
        assert_eq!(ProjectSettings::of(&[]), ProjectSettings::default());
    }
}
