//! What the engine leaves out (policies that cannot speak, attributes that none looks at) changes no decision: every
//! question is put to Cedar once more, with all policies and everything that is known.

use std::collections::BTreeSet;
use std::str::FromStr;

use abca_core::policy::cedar::{Attribute, CedarPolicy};
use abca_core::policy::{LexicalPaths, PolicyOrigin, PolicyRequest, PolicySettings, PolicySource, RuleMode};
use cedar_policy::{
    Authorizer, Context, Entities, EntityUid, Policy, PolicyId, PolicySet, Request, RestrictedExpression,
};
use serde_json::json;

use super::{now, request};

/// Policies of every shape that the engine treats by itself.
const MINE: &str = r#"
@tier("soft") @rule_id("flag_first") forbid (principal, action, resource) when { context.tainted && context.repo like "owner/*" };
@tier("soft") @rule_id("flag_last")
forbid (principal, action == Agent::Action::"execute_bash", resource) when { context.program == "git" && context.force };
@tier("soft") @rule_id("flag_denied")
forbid (principal, action == Agent::Action::"execute_bash", resource) when { !context.force && context.program == "git" };
@tier("soft") @rule_id("flag_in_unless")
forbid (principal, action == Agent::Action::"execute_bash", resource) unless { context.whole };
@tier("soft") @rule_id("either")
forbid (principal, action == Agent::Action::"execute_bash", resource) when { context.force || context.program == "ls" };
@tier("soft") @rule_id("no_condition") forbid (principal, action == Agent::Action::"push_ref", resource);
@tier("soft") @rule_id("two_conditions")
forbid (principal, action == Agent::Action::"execute_bash", resource) when { context.rewrites } when { context.read_only };
@tier("soft") @rule_id("asks_whether")
forbid (principal, action == Agent::Action::"execute_bash", resource) when { context has remote && context.remote != "" };
"#;

/// The rules that Cedar itself names for all questions of a call.
fn raw(engine: &CedarPolicy, request: &PolicyRequest, paths: &LexicalPaths) -> BTreeSet<String> {
    let mut all = PolicySet::new();
    all.add(Policy::parse(None, "permit (principal, action, resource);").unwrap()).unwrap();
    for rule in engine.rules() {
        all.add(Policy::parse(Some(PolicyId::new(&rule.id)), &rule.text).unwrap()).unwrap();
    }
    let uid = |kind: &str, id: &str| EntityUid::from_str(&format!("Agent::{kind}::{id:?}")).unwrap();
    let expression = |value: &Attribute| match value {
        Attribute::Bool(yes) => RestrictedExpression::new_bool(*yes),
        Attribute::Text(text) => RestrictedExpression::new_string(text.clone()),
        Attribute::Set(set) => RestrictedExpression::new_set(set.iter().cloned().map(RestrictedExpression::new_string)),
    };
    let mut named = BTreeSet::new();
    for question in now(engine.explain(request, paths)).unwrap().questions.asked {
        let base = [
            ("task_type", Attribute::Text("new_task".to_owned())),
            ("repo", Attribute::Text(request.repo.clone())),
            ("read_only", Attribute::Bool(request.read_only)),
            ("tainted", Attribute::Bool(request.tainted)),
            ("branch", Attribute::Text(request.branch.clone())),
            ("base_branch", Attribute::Text(request.base_branch.clone())),
        ];
        let known =
            base.iter().map(|(name, value)| (*name, value)).chain(question.attributes.iter().map(|(n, v)| (*n, v)));
        let context = Context::from_pairs(known.map(|(name, value)| (name.to_owned(), expression(value)))).unwrap();
        let (principal, action) = (uid("TaskAgent", "new_task"), uid("Action", question.action));
        let asked =
            Request::new(principal, action, uid(question.resource.0, &question.resource.1), context, None).unwrap();
        let answer = Authorizer::new().is_authorized(&asked, &all, &Entities::empty());
        assert_eq!(answer.diagnostics().errors().count(), 0, "{question:?}");
        // A call that nothing forbids is permitted by the policy without an id of its own.
        named.extend(answer.diagnostics().reason().map(ToString::to_string).filter(|id| id != "policy0"));
    }
    named
}

#[test]
fn what_the_engine_leaves_out_changes_no_decision() {
    let own = PolicySource { name: "mine".to_owned(), text: MINE.to_owned(), origin: PolicyOrigin::Operator };
    // Rules that only observe are all told, whatever their tier.
    let observed = |sources| PolicySettings { sources, mode: Some(RuleMode::Observe), ..PolicySettings::default() };
    let engines = [Vec::new(), vec![own]].map(|sources| CedarPolicy::load(&observed(sources)).unwrap());
    let paths = LexicalPaths { root: "/work/repo".to_owned(), home: "/tmp/home".to_owned() };
    let commands = [
        "ls -la",
        "git push -f origin main",
        "git push origin --delete old",
        "git rebase -i HEAD~3",
        "git push",
        "rm -rf .",
        "rm -rf / --no-preserve-root",
        "psql -c 'drop table users'",
        "$X y",
        "npm publish",
        "sudo ls",
        "python3 -c 'print(1)'",
        "curl http://169.254.169.254/ > $F",
        "cat .env ~/.aws/credentials /proc/1/environ",
        "sed -i s/a/b/ .github/workflows/ci.yml && git commit -am x",
        "git -c core.hooksPath=. status",
        "if then",
    ];
    let mut spoke = BTreeSet::new();
    for engine in &engines {
        for (read_only, tainted) in [(false, false), (false, true), (true, false), (true, true)] {
            let calls = commands.iter().map(|c| ("Bash", json!({ "command": c })));
            let files = ["Read", "Write", "Edit"].map(|tool| (tool, json!({"file_path": ".git/config"})));
            let others =
                [("WebFetch", json!({"url": "https://a.example/"})), ("mcp__x__y", json!({"path": "../.env"}))];
            for (tool, input) in calls.chain(files).chain(others) {
                let request = PolicyRequest { read_only, tainted, ..request(tool, input) };
                let judged = now(engine.explain(&request, &paths)).unwrap().judgement;
                let named: BTreeSet<String> = judged.noted.iter().map(|m| m.rule.clone()).collect();
                assert_eq!(named, raw(engine, &request, &paths), "{request:?}");
                spoke.extend(named);
            }
        }
    }
    assert!(spoke.len() > 30, "{spoke:?}");
}
