//! From a submission to a task: order of the checks, limits, and what is frozen.

use proptest::prelude::*;

use abca_core::blueprint::{Blueprint, PlatformDefaults};
use abca_core::event::{EventType, NewEvent};
use abca_core::store::Submit;
use abca_core::task::{Attachment, NewTask, SubmitError, SubmitErrorCode as Code, TaskStatus, accept};
use abca_core::workflow::Tier;
use abca_core::{MicroUsd, TaskId, Timestamp, UserId};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn submit_with(
    new: NewTask,
    blueprint: Option<&Blueprint>,
    platform: &PlatformDefaults,
) -> Result<Submit, SubmitError> {
    accept(new, &UserId::new("ann").unwrap(), TaskId::from_parts(NOW, 7), NOW, blueprint, platform)
}

fn submit(new: NewTask) -> Result<Submit, SubmitError> {
    submit_with(new, None, &PlatformDefaults::default())
}

fn refused(new: NewTask) -> (Code, &'static str, String) {
    let e = submit(new).unwrap_err();
    (e.code, e.field, e.message)
}

fn blueprint(json: &str) -> Blueprint {
    serde_json::from_str(json).unwrap()
}

fn platform(json: &str) -> PlatformDefaults {
    serde_json::from_str(json).unwrap()
}

fn text_file(name: &str) -> Attachment {
    Attachment {
        filename: name.to_owned(),
        content_type: "text/plain".to_owned(),
        size_bytes: 10,
        checksum_sha256: "a".repeat(64),
    }
}

#[test]
fn a_submission_becomes_a_submitted_task_with_its_first_event() {
    let new = NewTask::new("acme/x", "fix the parser")
        .issue(12)
        .budget_usd("3.00")
        .max_turns(40)
        .model("replay:demo")
        .build("cargo build")
        .test("cargo test")
        .lint("cargo clippy")
        .base_branch("release/1.x")
        .approve("bash_pattern:cargo add *")
        .idempotency_key("k-1");
    let Submit { task, payload_hash, events, due_at } = submit(new).unwrap();
    let event = NewEvent::new(EventType::TaskCreated, NOW)
        .with("repo", "acme/x")
        .with("issue_number", 12)
        .with("channel_source", "api")
        .with("workflow", "coding/new-task-v1@1.0.0");
    assert_eq!(events, [event]);
    assert_eq!(due_at, NOW);
    assert_eq!((task.status, task.created_at, task.attempt), (TaskStatus::Submitted, NOW, 0));
    assert_eq!(task.idempotency_key.unwrap().as_str(), "k-1");
    let spec = task.spec;
    assert_eq!((spec.workflow_id.as_str(), spec.workflow_version.as_str()), ("coding/new-task-v1", "1.0.0"));
    assert_eq!(spec.model.as_deref(), Some("replay:demo"));
    assert_eq!(spec.test_command.as_deref(), Some("cargo test"));
    assert_eq!((spec.limits.max_turns, spec.limits.max_budget), (40, Some(MicroUsd(3_000_000))));
    let slots: Vec<_> = spec.limits.slots.iter().map(|s| (s.scope.0.as_str(), s.cap, s.fifo)).collect();
    assert_eq!(slots, [("user:ann", 10, true), ("system", 16, false)]);
    assert_eq!(payload_hash.len(), 64);
}

