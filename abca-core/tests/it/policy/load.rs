//! Policies of one's own: what is taken, what is refused and where, modes, and errors while deciding.

use abca_core::policy::cedar::{BUILTIN, CedarPolicy};
use abca_core::policy::{PolicyErrorKind, PolicyOrigin, PolicySettings, PolicySource, RuleMode};
use serde_json::json;

use super::{builtin, judge, request, rules};

fn settings(text: &str, origin: PolicyOrigin) -> PolicySettings {
    let source = PolicySource { name: "mine.cedar".to_owned(), text: text.to_owned(), origin };
    PolicySettings { sources: vec![source], ..PolicySettings::default() }
}

fn load(text: &str) -> Result<CedarPolicy, String> {
    CedarPolicy::load(&settings(text, PolicyOrigin::Operator)).map_err(|e| {
        assert_eq!(e.kind(), PolicyErrorKind::Policies);
        e.message().to_owned()
    })
}

#[test]
fn the_built_in_policies_fit_their_schema_and_say_what_they_are_for() {
    for rule in builtin().rules() {
        assert!(!rule.summary.contains("forbids it"), "{} has no summary", rule.id);
        assert!(rule.category.is_some(), "{} has no category", rule.id);
        assert!(!rule.attributes.is_empty(), "{} tests nothing", rule.id);
        assert!(rule.tier == abca_core::policy::Tier::Hard || rule.approval_timeout_ms.is_some(), "{}", rule.id);
    }
    assert_eq!(BUILTIN.map(|(name, _)| name), ["builtin/hard_deny", "builtin/soft_deny"]);
}

#[test]
fn the_references_own_policies_load_and_match_what_they_matched_and_more() {
    let engine = load(
        r#"@rule_id("base_permit") permit (principal, action, resource);
        @tier("hard") @rule_id("my_rm") forbid (principal, action == Agent::Action::"execute_bash", resource) when { context.command like "*rm -rf /*" };
        @tier("soft") @rule_id("my_push") @approval_timeout_s("300") @severity("medium")
        forbid (principal, action == Agent::Action::"execute_bash", resource) when { context.command like "*git push --force*" };
        @tier("soft") @rule_id("my_env") @approval_timeout_s("600") @severity("high")
        forbid (principal, action == Agent::Action::"write_file", resource) when { context.file_path like "*.env" };
        @tier("hard") @rule_id("my_role")
        forbid (principal == Agent::TaskAgent::"pr_review", action == Agent::Action::"invoke_tool", resource == Agent::Tool::"Write");"#,
    )
    .unwrap();
    let matched = |command: &str| rules(&judge(&engine, &request("Bash", json!({ "command": command })))).join(" ");
    assert_eq!(matched("rm -rf /tmp/x"), "my_rm");
    // The normal form of each command is matched as well, whatever it was written like.
    assert!(matched("git   -C . 'push'  --force x").contains("force_push_any"));
    assert!(matched("/usr/bin/git  'push'  --force x").contains("my_push"));
    assert!(matched("echo x > a.env").contains("my_env"));
    let mut review = request("Write", json!({"file_path": "a"}));
    review.workflow = "coding/pr-review-v1".to_owned();
    assert_eq!(rules(&judge(&engine, &review)), ["my_role"]);
}

