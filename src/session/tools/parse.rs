//! From a model's call to a [`ToolRequest`], with errors that tell the model what to change.

use abca_core::Millis;
use abca_core::model::{ToolCall, ToolInput};
use serde_json::{Map, Value};

use super::request::{
    BashArgs, BashOutputArgs, EditArgs, GlobArgs, GrepArgs, GrepMode, KillShellArgs, ReadArgs, Todo, TodoWriteArgs,
    ToolRequest, WebFetchArgs, WriteArgs,
};
use super::spec::{NAMES, names};
use super::{DEFAULT_TIMEOUT_MS, MAX_COMMAND_BYTES, MAX_CONTENT_BYTES, MAX_TIMEOUT_MS, read, text};

/// Longest path or pattern, in bytes.
const MAX_PATH_BYTES: usize = 4_096;
/// Most entries of a todo list.
const MAX_TODOS: usize = 200;
/// Most context lines of `Grep`.
const MAX_CONTEXT: u64 = 1_000;

/// Reads a call of any tool.
///
/// # Errors
/// A text for the model: which tool or argument is wrong, how, and what would be right.
pub fn parse(call: &ToolCall) -> Result<ToolRequest, String> {
    among(call, &NAMES)
}

/// Reads a call of a tool that [`super::specs`] offers for `allowed`; any other one is unknown.
///
/// # Errors
/// As [`parse`].
pub fn parse_allowed(call: &ToolCall, allowed: &[String]) -> Result<ToolRequest, String> {
    among(call, &names(allowed))
}

fn among(call: &ToolCall, known: &[&str]) -> Result<ToolRequest, String> {
    let name = call.name.as_str();
    if !known.contains(&name) {
        let name = text::quoted(name, 100);
        return Err(format!("there is no tool {name}; the tools are {}", known.join(", ")));
    }
    let map = match &call.input {
        ToolInput::Json(Value::Object(map)) => map,
        ToolInput::Json(other) => {
            return Err(format!("the arguments of `{name}` have to be a JSON object, not {}", kind(other)));
        }
        ToolInput::Invalid { raw, error } => {
            let error = text::quoted(error, 300);
            let size = raw.len();
            return Err(format!(
                "the arguments of `{name}` are not valid JSON ({error}, in {size} bytes); repeat the call with one JSON object"
            ));
        }
    };
    let mut a = Args { tool: name, map, seen: Vec::new() };
    let request = match name {
        "Bash" => ToolRequest::Bash(bash(&mut a)?),
        "BashOutput" => ToolRequest::BashOutput(BashOutputArgs { bash_id: a.string("bash_id", 100)? }),
        "KillShell" => ToolRequest::KillShell(KillShellArgs { shell_id: a.string("shell_id", 100)? }),
        "Read" => ToolRequest::Read(ReadArgs {
            file_path: a.string("file_path", MAX_PATH_BYTES)?,
            offset: a.number("offset")?.unwrap_or(1).max(1),
            limit: a.number("limit")?.unwrap_or(read::DEFAULT_LINES).max(1),
        }),
        "Write" => ToolRequest::Write(WriteArgs {
            file_path: a.string("file_path", MAX_PATH_BYTES)?,
            content: a.text("content", MAX_CONTENT_BYTES)?,
        }),
        "Edit" => ToolRequest::Edit(edit(&mut a)?),
        "Glob" => ToolRequest::Glob(GlobArgs {
            pattern: a.string("pattern", MAX_PATH_BYTES)?,
            path: a.optional("path", MAX_PATH_BYTES)?,
        }),
        "Grep" => ToolRequest::Grep(grep(&mut a)?),
        "WebFetch" => {
            // Models know it; nobody reads the page for them here.
            let _said = a.optional("prompt", 10_000)?;
            ToolRequest::WebFetch(WebFetchArgs {
                url: a.string("url", MAX_PATH_BYTES)?,
                offset: a.number("offset")?.unwrap_or(0),
            })
        }
        _ => ToolRequest::TodoWrite(todos(&mut a)?),
    };
    a.finish()?;
    Ok(request)
}

