//! The arguments of an MCP call, as far as letters tell what they are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ask::{Attribute, Question};
use crate::policy::facts::{PathUse, Use};
use crate::text::clip_middle;

/// Most arguments that are looked at, and how deep.
const ARGUMENTS: usize = 256;
const DEPTH: usize = 8;
/// Longest text of one, and of all.
const VALUE_CHARS: usize = 2_000;
const INPUT_CHARS: usize = 32_000;
/// Names of arguments that say where a file is; compared without case and without `_` and `-`.
const PATHS: [&str; 22] = [
    "path",
    "paths",
    "file",
    "files",
    "filepath",
    "filepaths",
    "filename",
    "directory",
    "dir",
    "folder",
    "root",
    "cwd",
    "uri",
    "source",
    "sourcepath",
    "src",
    "destination",
    "destinationpath",
    "dest",
    "dst",
    "target",
    "targetpath",
];

/// Arguments, flattened.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    keys: BTreeSet<String>,
    values: BTreeSet<String>,
    paths: BTreeSet<String>,
    /// There is more than was looked at.
    unknown: bool,
}

impl Arguments {
    pub(super) fn of(input: &Value) -> Self {
        let mut out = Self::default();
        out.look("", "", input, DEPTH);
        out
    }

    fn look(&mut self, at: &str, name: &str, value: &Value, depth: usize) {
        let Some(depth) = depth.checked_sub(1).filter(|_| self.values.len() < ARGUMENTS) else {
            self.unknown = true;
            return;
        };
        let leaf = match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    self.keys.insert(at.clone());
                    self.look(&at, key, inner, depth);
                }
                return;
            }
            Value::Array(items) => return items.iter().for_each(|item| self.look(at, name, item, depth)),
            Value::String(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        if value.is_string() && !leaf.is_empty() && says_where(name) {
            self.paths.insert(local(&leaf));
        }
        self.values.insert(format!("{at}={}", clip_middle(&leaf, VALUE_CHARS)));
    }

    pub(super) fn question(&self, server: &str, tool: &str, input: &Value) -> Question {
        let text = |t: &str| Attribute::Text(t.to_owned());
        Question {
            action: "call_mcp",
            resource: ("McpTool", format!("{server}/{tool}")),
            part: String::new(),
            path: None,
            attributes: BTreeMap::from([
                ("server", text(server)),
                ("tool", text(tool)),
                ("keys", Attribute::Set(self.keys.clone())),
                ("values", Attribute::Set(self.values.clone())),
                ("unknown", Attribute::Bool(self.unknown)),
                ("input", Attribute::Text(clip_middle(&input.to_string(), INPUT_CHARS))),
            ]),
        }
    }

    /// The files that it names. What the tool does with them is not known, so both count.
    pub(super) fn files(&self) -> Vec<PathUse> {
        let both =
            |path: &String| [Use::Read, Use::Write].map(|used| PathUse { used, path: path.clone(), recursive: false });
        self.paths.iter().flat_map(both).collect()
    }
}

fn says_where(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    PATHS.contains(&plain.as_str())
}

/// `file:///a` is `/a`; other addresses stay what they are.
fn local(path: &str) -> String {
    path.strip_prefix("file://").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_flattened_and_files_found_in_every_spelling() {
        let found = Arguments::of(&json!({
            "filePath": "a.rs", "edits": [{"target_path": "file:///etc/passwd", "n": 1}], "text": "hi", "path": "", "ok": true
        }));
        let set = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(found.keys, set(&["filePath", "edits", "edits.target_path", "edits.n", "text", "path", "ok"]));
        let values =
            ["filePath=a.rs", "edits.target_path=file:///etc/passwd", "edits.n=1", "text=hi", "path=", "ok=true"];
        assert_eq!(found.values, set(&values));
        assert_eq!(found.paths, set(&["a.rs", "/etc/passwd"]));
    }

    #[test]
    fn a_call_without_end_is_looked_at_in_part() {
        let wide: Vec<Value> = (0..10_000).map(|n| json!({"path": format!("p{n}")})).collect();
        let wide = Arguments::of(&json!(wide));
        assert_eq!((wide.values.len(), wide.unknown), (ARGUMENTS, true));
        let deep = Arguments::of(&(0..100).fold(json!("x"), |inner, _| json!([inner])));
        assert!(deep.values.is_empty() && deep.unknown);
    }
}
