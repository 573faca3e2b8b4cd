//! The guardrail before submissions, nudges and reasons, through the facade.

use std::sync::{Arc, Mutex};

use abca::{Abca, Error, ErrorKind, GuardrailSettings, NewTask};
use abca_core::guardrail::{Guardrail, GuardrailErrorKind};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::store::ListQuery;
use abca_core::task::SignalKind;
use abca_core::testing::guardrail::FakeGuardrail;
use abca_store::InProcess;
use serde_json::Value;

use crate::orchestrator::world::Ready;

/// Looks like a token; nobody knows whether it is one.
const TOKEN: &str = concat!("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a");
const HANDED_OUT: &str = "FABRICATED-key-of-the-model";

type Told = Arc<Mutex<Vec<PolicyDecisionEvent>>>;

/// A facade that only submits, and what its guardrail decided.
async fn facade(choose: impl FnOnce(abca::Builder) -> abca::Builder) -> (Abca, Told) {
    let told = Told::default();
    let sink = told.clone();
    let builder = Abca::builder()
        .store(Arc::new(InProcess::new()))
        .compute_with(|_| unreachable!("no worker runs here"))
        .preparer(Arc::new(Ready))
        .worker(false)
        .secret("model", HANDED_OUT.to_owned().into())
        .on_decision(move |decision| sink.lock().unwrap().push(decision));
    (choose(builder).build().await.unwrap(), told)
}

async fn with(guardrail: impl Guardrail) -> (Abca, Told) {
    facade(|builder| builder.guardrail(Arc::new(guardrail))).await
}

fn new_task(text: &str) -> NewTask {
    NewTask::new("acme/web", text)
}

/// The one decision so far.
fn one(told: &Told) -> PolicyDecisionEvent {
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    told[0].clone()
}

async fn refused(abca: &Abca, task: NewTask) -> Error {
    let error = abca.submit(task).await.unwrap_err();
    assert!(abca.list(ListQuery::default()).await.unwrap().is_empty(), "nothing is stored");
    error
}

#[tokio::test]
async fn a_submission_with_what_the_platform_handed_out_is_refused_and_tells_where() {
    let (abca, told) = facade(|b| b).await;
    for text in [HANDED_OUT.to_owned(), "RkFCUklDQVRFRC1rZXktb2YtdGhlLW1vZGVs".to_owned()] {
        let error = refused(&abca, new_task(&format!("use {text} to log in"))).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Blocked, false));
        let words = "secrets/known-secret (certain) in `task_description` at character 5: take it out, and revoke it";
        assert!(error.message().contains(words), "{error}");
        assert!(!format!("{error} {error:?}").contains(&text), "{error:?}");
        let decision = error.decision().unwrap().clone();
        assert_eq!(one(&told), decision);
        told.lock().unwrap().clear();
        let is = (decision.stage, decision.outcome, decision.guard.as_str(), decision.task_id);
        assert_eq!(is, (GuardStage::Submit, GuardOutcome::Denied, "local", None));
    }
}

