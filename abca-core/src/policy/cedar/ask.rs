//! A tool call as questions for Cedar: one for the call, one for each command, file, host and ref in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::mcp;
use crate::mcp::tool_of;
use crate::policy::facts::{Facts, PathUse, Use, host_of_url};
use crate::policy::shell::{Limits, Problem, analyse};
use crate::policy::{PathResolver, PolicyError, PolicyErrorKind, PolicyRequest, ResolvedPath};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Attribute {
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// Texts, each once.
    Set(BTreeSet<String>),
}

impl std::fmt::Display for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::Text(text) => f.write_str(text),
            Self::Set(set) => write!(f, "[{}]", set.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// What Cedar is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Question {
    /// The action, e.g. `execute_bash`.
    pub action: &'static str,
    /// The resource's id: a tool's name, or the sentinel of the action.
    #[serde(skip)]
    pub resource: (&'static str, String),
    /// The part of the call that it is about; empty for the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// The file that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Attributes beside those that every question has.
    pub attributes: BTreeMap<&'static str, Attribute>,
}

/// A call, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    /// What is asked, each once.
    pub asked: Vec<Question>,
    /// Why a command line is not understood.
    pub problems: Vec<Problem>,
}

const FILE: (&str, &str) = ("File", "file");

fn text(value: impl Into<String>) -> Attribute {
    Attribute::Text(value.into())
}

/// A call's questions. Asks `paths` once, for all of them.
pub(super) async fn questions(request: &PolicyRequest, paths: &dyn PathResolver) -> Result<Questions, PolicyError> {
    let mut out = Questions::default();
    out.asked.push(Question {
        action: "invoke_tool",
        resource: ("Tool", request.tool.clone()),
        part: String::new(),
        path: None,
        attributes: BTreeMap::from([("tool", text(&request.tool))]),
    });
    let input = |key: &str| request.input.get(key).and_then(Value::as_str);
    let named = |used, key: &str| {
        input(key).map(|path| PathUse { used, path: path.to_owned(), recursive: false }).into_iter().collect::<Vec<_>>()
    };
    match request.tool.as_str() {
        "Bash" => bash(request, input("command").unwrap_or_default(), paths, &mut out).await?,
        "Write" | "Edit" => files(request, named(Use::Write, "file_path"), paths, &mut out).await?,
        "Read" => files(request, named(Use::Read, "file_path"), paths, &mut out).await?,
        "WebFetch" => out.asked.extend(input("url").and_then(host_of_url).map(|host| Question {
            action: "connect",
            resource: ("Host", "host".to_owned()),
            part: String::new(),
            path: None,
            attributes: BTreeMap::from([("host", text(host)), ("program", text("WebFetch"))]),
        })),
        "Glob" | "Grep" => files(request, named(Use::Read, "path"), paths, &mut out).await?,
        name => {
            if let Some((server, tool)) = tool_of(name) {
                let called = mcp::Arguments::of(&request.input);
                out.asked.push(called.question(server, tool, &request.input));
                files(request, called.files(), paths, &mut out).await?;
            }
        }
    }
    let mut seen = BTreeSet::new();
    out.asked.retain(|q| seen.insert(q.clone()));
    Ok(out)
}

/// A file that a tool names.
async fn files(
    request: &PolicyRequest,
    used: Vec<PathUse>,
    paths: &dyn PathResolver,
    out: &mut Questions,
) -> Result<(), PolicyError> {
    let resolved = Resolved::of(used.iter().map(|u| u.path.clone()).collect(), paths).await?;
    for one in used {
        out.asked.extend(resolved.question(&one, "", "", &request.tool));
    }
    Ok(())
}

async fn bash(
    request: &PolicyRequest,
    command: &str,
    paths: &dyn PathResolver,
    out: &mut Questions,
) -> Result<(), PolicyError> {
    let script = analyse(command, Limits::default());
    let facts: Vec<Facts> = script.commands.iter().map(|c| Facts::of(c, &request.branch)).collect();
    let named = facts.iter().flat_map(|f| f.paths.iter().map(|p| p.path.clone())).collect();
    let resolved = Resolved::of(named, paths).await?;
    let unparsed = !script.problems.is_empty();
    out.problems.clone_from(&script.problems);
    out.asked.push(execution(command, true, unparsed, &Facts::default(), &[], &resolved));
    for (simple, facts) in script.commands.iter().zip(&facts) {
        let part = simple.normal_form();
        out.asked.push(execution(&part, false, false, facts, &simple.via, &resolved));
        for used in &facts.paths {
            out.asked.extend(resolved.question(used, &part, &facts.program, "Bash"));
        }
        for host in &facts.hosts {
            out.asked.push(Question {
                action: "connect",
                resource: ("Host", "host".to_owned()),
                part: part.clone(),
                path: None,
                attributes: BTreeMap::from([("host", text(host)), ("program", text(&facts.program))]),
            });
        }
        if let Some(git) = facts.git.as_ref().filter(|g| matches!(g.operation.as_str(), "push" | "send-pack")) {
            let every = git.all_refs.then(|| "*".to_owned());
            for target in git.refs.iter().cloned().chain(every) {
                let own = !request.branch.is_empty() && target == request.branch;
                out.asked.push(Question {
                    action: "push_ref",
                    resource: ("Ref", "ref".to_owned()),
                    part: part.clone(),
                    path: None,
                    attributes: BTreeMap::from([
                        ("ref", text(target)),
                        ("remote", text(&git.remote)),
                        ("own", Attribute::Bool(own)),
                        ("force", Attribute::Bool(git.force)),
                        ("deletes", Attribute::Bool(git.deletes)),
                    ]),
                });
            }
        }
    }
    Ok(())
}

