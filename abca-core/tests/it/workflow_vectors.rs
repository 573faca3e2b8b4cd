//! The shared corpus of workflow files and their violations (`tests/vectors/README.md`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use abca_core::workflow::{ViolationCode, Workflow, validate};

fn vectors() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/workflow-validation");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

fn codes(file: &Value) -> Vec<&'static str> {
    let codes: BTreeSet<_> = validate(file).into_iter().map(|v| v.code.as_str()).collect();
    codes.into_iter().collect()
}

#[test]
fn every_vector_gives_its_codes() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 20);
    for vector in vectors {
        let file = &vector["workflow"];
        assert_eq!(serde_json::to_value(codes(file)).unwrap(), vector["expected"]["violations"], "{}", vector["name"]);
        assert_eq!(Workflow::from_value(file).is_ok(), vector["expected"]["valid"], "{}", vector["name"]);
    }
}

#[test]
fn a_violation_says_what_where_and_what_to_do() {
    let mut file = valid();
    file["steps"][4]["on_failure"] = "continue".into();
    file["agent_config"]["mcp_servers"] = serde_json::json!(["builtin/jira"]);
    file["limits"]["max_turns"] = 501.into();
    file["color"] = "red".into();
    file["repo_config"]["discover"] = Value::Null;
    let said: Vec<String> = validate(&file).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "schema at repo_config.discover: is null: write `true` or `false`",
            "schema at limits.max_turns: is `501`: write a whole number from 1 to 500",
            "schema at color: is not a field here: remove it, or correct its name",
            "rule-6 at agent_config.mcp_servers: is beyond the tier `standard`: remove it, or set the tier `elevated`",
            "rule-8 at agent_config.mcp_servers[0]: `builtin/jira` does not resolve: use one of `builtin/linear`, or `registry://kind/name`",
            "rule-12 at steps[4].on_failure: `ensure_pr` may not fail unnoticed: use `fail` or `skip_remaining`",
        ]
    );
}

#[test]
fn a_budget_is_judged_as_written() {
    for (budget, ok) in [
        ("0.01", true),
        ("100", true),
        ("2.5", true),
        ("0.009999", false),
        ("100.000001", false),
        ("1.0000001", false),
        ("1e2", true),
        ("\"5\"", false),
        ("-1", false),
    ] {
        let mut file = valid();
        file["limits"]["max_budget_usd"] = serde_json::from_str(budget).unwrap();
        assert_eq!(codes(&file).is_empty(), ok, "{budget}");
    }
}

#[test]
fn anything_but_an_object_is_a_schema_violation() {
    for text in ["null", "3", "[]", "\"coding/new-task-v1\""] {
        assert!(codes(&serde_json::from_str(text).unwrap()).contains(&"schema"), "{text}");
    }
}

fn valid() -> Value {
    vectors().into_iter().find(|v| v["name"] == "valid-coding-new-task").unwrap()["workflow"].clone()
}

/// Every place in a file, as a JSON pointer.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(o) => o.iter().for_each(|(k, v)| places(v, &format!("{at}/{k}"), out)),
        Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The file without what is at a place.
fn without(file: &Value, place: &str) -> Value {
    let mut file = file.clone();
    let (parent, last) = place.rsplit_once('/').unwrap();
    match file.pointer_mut(parent).unwrap() {
        Value::Object(o) => drop(o.remove(last)),
        Value::Array(a) => drop(a.remove(last.parse().unwrap())),
        other => panic!("{other} has no parts"),
    }
    file
}

#[test]
fn whatever_the_types_miss_the_shape_misses() {
    for vector in vectors() {
        let file = &vector["workflow"];
        let mut all = Vec::new();
        places(file, "", &mut all);
        for place in all.iter().filter(|p| !p.is_empty()) {
            let file = without(file, place);
            let readable = serde_json::from_value::<Workflow>(file.clone()).is_ok();
            assert!(readable || codes(&file).contains(&"schema"), "{}: without {place}", vector["name"]);
        }
    }
}

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..600).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()).prop_map(Value::from),
        proptest::sample::select(vec![
            "",
            "create",
            "resolve",
            "strict",
            "s3",
            "comment",
            "read-only",
            "elevated",
            "knowledge",
            "issue",
            "Write",
            "builtin/soft_deny",
            "registry://mcp/x",
            "coding/a-v2",
            "2.0.0",
            "draft",
            "fail",
            "continue",
            "artifact",
        ])
        .prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!(["issue", "issue"])),
        Just(serde_json::json!([{"kind": "run_agent"}])),
    ]
}

proptest! {
    /// The shape checker and the types agree: what has no violation can be read, and survives the wire.
    #[test]
    fn a_file_without_violations_is_a_workflow(
        which in 0usize..20,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), junk()), 0..4),
    ) {
        let mut file = vectors()[which]["workflow"].clone();
        for (place, value) in changes {
            let mut all = Vec::new();
            places(&file, "", &mut all);
            let place: &String = place.get(&all);
            *file.pointer_mut(place).unwrap() = value;
        }
        let found = validate(&file);
        match Workflow::from_value(&file) {
            Ok(workflow) => {
                prop_assert_eq!(&found, &[]);
                let wire = serde_json::to_value(&workflow).unwrap();
                prop_assert_eq!(validate(&wire), &[]);
                prop_assert_eq!(Workflow::from_value(&wire).unwrap(), workflow);
            }
            Err(violations) => {
                prop_assert!(!found.is_empty(), "validated, yet unreadable: {violations:?}");
                prop_assert_eq!(violations, found);
            }
        }
        // Whatever the types refuse, the shape check has found.
        if serde_json::from_value::<Workflow>(file.clone()).is_err() {
            let codes: Vec<_> = validate(&file).into_iter().map(|v| v.code).collect();
            let seen = codes.contains(&ViolationCode::Schema) || codes.contains(&ViolationCode::References);
            prop_assert!(seen, "unseen: {codes:?} in {file}");
        }
    }
}