#[test]
fn a_bad_policy_is_refused_with_its_name_and_place() {
    let forbid = |head: &str, when: &str| {
        format!("{head}\nforbid (principal, action == Agent::Action::\"execute_bash\", resource)\nwhen {{ {when} }};")
    };
    let good = r#"@tier("soft") @rule_id("a")"#;
    for (text, want) in [
        (forbid(good, "context.comand == \"x\""), "`mine.cedar`: line 3, column 8: "),
        (forbid(good, "context.force == \"x\""), "`mine.cedar`: line 3, column "),
        (forbid(good, "context.command"), "`mine.cedar`: line 3, column "),
        ("forbid (principal, action, resource".to_owned(), "`mine.cedar`: line 1, column "),
        ("\n\nforbid (principal, action, resource) when { 1 + };".to_owned(), "`mine.cedar`: line 3, column "),
        (forbid(r#"@tier("soft")"#, "context.force"), "`mine.cedar`: policy 1: it has no `@rule_id(\"…\")`"),
        (forbid(r#"@rule_id("a")"#, "context.force"), "policy 1: `a` has no `@tier"),
        (forbid(r#"@rule_id("a") @tier("mid")"#, "context.force"), "the tier of `a` is `mid`: use hard or soft"),
        (forbid(r#"@rule_id("a b") @tier("soft")"#, "context.force"), "`a b` is no rule's id"),
        (forbid(r#"@rule_id("rm_slash") @tier("soft")"#, "context.force"), "there is a rule `rm_slash` already"),
        (forbid(r#"@rule_id("base_permit") @tier("soft")"#, "context.force"), "there is a rule `base_permit` already"),
        (forbid(&format!("{good} @severity(\"bad\")"), "context.force"), "the severity of `a` is `bad`"),
        (forbid(&format!("{good} @mode(\"off\")"), "context.force"), "the mode of `a` is `off`"),
        (
            forbid(&format!("{good} @approval_timeout_s(\"29\")"), "context.force"),
            "is `29`: give seconds from 30 to 3600",
        ),
        (format!("{0}\n{0}", forbid(good, "context.force")), "policy 2: there is a rule `a` already"),
        ("permit (principal, action, resource);".to_owned(), "a `permit` changes nothing"),
        ("@rule_id(\"a\") @tier(\"soft\") forbid (principal == ?principal, action, resource);".to_owned(), "templates"),
        (format!("// {}", "x".repeat(64 * 1024)), "more than 65536"),
    ] {
        let error = load(&text).unwrap_err();
        assert!(error.contains(want), "{error}\n  does not say: {want}");
    }
}

#[test]
fn a_repositorys_policies_are_soft_and_carry_no_annotations() {
    let text =
        "forbid (principal, action == Agent::Action::\"execute_bash\", resource) when { context.program == \"make\" };";
    let engine = CedarPolicy::load(&settings(text, PolicyOrigin::Repository)).unwrap();
    let judged = judge(&engine, &request("Bash", json!({"command": "make"})));
    assert_eq!((judged.decision.as_str(), rules(&judged)), ("ask", vec!["legacy_extra_1"]));
    let error = CedarPolicy::load(&settings(&format!("@tier(\"hard\") {text}"), PolicyOrigin::Repository)).unwrap_err();
    assert!(error.message().contains("a repository's policy has no annotations, and this one has `@tier`"), "{error}");
    let permit = "permit (principal, action, resource);";
    assert!(CedarPolicy::load(&settings(permit, PolicyOrigin::Repository)).is_err());
}

#[test]
fn a_rule_observes_warns_or_enforces() {
    let with = |mode| {
        let settings = PolicySettings {
            modes: [("force_push_any".to_owned(), mode)].into_iter().collect(),
            ..PolicySettings::default()
        };
        let engine = CedarPolicy::load(&settings).unwrap();
        let judged = judge(&engine, &request("Bash", json!({"command": "git push -f origin x"})));
        (judged.decision.as_str(), judged.noted.len(), judged.warnings().count())
    };
    assert_eq!(with(RuleMode::Enforce), ("ask", 0, 0));
    assert_eq!(with(RuleMode::Warn), ("allow", 1, 1));
    assert_eq!(with(RuleMode::Observe), ("allow", 1, 0));
    let modes = [("no_such_rule".to_owned(), RuleMode::Warn)].into_iter().collect();
    let error = CedarPolicy::load(&PolicySettings { modes, ..PolicySettings::default() }).unwrap_err();
    assert!(error.message().starts_with("there is no rule `no_such_rule` to set a mode for"), "{error}");
}

#[test]
fn a_decision_says_which_rule_and_which_attribute() {
    let judged = judge(builtin(), &request("Bash", json!({"command": "cd x; 'git'  push -f origin y"})));
    let rule = judged.decision.rules().iter().find(|r| r.rule == "force_push_any").unwrap();
    let because = rule.because.first().unwrap();
    assert_eq!(because.part, "git push -f origin y");
    assert_eq!(
        because.attributes,
        [("force".to_owned(), "true".to_owned()), ("git_operation".to_owned(), "push".to_owned())]
    );
}

#[test]
fn an_error_while_deciding_is_an_error_and_no_permit() {
    // Arithmetic that overflows is well-typed, and fails when it is evaluated: Cedar alone would leave the rule out.
    let text = r#"@tier("soft") @rule_id("a") forbid (principal, action == Agent::Action::"execute_bash", resource)
        when { context.whole && 9223372036854775807 + 1 > 0 };"#;
    let engine = load(text).unwrap();
    let asked = request("Bash", json!({"command": "ls"}));
    let error = super::now(engine.explain(&asked, &abca_core::policy::LexicalPaths::default())).unwrap_err();
    assert_eq!(error.kind(), PolicyErrorKind::Evaluation);
}