fn execution(
    command: &str,
    whole: bool,
    unparsed: bool,
    facts: &Facts,
    via: &[&'static str],
    resolved: &Resolved,
) -> Question {
    let git = facts.git.clone().unwrap_or_default();
    let bool = Attribute::Bool;
    let paths = |used| {
        let of = facts.paths.iter().filter(|p| p.used == used).map(|p| resolved.path(&p.path).path.clone());
        Attribute::Set(of.collect())
    };
    let operation = if git.operation == "send-pack" { "push" } else { git.operation.as_str() };
    Question {
        action: "execute_bash",
        resource: ("BashCommand", "command".to_owned()),
        part: if whole { String::new() } else { command.to_owned() },
        path: None,
        attributes: BTreeMap::from([
            ("command", text(command)),
            ("whole", bool(whole)),
            ("unparsed", bool(unparsed)),
            ("program", text(&facts.program)),
            ("subcommand", text(&facts.subcommand)),
            ("flags", Attribute::Set(facts.flags.clone())),
            ("arguments", Attribute::Set(facts.arguments.iter().cloned().collect())),
            ("via", Attribute::Set(via.iter().map(|v| (*v).to_owned()).collect())),
            ("unknown", bool(facts.unknown)),
            ("target_unknown", bool(facts.target_unknown)),
            ("opaque", bool(facts.opaque)),
            ("publishes", bool(facts.publishes)),
            ("privileged", bool(facts.privileged)),
            ("drops", bool(facts.drops)),
            ("git_operation", text(operation)),
            ("force", bool(git.force)),
            ("deletes_ref", bool(git.deletes)),
            ("all_refs", bool(git.all_refs)),
            ("refs", Attribute::Set(git.refs)),
            ("remote", text(git.remote)),
            ("rewrites", bool(git.rewrites)),
            ("git_config", Attribute::Set(git.dangerous_config)),
            ("hosts", Attribute::Set(facts.hosts.clone())),
            ("paths_read", paths(Use::Read)),
            ("paths_written", paths(Use::Write)),
            ("paths_deleted", paths(Use::Delete)),
        ]),
    }
}

/// Where the paths of a call lead.
#[derive(Debug)]
struct Resolved {
    known: BTreeMap<String, ResolvedPath>,
    home: String,
    above: String,
}

impl Resolved {
    async fn of(named: BTreeSet<String>, paths: &dyn PathResolver) -> Result<Self, PolicyError> {
        if named.is_empty() {
            return Ok(Self { known: BTreeMap::new(), home: String::new(), above: String::new() });
        }
        let mut asked = named;
        asked.insert("~".to_owned());
        asked.insert("..".to_owned());
        let asked: Vec<String> = asked.into_iter().collect();
        let resolved = paths.resolve(&asked).await?;
        if resolved.len() != asked.len() {
            let what = format!("{} paths were asked for and {} answered", asked.len(), resolved.len());
            return Err(PolicyError::new(PolicyErrorKind::Unavailable, "resolve", what));
        }
        let known: BTreeMap<String, ResolvedPath> = asked.into_iter().zip(resolved).collect();
        let of = |name: &str| known.get(name).map(|p| p.path.clone()).unwrap_or_default();
        Ok(Self { home: of("~"), above: of(".."), known })
    }

    fn path(&self, name: &str) -> ResolvedPath {
        self.known.get(name).cloned().unwrap_or_else(|| ResolvedPath { path: name.to_owned(), looked: false })
    }

    /// Whether everything there is in a folder that must not go: of the system, the home, above the work tree.
    fn wipes(&self, path: &str) -> bool {
        let mut folder = path;
        while let Some((before, last)) = folder.rsplit_once('/') {
            if !matches!(last, "*" | ".*" | "**") {
                break;
            }
            folder = before;
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        let depth = folder.split('/').filter(|p| !p.is_empty()).count();
        let absolute = folder.starts_with('/');
        let above = self.above == folder || self.above.starts_with(&format!("{}/", folder.trim_end_matches('/')));
        absolute && (depth == 0 || (depth == 1 && (folder != "/tmp" || path == folder)) || folder == self.home || above)
    }

    fn question(&self, used: &PathUse, part: &str, program: &str, tool: &str) -> Vec<Question> {
        // The path as it is written counts too: a link of that name is what is written or deleted itself.
        let resolved = self.path(&used.path);
        let mut names = BTreeSet::from([resolved.path]);
        let letters = used.path.trim_start_matches("./");
        if !letters.starts_with(['/', '~']) && !letters.split('/').any(|p| p == "..") {
            names.insert(if letters.is_empty() { ".".to_owned() } else { letters.to_owned() });
        }
        let ask = |path: String| {
            let lower = path.to_lowercase();
            let name = lower.rsplit('/').next().unwrap_or_default().to_owned();
            Question {
                action: match used.used {
                    Use::Read => "read_file",
                    Use::Write => "write_file",
                    Use::Delete => "delete_file",
                },
                resource: (FILE.0, FILE.1.to_owned()),
                part: part.to_owned(),
                attributes: BTreeMap::from([
                    ("inside", Attribute::Bool(!path.starts_with('/') && !path.starts_with('~'))),
                    ("recursive", Attribute::Bool(used.recursive)),
                    ("wipes", Attribute::Bool(self.wipes(&path))),
                    ("program", text(program)),
                    ("tool", text(tool)),
                    ("lower", text(lower)),
                    ("file_name", text(name)),
                    ("file_path", text(&path)),
                ]),
                path: Some(path),
            }
        };
        names.into_iter().map(ask).collect()
    }
}