#[tokio::test]
async fn what_looks_like_a_secret_is_taken_out_before_anything_is_stored() {
    let (abca, told) = facade(|b| b).await;
    let text = format!("log in with {TOKEN}");
    let task = abca.submit(new_task(&text).idempotency_key("k")).await.unwrap();
    let snapshot = task.snapshot().await.unwrap();
    let stored =
        format!("{} {:?}", serde_json::to_string(&snapshot).unwrap(), task.events_so_far(abca::EventSeq::ZERO).await);
    assert!(!stored.contains(TOKEN), "{stored}");
    let spec = snapshot.task.spec.into_inner();
    assert_eq!(spec.task_description.as_deref(), Some("log in with [REDACTED-GITHUB_TOKEN]"));
    let events = task.events_so_far(abca::EventSeq::ZERO).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!(kinds, ["task_created", "policy_decision"]);
    let event: PolicyDecisionEvent = serde_json::from_value(Value::Object(events[1].metadata.clone())).unwrap();
    assert_eq!((event.stage, event.outcome), (GuardStage::Submit, GuardOutcome::Changed));
    assert_eq!(event.rules[0].rule, "secrets/github-token");
    assert_eq!(one(&told).task_id, Some(task.id()));
    // The same words under the same key are the same task; others are others, though they are stored alike.
    assert_eq!(abca.submit(new_task(&text).idempotency_key("k")).await.unwrap().id(), task.id());
    let other = new_task("log in with [REDACTED-GITHUB_TOKEN]").idempotency_key("k");
    assert_eq!(abca.submit(other).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_command_is_not_run_with_a_hole_in_it() {
    let (abca, told) = facade(|b| b).await;
    let error = refused(&abca, new_task("fix it").test(format!("TOKEN={TOKEN} make test"))).await;
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert!(error.message().contains("`test_command` cannot be run with a part of it taken out"), "{error}");
    assert_eq!(one(&told).outcome, GuardOutcome::Denied);
}

#[tokio::test]
async fn an_issue_about_prompt_injection_is_submitted_word_for_word() {
    let (abca, told) = facade(|b| b).await;
    let text = "Our bot obeys `Ignore all previous instructions`. Add a test.";
    let task = abca.submit(new_task(text)).await.unwrap();
    assert_eq!(task.record().await.unwrap().spec.task_description.as_deref(), Some(text));
    assert_eq!(one(&told).outcome, GuardOutcome::Observed);
}

#[tokio::test]
async fn without_a_verdict_nothing_is_stored_and_the_error_says_what_to_do() {
    for (kind, want, retryable, words) in [
        (GuardrailErrorKind::Unavailable, ErrorKind::Unavailable, true, "try again later"),
        (GuardrailErrorKind::Throttled, ErrorKind::Unavailable, true, "try again later"),
        (GuardrailErrorKind::Misconfigured, ErrorKind::Config, false, "until its settings are right"),
        (GuardrailErrorKind::Refused, ErrorKind::Invalid, false, "input refused"),
    ] {
        let (abca, told) = with(FakeGuardrail::default().failing_on("", kind)).await;
        let error = refused(&abca, new_task("fix it")).await;
        assert_eq!((error.kind(), error.is_retryable()), (want, retryable));
        assert!(error.message().contains("gave no verdict") && error.message().contains(words), "{error}");
        assert_eq!(one(&told).outcome, GuardOutcome::Failed);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_submission_is_said_before_the_guardrail_is_asked() {
    let fake = Arc::new(FakeGuardrail::default());
    let asked = fake.clone();
    let (abca, _) = facade(move |b| b.guardrail(fake)).await;
    assert_eq!(refused(&abca, new_task("x").max_turns(0)).await.kind(), ErrorKind::Invalid);
    assert!(asked.seen().is_empty());
    abca.submit(new_task("x").build("make").test("make test")).await.unwrap();
    let names: Vec<String> = asked.seen()[0].texts.iter().map(|t| t.name.clone()).collect();
    assert_eq!(names, ["task_description", "build_command", "test_command"]);
}

#[tokio::test]
async fn a_nudge_is_judged_before_it_is_said() {
    let (abca, told) = with(
        FakeGuardrail::default().blocking("bad").masking("secret").failing_on("storm", GuardrailErrorKind::Unavailable),
    )
    .await;
    let task = abca.submit(new_task("fix it")).await.unwrap();
    assert_eq!(task.nudge("a bad word").await.unwrap_err().kind(), ErrorKind::Blocked);
    assert_eq!(task.nudge("in a storm").await.unwrap_err().kind(), ErrorKind::Unavailable);
    task.nudge("the secret is out").await.unwrap();
    let said: Vec<SignalKind> = task.snapshot().await.unwrap().signals.into_iter().map(|s| s.kind).collect();
    assert_eq!(said, [SignalKind::Nudge { message: "the [MASKED] is out".to_owned() }]);
    let decisions: Vec<_> = told.lock().unwrap().iter().map(|d| (d.task_id, d.stage, d.outcome)).collect();
    let is = |outcome| (Some(task.id()), GuardStage::Nudge, outcome);
    assert_eq!(decisions, [GuardOutcome::Denied, GuardOutcome::Failed, GuardOutcome::Changed].map(is));
    let error = task.deny(None, Some("a bad reason"), "ann").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked, "a reason is said to the agent like a nudge");
}

#[tokio::test]
async fn off_is_off() {
    let (abca, told) = facade(|b| b.guardrails(GuardrailSettings::off())).await;
    let text = format!("log in with {TOKEN} and {HANDED_OUT}");
    let task = abca.submit(new_task(&text)).await.unwrap();
    assert_eq!(task.record().await.unwrap().spec.task_description, Some(text));
    assert!(told.lock().unwrap().is_empty());
}