fn bash(a: &mut Args<'_>) -> Result<BashArgs, String> {
    let command = a
        .text("command", MAX_COMMAND_BYTES)
        .map_err(|e| if e.contains("longer") { format!("{e}; write a script with `Write` and run that") } else { e })?;
    if command.trim().is_empty() {
        return Err("`command` of `Bash` is empty".into());
    }
    if command.contains('\0') {
        return Err("`command` of `Bash` holds a NUL character, which no command line can".into());
    }
    let timeout = a.number("timeout")?.unwrap_or(DEFAULT_TIMEOUT_MS);
    if !(1..=MAX_TIMEOUT_MS).contains(&timeout) {
        return Err(format!(
            "`timeout` of `Bash` is {timeout}; it is in milliseconds, from 1 to {MAX_TIMEOUT_MS}. For longer commands use `run_in_background`"
        ));
    }
    Ok(BashArgs {
        timeout_ms: Millis(timeout),
        description: a.optional("description", 10_000)?,
        run_in_background: a.flag("run_in_background")?.unwrap_or(false),
        ..BashArgs::new(command)
    })
}

fn edit(a: &mut Args<'_>) -> Result<EditArgs, String> {
    let args = EditArgs {
        file_path: a.string("file_path", MAX_PATH_BYTES)?,
        old_string: a.text("old_string", MAX_CONTENT_BYTES)?,
        new_string: a.text("new_string", MAX_CONTENT_BYTES)?,
        replace_all: a.flag("replace_all")?.unwrap_or(false),
    };
    if args.old_string.is_empty() {
        return Err("`old_string` of `Edit` is empty; to make a file or replace all of it use `Write`".into());
    }
    if args.old_string == args.new_string {
        return Err("`old_string` and `new_string` of `Edit` are the same; nothing would change".into());
    }
    Ok(args)
}

fn grep(a: &mut Args<'_>) -> Result<GrepArgs, String> {
    let mode = match a.optional("output_mode", 100)?.as_deref() {
        None | Some("files_with_matches") => GrepMode::FilesWithMatches,
        Some("content") => GrepMode::Content,
        Some("count") => GrepMode::Count,
        Some(other) => {
            return Err(format!(
                "`output_mode` of `Grep` is {}; it is one of content, files_with_matches, count",
                text::quoted(other, 100)
            ));
        }
    };
    let both = a.number("-C")?.or(a.number("context")?);
    Ok(GrepArgs {
        pattern: a.string("pattern", MAX_PATH_BYTES)?,
        path: a.optional("path", MAX_PATH_BYTES)?,
        glob: a.optional("glob", MAX_PATH_BYTES)?,
        file_type: a.optional("type", 100)?,
        mode,
        ignore_case: a.flag("-i")?.unwrap_or(false),
        line_numbers: a.flag("-n")?.unwrap_or(true),
        before: a.number("-B")?.or(both).unwrap_or(0).min(MAX_CONTEXT),
        after: a.number("-A")?.or(both).unwrap_or(0).min(MAX_CONTEXT),
        head_limit: a.number("head_limit")?.unwrap_or(0),
        offset: a.number("offset")?.unwrap_or(0),
        multiline: a.flag("multiline")?.unwrap_or(false),
    })
}

