//! The shape of a workflow file, as data: fields, types, ranges; and the walk that compares a file with it.

use serde_json::{Map, Value};

use super::names::{
    DiscoveredConfig, Domain, GateMode, HydrationSource, InputName, LifeCycle, OnFailure, Outcome, PrStrategy,
    StepKind, Tier, VcsProvider,
};
use super::registry::{is_version, split_id};
use super::{Violation, ViolationCode, excerpt};
use crate::money::MicroUsd;
use crate::task::limits;

/// A field of an object.
struct Field {
    name: &'static str,
    required: bool,
    shape: Shape,
}

/// What a value must be.
enum Shape {
    /// A string.
    Text,
    /// A string that the test accepts; the words say which.
    Matching(fn(&str) -> bool, &'static str),
    /// A boolean.
    Flag,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A whole number within [`limits::MAX_TURNS`].
    Turns,
    /// A number of dollars within [`limits::BUDGET`].
    Dollars,
    /// An array.
    List { item: &'static Shape, min: usize, max: usize, unique: bool },
    /// An object with these fields and no other.
    Object(&'static [Field]),
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, required: true, shape }
}

const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { name, required: false, shape }
}

/// An array without repeats.
const fn set(item: &'static Shape, min: usize) -> Shape {
    Shape::List { item, min, max: usize::MAX, unique: true }
}

const WORKFLOW: Shape = Shape::Object(&[
    required(
        "id",
        Shape::Matching(|s| split_id(s).is_some(), "`domain/name-vN` in lower case, e.g. `coding/new-task-v1`"),
    ),
    required("version", Shape::Matching(is_version, "`major.minor.patch`, e.g. `1.0.0`")),
    required("domain", Shape::OneOf(Domain::NAMES)),
    optional("description", Shape::Text),
    optional("guidance", Shape::Text),
    optional("requires_repo", Shape::Flag),
    optional("read_only", Shape::Flag),
    required(
        "prompt",
        Shape::Object(&[required("template", Shape::Text), optional("placeholders", set(&Shape::Text, 0))]),
    ),
    required("hydration", Shape::Object(&[required("sources", set(&Shape::OneOf(HydrationSource::NAMES), 1))])),
    required(
        "agent_config",
        Shape::Object(&[
            required("tier", Shape::OneOf(Tier::NAMES)),
            required("allowed_tools", set(&Shape::Text, 0)),
            optional(
                "model",
                Shape::Object(&[required("id", Shape::Text), optional("allow_task_override", Shape::Flag)]),
            ),
            optional("mcp_servers", set(&Shape::Text, 0)),
            optional("cedar_policy_modules", set(&Shape::Text, 0)),
            optional("skills", set(&Shape::Text, 0)),
            optional("plugins", set(&Shape::Text, 0)),
            optional("subagents", set(&Shape::Text, 0)),
            optional("prompt_fragments", set(&Shape::Text, 0)),
        ]),
    ),
    optional(
        "repo_config",
        Shape::Object(&[
            optional("provider", Shape::OneOf(VcsProvider::NAMES)),
            optional("discover", Shape::Flag),
            optional("ignore", set(&Shape::OneOf(DiscoveredConfig::NAMES), 0)),
        ]),
    ),
    optional(
        "required_inputs",
        Shape::Object(&[
            optional("one_of", set(&Shape::OneOf(InputName::NAMES), 1)),
            optional("all_of", set(&Shape::OneOf(InputName::NAMES), 1)),
        ]),
    ),
    required(
        "steps",
        Shape::List {
            item: &Shape::Object(&[
                required("kind", Shape::OneOf(StepKind::NAMES)),
                optional("name", Shape::Text),
                optional("on_failure", Shape::OneOf(OnFailure::NAMES)),
                optional("strategy", Shape::OneOf(PrStrategy::NAMES)),
                optional("gate", Shape::OneOf(GateMode::NAMES)),
                // Which targets exist is rule 8.
                optional("target", Shape::Text),
            ]),
            min: 1,
            max: usize::MAX,
            unique: false,
        },
    ),
    // Reserved: what follows the agent is a step.
    optional("post_hooks", Shape::List { item: &Shape::Text, min: 0, max: 0, unique: true }),
    required(
        "terminal_outcomes",
        Shape::Object(&[
            required("primary", Shape::OneOf(Outcome::NAMES)),
            optional("secondary", set(&Shape::OneOf(Outcome::NAMES), 0)),
        ]),
    ),
    optional(
        "limits",
        Shape::Object(&[optional("max_turns", Shape::Turns), optional("max_budget_usd", Shape::Dollars)]),
    ),
    optional("promotion_gate", Shape::Object(&[optional("requires", set(&Shape::Text, 1))])),
    required("status", Shape::OneOf(LifeCycle::NAMES)),
]);

/// Every departure of a file from the shape.
pub(super) fn check(file: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    walk(&WORKFLOW, file, "", &mut found);
    found
}

/// Descends along the shape, which is finite, not along the file.
fn walk(shape: &Shape, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let expected = match shape {
        Shape::Object(fields) => match value {
            Value::Object(object) => return walk_object(fields, object, path, found),
            _ => "an object".to_owned(),
        },
        Shape::List { item, min, max, unique } => match value {
            Value::Array(items) => {
                for (i, entry) in items.iter().enumerate() {
                    let at = format!("{path}[{i}]");
                    walk(item, entry, &at, found);
                    if *unique && items.iter().take(i).any(|earlier| earlier == entry) {
                        found.push(Violation::new(ViolationCode::Schema, at, "is there twice: remove one"));
                    }
                }
                if items.len() < *min {
                    found.push(Violation::new(
                        ViolationCode::Schema,
                        path,
                        format!("is too short: give at least {min}"),
                    ));
                }
                if items.len() > *max {
                    found.push(Violation::new(ViolationCode::Schema, path, format!("is too long: give at most {max}")));
                }
                return;
            }
            _ => "a list".to_owned(),
        },
        Shape::Text if value.is_string() => return,
        Shape::Text => "a string".to_owned(),
        Shape::Matching(test, _) if value.as_str().is_some_and(test) => return,
        Shape::Matching(_, words) => (*words).to_owned(),
        Shape::Flag if value.is_boolean() => return,
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::OneOf(names) if value.as_str().is_some_and(|s| names.contains(&s)) => return,
        Shape::OneOf(names) => format!("one of {}", names.join(", ")),
        Shape::Turns if is_turns(value) => return,
        Shape::Turns => format!("a whole number from {} to {}", limits::MAX_TURNS.start(), limits::MAX_TURNS.end()),
        Shape::Dollars if is_budget(value) => return,
        Shape::Dollars => "a number of dollars from 0.01 to 100 with at most six decimals".to_owned(),
    };
    found.push(Violation::new(ViolationCode::Schema, path, format!("is {}: write {expected}", shown(value))));
}

fn walk_object(fields: &[Field], object: &Map<String, Value>, path: &str, found: &mut Vec<Violation>) {
    let at = |name: &str| if path.is_empty() { excerpt(name) } else { format!("{path}.{}", excerpt(name)) };
    for field in fields {
        match object.get(field.name) {
            Some(value) => walk(&field.shape, value, &at(field.name), found),
            None if field.required => {
                found.push(Violation::new(ViolationCode::Schema, at(field.name), "is missing: add it"));
            }
            None => {}
        }
    }
    for name in object.keys().filter(|name| !fields.iter().any(|f| f.name == name.as_str())) {
        found.push(Violation::new(
            ViolationCode::Schema,
            at(name),
            "is not a field here: remove it, or correct its name",
        ));
    }
}

fn is_turns(value: &Value) -> bool {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).is_some_and(|n| limits::MAX_TURNS.contains(&n))
}

fn is_budget(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.to_string().parse::<MicroUsd>().is_ok_and(|m| limits::BUDGET.contains(&m)),
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(s) => format!("`{}`", excerpt(s)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