/// A submission that is wrong in every field, repaired one field at a time: each repair uncovers the next check.
#[test]
fn the_first_failing_check_decides_in_the_references_order() {
    let removed = blueprint(r#"{"status":"removed","limits":{"max_turns":0}}"#);
    let corrupt = blueprint(r#"{"limits":{"max_turns":0}}"#);
    let platform = platform(r#"{"allowed_models":["anthropic:a"]}"#);
    let mut new = NewTask::new("nowhere", " ")
        .workflow("Coding/x")
        .model("b")
        .pull_request(0)
        .max_turns(0)
        .budget_usd("lots")
        .build(" ")
        .base_branch("a..b")
        .attach(text_file("../x"))
        .approval_timeout_s(5)
        .approve("this_call")
        .idempotency_key("a b");
    let long = "x".repeat(10_001);
    let mut said = Vec::new();
    let mut settings = Some(&removed);
    type Repair<'a> = Box<dyn Fn(&mut NewTask, &mut Option<&'a Blueprint>) + 'a>;
    let repairs: Vec<Repair<'_>> = vec![
        Box::new(|n, _| n.workflow_ref = Some("coding/other-v1".into())),
        Box::new(|n, _| n.workflow_ref = Some("coding/new-task-v1@2.0.0".into())),
        Box::new(|n, _| n.workflow_ref = None),
        Box::new(|n, _| n.model = Some("openai:b".into())),
        Box::new(|n, _| n.model = Some("anthropic:a".into())),
        Box::new(|n, _| n.repo = Some("acme/x".into())),
        Box::new(|_, b| *b = Some(&corrupt)),
        Box::new(|_, b| *b = None),
        Box::new(|n, _| n.task_description = Some(long.clone())),
        Box::new(|n, _| n.pr_number = None),
        Box::new(|n, _| n.task_description = Some("fix it".into())),
        Box::new(|n, _| n.max_turns = Some(1)),
        Box::new(|n, _| *n = n.clone().budget_usd("200")),
        Box::new(|n, _| *n = n.clone().budget_usd("100")),
        Box::new(|n, _| n.build_command = None),
        Box::new(|n, _| n.base_branch = None),
        Box::new(|n, _| n.attachments.clear()),
        Box::new(|n, _| n.approval_timeout_s = Some(30)),
        Box::new(|n, _| n.initial_approvals.clear()),
        Box::new(|n, _| *n = n.clone().idempotency_key("a-b")),
    ];
    for repair in &repairs {
        let e = submit_with(new.clone(), settings, &platform).unwrap_err();
        said.push((e.code.as_str(), e.field));
        repair(&mut new, &mut settings);
    }
    assert_eq!(
        said,
        [
            ("VALIDATION_ERROR", "workflow_ref"),
            ("VALIDATION_ERROR", "workflow_ref"),
            ("VALIDATION_ERROR", "workflow_ref"),
            ("VALIDATION_ERROR", "model"),
            ("VALIDATION_ERROR", "model"),
            ("VALIDATION_ERROR", "repo"),
            ("REPO_NOT_ONBOARDED", "repo"),
            ("SERVICE_UNAVAILABLE", "repo"),
            ("VALIDATION_ERROR", "task_description"),
            ("VALIDATION_ERROR", "pr_number"),
            ("VALIDATION_ERROR", "task_description"),
            ("VALIDATION_ERROR", "max_turns"),
            ("VALIDATION_ERROR", "max_budget_usd"),
            ("VALIDATION_ERROR", "max_budget_usd"),
            ("VALIDATION_ERROR", "build_command"),
            ("VALIDATION_ERROR", "base_branch"),
            ("ATTACHMENT_INVALID_FILENAME", "attachments"),
            ("VALIDATION_ERROR", "approval_timeout_s"),
            ("VALIDATION_ERROR", "initial_approvals"),
            ("VALIDATION_ERROR", "idempotency_key"),
        ]
    );
    submit_with(new, settings, &platform).unwrap();
}

#[test]
fn a_description_is_measured_in_utf16_units() {
    let ok = |text: String| submit(NewTask::new("acme/x", text)).is_ok();
    assert!(ok("x".repeat(10_000)));
    assert!(!ok("x".repeat(10_001)));
    assert!(ok("é".repeat(10_000)), "two bytes, one unit");
    assert!(ok("🦀".repeat(5_000)), "four bytes, two units");
    assert!(!ok("🦀".repeat(5_000) + "x"));
    assert_eq!(
        refused(NewTask::new("acme/x", "🦀".repeat(5_001))),
        (
            Code::Validation,
            "task_description",
            "`task_description` has 10002 characters (UTF-16 units), at most 10000 are allowed: shorten it, or put the details into the repository or an issue".to_owned()
        )
    );
}

#[test]
fn numbers_are_checked_at_their_ends() {
    let base = || NewTask::new("acme/x", "fix it");
    for (new, ok) in [
        (base().max_turns(0), false),
        (base().max_turns(1), true),
        (base().max_turns(500), true),
        (base().max_turns(501), false),
        (base().budget_usd("0.01"), true),
        (base().budget_usd("$100"), true),
        (base().budget_usd("0.009999"), false),
        (base().budget_usd("100.000001"), false),
        (base().budget(MicroUsd::ZERO), false),
        (base().approval_timeout_s(29), false),
        (base().approval_timeout_s(30), true),
        (base().approval_timeout_s(3_600), true),
        (base().approval_timeout_s(3_601), false),
        (base().issue(0), false),
        (base().build("x".repeat(8_192)), true),
        (base().build("x".repeat(8_193)), false),
        (base().test("cargo test\0"), false),
        ((0..20).fold(base(), |new, _| new.approve("all_session")), true),
        ((0..21).fold(base(), |new, _| new.approve("all_session")), false),
    ] {
        assert_eq!(submit(new.clone()).is_ok(), ok, "{new:?}");
    }
}

#[test]
fn a_wrong_amount_is_kept_until_submission_and_never_lost_on_the_wire() {
    let new = NewTask::new("acme/x", "fix it").budget_usd("three");
    let expected = "`max_budget_usd`: `three` is not an amount in dollars: write digits with at most six decimals, e.g. `3` or `2.50`";
    assert_eq!(refused(new.clone()), (Code::Validation, "max_budget_usd", expected.to_owned()));
    assert_eq!(serde_json::to_string(&new).unwrap_err().to_string(), expected);
    assert!(submit(new.clone().budget_usd("3")).is_ok(), "a later call repairs it");
    assert!(submit(new.budget(MicroUsd::cents(300))).is_ok());
    assert_eq!(
        refused(NewTask::new("acme/x", "fix it").budget_usd("0.009999")).2,
        "`max_budget_usd` is $0.009999: set it from $0.01 to $100.00"
    );
}

#[test]
fn what_the_workflow_needs_must_be_there() {
    let nothing = refused(NewTask::new("acme/x", " \n"));
    assert_eq!(nothing.2, "`coding/new-task-v1` needs one of `issue_number`, `task_description`: give at least one");
    assert!(submit(NewTask::new("acme/x", "").issue(3)).is_ok());
    let mut no_repo = NewTask::new("acme/x", "fix it");
    no_repo.repo = None;
    assert_eq!(refused(no_repo.clone()).1, "repo");
    assert_eq!(
        refused(no_repo.workflow("coding/new-task-v1")).2,
        "`repo` is missing and `coding/new-task-v1` needs one: name a repository"
    );
    for repo in ["x", "a/b/c", "../x", "./x", "a b/c", "..../x", ""] {
        assert_eq!(refused(NewTask::new(repo, "fix it")).1, "repo", "{repo}");
    }
    assert!(submit(NewTask::new("/srv/git/x", "fix it")).is_ok());
}

#[test]
fn branches_are_what_git_accepts() {
    let ok = |b: &str| submit(NewTask::new("acme/x", "fix it").base_branch(b)).is_ok();
    for branch in ["main", "release/1.x", "a-b_c", "ünïcode"] {
        assert!(ok(branch), "{branch}");
    }
    for branch in [
        "", "-x", "a..b", "a b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.", "@", "a@{b", "a~1", "a\nb", "a:b",
        "HEAD",
    ] {
        assert!(!ok(branch), "{branch}");
    }
    let (code, field, message) = refused(NewTask::new("acme/x", "fix it").base_branch("refs/heads/main"));
    assert_eq!((code, field), (Code::Validation, "base_branch"));
    assert_eq!(
        message,
        "`base_branch` cannot be used: `refs/heads/main` is not a branch name: write it without `refs/heads/`"
    );
}

#[test]
fn attachments_are_checked_and_then_refused_for_want_of_a_store() {
    let with =
        |files: Vec<Attachment>| refused(files.into_iter().fold(NewTask::new("acme/x", "fix it"), NewTask::attach));
    let of = |change: fn(&mut Attachment)| {
        let mut file = text_file("a.txt");
        change(&mut file);
        with(vec![file]).0
    };
    let (code, field, message) = with(vec![text_file("a.txt")]);
    assert_eq!((code, field), (Code::ServiceUnavailable, "attachments"));
    assert!(message.contains("no artifact store") && message.contains("docs/status.md"), "{message}");
    assert_eq!(with((0..11).map(|i| text_file(&format!("{i}.txt"))).collect()).0, Code::Validation);
    assert_eq!(with(vec![text_file("a.txt"), text_file("a.txt")]).0, Code::AttachmentInvalidFilename);
    assert_eq!(of(|f| f.filename = "-rf".into()), Code::AttachmentInvalidFilename);
    assert_eq!(of(|f| f.filename = "a\\b".into()), Code::AttachmentInvalidFilename);
    assert_eq!(of(|f| f.content_type = "image/gif".into()), Code::AttachmentInvalidType);
    assert_eq!(of(|f| f.size_bytes = (10 << 20) + 1), Code::AttachmentTooLarge);
    assert_eq!(of(|f| f.checksum_sha256 = "A".repeat(64)), Code::AttachmentInvalidContent);
    let big = |i| Attachment { size_bytes: 10 << 20, ..text_file(&format!("{i}.txt")) };
    assert_eq!(with((0..6).map(big).collect()).0, Code::AttachmentsTotalTooLarge);
}

#[test]
fn settings_of_the_repository_fill_what_the_task_leaves_open() {
    let blueprint = blueprint(
        r#"{"model":"openai:m","test_command":"make test","lint_command":"make lint","base_branch":"dev",
            "system_prompt_overrides":"be brief","max_concurrent_tasks":2,"limits":{"max_turns":50}}"#,
    );
    let task = NewTask::new("acme/x", "fix it").lint("true");
    let spec = submit_with(task, Some(&blueprint), &PlatformDefaults::default()).unwrap().task.spec;
    assert_eq!(spec.model.as_deref(), Some("openai:m"));
    assert_eq!((spec.build_command.as_deref(), spec.test_command.as_deref()), (None, Some("make test")));
    assert_eq!(spec.lint_command.as_deref(), Some("true"));
    assert_eq!(spec.base_branch.as_deref(), Some("dev"));
    assert_eq!(spec.system_prompt_overrides.as_deref(), Some("be brief"));
    assert_eq!(spec.limits.max_turns, 50);
    assert_eq!(spec.limits.slots.len(), 3);

    let strict = platform(r#"{"require_onboarding":true,"model":"anthropic:a"}"#);
    let unknown = submit_with(NewTask::new("acme/y", "fix it"), None, &strict).unwrap_err();
    assert_eq!(unknown.code.as_str(), "REPO_NOT_ONBOARDED");
    let known = submit_with(NewTask::new("acme/y", "fix it"), Some(&Blueprint::default()), &strict).unwrap();
    assert_eq!(known.task.spec.model.as_deref(), Some("anthropic:a"));
}

#[test]
fn the_tier_of_tools_is_the_tasks_within_what_repository_and_platform_allow() {
    let tier = |task: Option<Tier>, repo: &str, of: &str| {
        let new = NewTask::new("acme/x", "fix it");
        let new = task.map_or(new.clone(), |tier| new.tools(tier));
        let done = submit_with(new, Some(&blueprint(repo)), &platform(of));
        done.map(|done| done.task.spec.tools.as_str()).map_err(|e| e.message)
    };
    let standard = Ok("standard");
    assert_eq!(tier(None, "{}", "{}"), standard, "the workflow's");
    assert_eq!(tier(Some(Tier::Elevated), "{}", "{}"), Ok("elevated"));
    assert_eq!(tier(Some(Tier::ReadOnly), r#"{"tools":"elevated"}"#, "{}"), Ok("read-only"));
    assert_eq!(tier(None, r#"{"tools":"elevated"}"#, "{}"), Ok("elevated"));
    assert_eq!(tier(None, r#"{"tools":"elevated"}"#, r#"{"max_tools":"standard"}"#), standard);
    assert_eq!(tier(None, "{}", r#"{"max_tools":"read-only"}"#), Ok("read-only"));
    for (repo, of) in [(r#"{"tools":"standard"}"#, "{}"), (r#"{"tools":"elevated"}"#, r#"{"max_tools":"standard"}"#)] {
        let refused = tier(Some(Tier::Elevated), repo, of).unwrap_err();
        assert_eq!(refused, "`tools` is `elevated` and at most `standard` is allowed here: ask for less");
    }
}

#[test]
fn the_fingerprint_is_of_what_is_asked_for() {
    let hash = |new: NewTask| submit(new).unwrap().payload_hash;
    let base = || NewTask::new("acme/x", "fix it").budget_usd("3").idempotency_key("a");
    assert_eq!(hash(base()), hash(base().idempotency_key("b")));
    let mut elsewhere = base();
    elsewhere.channel_metadata.insert("source_ip".into(), "192.0.2.1".into());
    assert_eq!(hash(base()), hash(elsewhere));
    assert_ne!(hash(base()), hash(base().description("fix it!")));
    assert_ne!(hash(base()), hash(base().budget_usd("3.01")));
    // Frozen: a store compares hashes that an older version wrote.
    assert_eq!(
        hash(NewTask::new("acme/x", "fix it")),
        "4b3a60e9b2319b84bd05b952e6a1e0b7d8d4d061b03f6ee6c2f6c8d2388d15e4"
    );
}

proptest! {
    /// Any text in any field is answered, and an accepted submission survives the wire unchanged.
    #[test]
    fn any_submission_is_accepted_or_refused_with_words(
        repo in ".{0,12}|[a-z.]{1,3}/[a-z.]{1,3}|/[a-z/]{1,8}",
        description in ".{0,20}",
        workflow in proptest::option::of(".{0,8}|coding/new-task-v[12](@1\\.0\\.[01])?"),
        turns in proptest::option::of(0u32..600),
        budget in proptest::option::of("[0-9.$-]{0,8}"),
        branch in proptest::option::of(".{0,8}"),
        scope in proptest::option::of("(bash_pattern|rule|x)?:?.{0,6}"),
        key in proptest::option::of("[a-z ]{0,4}"),
    ) {
        let mut new = NewTask::new(repo, description);
        new.workflow_ref = workflow;
        new.max_turns = turns;
        new.base_branch = branch;
        new.initial_approvals.extend(scope);
        if let Some(budget) = budget { new = new.budget_usd(budget); }
        if let Some(key) = key { new = new.idempotency_key(key); }
        match submit(new.clone()) {
            Ok(accepted) => {
                let wire = serde_json::to_string(&new).unwrap();
                let read: NewTask = serde_json::from_str(&wire).unwrap();
                prop_assert_eq!(submit(read).unwrap(), accepted.clone());
                let wire = serde_json::to_string(&accepted).unwrap();
                prop_assert_eq!(serde_json::from_str::<Submit>(&wire).unwrap(), accepted);
            }
            Err(e) => {
                prop_assert!(!e.field.is_empty() && e.message.contains(':'), "{e}");
                prop_assert!(!e.message.ends_with('.'), "{e}");
            }
        }
    }
}