fn todos(a: &mut Args<'_>) -> Result<TodoWriteArgs, String> {
    let Some(list) = a.field("todos") else {
        return Err("`TodoWrite` needs `todos`, an array".into());
    };
    let Value::Array(list) = list else {
        return Err(format!("`todos` of `TodoWrite` has to be an array, not {}", kind(list)));
    };
    if list.len() > MAX_TODOS {
        return Err(format!("`todos` of `TodoWrite` has {} entries, more than {MAX_TODOS}", list.len()));
    }
    let todos: Result<Vec<Todo>, String> = list
        .iter()
        .enumerate()
        .map(|(i, v)| {
            serde_json::from_value(v.clone()).map_err(|e| format!("`todos[{i}]` of `TodoWrite` is wrong: {e}"))
        })
        .collect();
    let todos = todos?;
    for (i, todo) in todos.iter().enumerate() {
        if todo.content.trim().is_empty() {
            return Err(format!("`todos[{i}].content` of `TodoWrite` is empty"));
        }
        if todo.content.len() + todo.active_form.len() > 4_000 {
            return Err(format!("`todos[{i}]` of `TodoWrite` is longer than 4000 bytes"));
        }
    }
    Ok(TodoWriteArgs { todos })
}

/// The arguments of a call. Models write numbers and truth values as strings now and then; that is understood.
struct Args<'a> {
    tool: &'a str,
    map: &'a Map<String, Value>,
    seen: Vec<&'static str>,
}

impl<'a> Args<'a> {
    fn field(&mut self, name: &'static str) -> Option<&'a Value> {
        self.seen.push(name);
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn wrong(&self, name: &str, want: &str, is: &Value) -> String {
        format!("`{name}` of `{}` has to be {want}, not {}", self.tool, kind(is))
    }

    /// May be empty.
    fn text(&mut self, name: &'static str, max_bytes: usize) -> Result<String, String> {
        match self.field(name) {
            None => Err(format!("`{}` needs `{name}`, a string", self.tool)),
            Some(Value::String(s)) if s.len() > max_bytes => Err(format!(
                "`{name}` of `{}` has {} bytes, which is longer than the limit of {max_bytes}",
                self.tool,
                s.len()
            )),
            Some(Value::String(s)) => Ok(s.clone()),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    /// Not empty, no NUL.
    fn string(&mut self, name: &'static str, max_bytes: usize) -> Result<String, String> {
        let s = self.text(name, max_bytes)?;
        if s.is_empty() {
            return Err(format!("`{name}` of `{}` is empty", self.tool));
        }
        if s.contains('\0') {
            return Err(format!("`{name}` of `{}` holds a NUL character", self.tool));
        }
        Ok(s)
    }

    /// Absent and empty are the same.
    fn optional(&mut self, name: &'static str, max_bytes: usize) -> Result<Option<String>, String> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::String(s)) if s.is_empty() => Ok(None),
            Some(_) => self.string(name, max_bytes).map(Some),
        }
    }

    fn number(&mut self, name: &'static str) -> Result<Option<u64>, String> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let number = match value {
            Value::Number(n) => n.as_u64().or_else(|| {
                // 120000.0; the cast is exact for what the conditions let through.
                n.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f)).map(|f| f as u64)
            }),
            Value::String(s) => s.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(name, "a whole number, zero or more", value))
    }

