//! Scopes that a submission may approve in advance (`behaviour.md` 6.8).

use std::fmt;
use std::str::FromStr;

use super::limits;
use crate::mcp::tool_of;
use crate::workflow::excerpt;

/// What a human approves before the task starts.
///
/// The reference also takes `this_call`, `tool_type_session` and `tool_group_session` here and then fails or ignores
/// them: they speak of a call that has not been made. They are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InitialScope {
    /// `all_session`: everything that would be asked.
    AllSession,
    /// `tool_type:<tool>`: every call of one tool.
    ToolType(String),
    /// `tool_group:file_write`: Write and Edit.
    FileWrite,
    /// `bash_pattern:<glob>`: commands that match.
    BashPattern(String),
    /// `write_path:<glob>`: files that match.
    WritePath(String),
    /// `rule:<id>`: whatever one rule would ask.
    Rule(String),
}

/// Tools that a scope can name.
const TOOLS: [&str; 8] = ["Bash", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "Task"];

/// A text is no scope that can be approved in advance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{scope}` {problem}")]
pub struct InvalidScope {
    /// The text, cut.
    pub scope: String,
    /// What is wrong and what to do.
    pub problem: &'static str,
}

impl FromStr for InitialScope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let bad = |problem| Err(InvalidScope { scope: excerpt(text), problem });
        if text.chars().count() > limits::INITIAL_APPROVAL_CHARS {
            return bad("is longer than 128 characters: shorten it");
        }
        let pattern = |glob: &str| match glob.chars().count() {
            0..=2 => Err("is too wide: give a pattern of more than 2 characters"),
            length => match glob.chars().filter(|c| matches!(c, '*' | '?')).count() {
                wild if wild.saturating_mul(2) > length => {
                    Err("is too wide: at most half of a pattern may be wildcards")
                }
                _ => Ok(glob.to_owned()),
            },
        };
        let parsed = match text.split_once(':') {
            None => match text {
                "all_session" => Ok(Self::AllSession),
                "this_call" | "tool_type_session" | "tool_group_session" => {
                    Err("speaks of a call that has not been made: name the tool, the pattern or the rule")
                }
                _ => Err(
                    "is not a scope: write all_session, tool_type:, tool_group:, bash_pattern:, write_path: or rule:",
                ),
            },
            Some(("tool_type", tool)) if TOOLS.contains(&tool) || tool_of(tool).is_some() => {
                Ok(Self::ToolType(tool.to_owned()))
            }
            Some(("tool_type", _)) => {
                Err("names no tool: use Bash, Read, Write, Edit, Glob, Grep, WebFetch, Task or mcp__server__tool")
            }
            Some(("tool_group", "file_write")) => Ok(Self::FileWrite),
            Some(("tool_group", _)) => Err("names no group: use file_write"),
            Some(("bash_pattern", glob)) => pattern(glob).map(Self::BashPattern),
            Some(("write_path", glob)) => pattern(glob).map(Self::WritePath),
            Some(("rule", id))
                if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) =>
            {
                Ok(Self::Rule(id.to_owned()))
            }
            Some(("rule", _)) => Err("names no rule: use its id, of letters, digits, `_` and `-`"),
            Some(_) => {
                Err("is not a scope: write all_session, tool_type:, tool_group:, bash_pattern:, write_path: or rule:")
            }
        };
        parsed.or_else(bad)
    }
}

impl fmt::Display for InitialScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllSession => f.write_str("all_session"),
            Self::ToolType(tool) => write!(f, "tool_type:{tool}"),
            Self::FileWrite => f.write_str("tool_group:file_write"),
            Self::BashPattern(glob) => write!(f, "bash_pattern:{glob}"),
            Self::WritePath(glob) => write!(f, "write_path:{glob}"),
            Self::Rule(id) => write!(f, "rule:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_and_wide_or_unknown_ones_are_refused() {
        for text in [
            "all_session",
            "tool_type:Bash",
            "tool_group:file_write",
            "bash_pattern:git push *",
            "write_path:src/**",
            "rule:force_push_any",
        ] {
            assert_eq!(text.parse::<InitialScope>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "this_call",
            "tool_type_session",
            "tool_group_session",
            "tool_type:",
            "tool_type:bash",
            "tool_group:x",
            "bash_pattern:",
            "bash_pattern:*",
            "bash_pattern:ls",
            "bash_pattern:****",
            "write_path:a***",
            "rule:",
            "rule:a b",
            "everything",
            "x:y",
        ] {
            assert!(text.parse::<InitialScope>().is_err(), "{text}");
        }
        assert!(format!("bash_pattern:{}", "x".repeat(115)).parse::<InitialScope>().is_ok());
        assert!(format!("bash_pattern:{}", "x".repeat(116)).parse::<InitialScope>().is_err());
    }
}