    fn flag(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(Value::String(s)) if s == "true" || s == "false" => Ok(Some(s == "true")),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    fn finish(self) -> Result<(), String> {
        for name in self.map.keys() {
            if !self.seen.contains(&name.as_str()) {
                return Err(format!(
                    "`{}` has no argument {}; it has {}",
                    self.tool,
                    text::quoted(name, 100),
                    self.seen.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the string {}", text::quoted(s, 60)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(name: &str, input: Value) -> Result<ToolRequest, String> {
        parse(&ToolCall { id: "1".into(), name: name.into(), input: ToolInput::Json(input) })
    }

    #[test]
    fn good_calls_are_read_with_their_defaults() {
        assert_eq!(call("Bash", json!({"command": "ls"})), Ok(ToolRequest::Bash(BashArgs::new("ls"))));
        assert_eq!(
            call("Read", json!({"file_path": "a", "offset": "7", "limit": 3.0})),
            Ok(ToolRequest::Read(ReadArgs { file_path: "a".into(), offset: 7, limit: 3 }))
        );
        assert_eq!(
            call("Grep", json!({"pattern": "x", "-C": 2, "-A": 1, "-i": true, "output_mode": "content", "path": null})),
            Ok(ToolRequest::Grep(GrepArgs {
                pattern: "x".into(),
                mode: GrepMode::Content,
                ignore_case: true,
                line_numbers: true,
                before: 2,
                after: 1,
                ..GrepArgs::default()
            }))
        );
        assert!(
            call("TodoWrite", json!({"todos": [{"content": "a", "status": "pending", "activeForm": "b"}]})).is_ok()
        );
    }

    #[test]
    fn bad_calls_say_what_to_change() {
        let big = "x".repeat(2 << 20);
        let table = [
            (
                "Bush",
                json!({}),
                "there is no tool `Bush`; the tools are Bash, BashOutput, KillShell, Read, Write, Edit, Glob, Grep, WebFetch, TodoWrite",
            ),
            ("Bash", json!({}), "`Bash` needs `command`, a string"),
            ("Bash", json!([]), "the arguments of `Bash` have to be a JSON object, not an array"),
            ("Bash", json!({"command": 7}), "`command` of `Bash` has to be a string, not the number 7"),
            (
                "Bash",
                json!({"command": "ls", "cwd": "/"}),
                "`Bash` has no argument `cwd`; it has command, timeout, description, run_in_background",
            ),
            (
                "Bash",
                json!({"command": "ls", "timeout": 600_001}),
                "`timeout` of `Bash` is 600001; it is in milliseconds, from 1 to 600000. For longer commands use `run_in_background`",
            ),
            (
                "Bash",
                json!({"command": "ls", "timeout": -1}),
                "`timeout` of `Bash` has to be a whole number, zero or more, not the number -1",
            ),
            (
                "Bash",
                json!({"command": big}),
                "`command` of `Bash` has 2097152 bytes, which is longer than the limit of 102400; write a script with `Write` and run that",
            ),
            (
                "Write",
                json!({"file_path": "a", "content": big}),
                "`content` of `Write` has 2097152 bytes, which is longer than the limit of 1048576",
            ),
            (
                "Edit",
                json!({"file_path": "a", "old_string": "b", "new_string": "b"}),
                "`old_string` and `new_string` of `Edit` are the same; nothing would change",
            ),
            (
                "Edit",
                json!({"file_path": "a", "old_string": "", "new_string": "b"}),
                "`old_string` of `Edit` is empty; to make a file or replace all of it use `Write`",
            ),
            (
                "Grep",
                json!({"pattern": "a", "output_mode": "lines"}),
                "`output_mode` of `Grep` is `lines`; it is one of content, files_with_matches, count",
            ),
            (
                "TodoWrite",
                json!({"todos": [{"content": "a", "status": "done", "activeForm": "b"}]}),
                "`todos[0]` of `TodoWrite` is wrong: unknown variant `done`, expected one of `pending`, `in_progress`, `completed`",
            ),
        ];
        for (name, input, want) in table {
            assert_eq!(call(name, input), Err(want.to_owned()));
        }
        let invalid = ToolInput::Invalid { raw: "{\"a".into(), error: "EOF while parsing".into() };
        assert_eq!(
            parse(&ToolCall { id: "1".into(), name: "Read".into(), input: invalid }),
            Err("the arguments of `Read` are not valid JSON (`EOF while parsing`, in 3 bytes); repeat the call with one JSON object".into())
        );
    }

    #[test]
    fn a_mebibyte_is_still_written_and_a_tool_that_is_not_offered_is_unknown() {
        assert!(call("Write", json!({"file_path": "a", "content": "x".repeat(1 << 20)})).is_ok());
        let write = ToolCall {
            id: "1".into(),
            name: "Write".into(),
            input: ToolInput::Json(json!({"file_path": "a", "content": ""})),
        };
        assert_eq!(
            parse_allowed(&write, &["Read".to_owned(), "WebFetch".to_owned()]),
            Err("there is no tool `Write`; the tools are Read, WebFetch, TodoWrite".into())
        );
    }
}
