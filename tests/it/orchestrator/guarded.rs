//! The guardrail on what was prepared, whoever prepared it.

use std::sync::Arc;

use abca::guardrail::Guard;
use abca::orchestrator::{Worker, WorkerConfig, WorkerParts};
use abca_core::guardrail::{Guardrail, GuardrailErrorKind};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::task::{FailureReason, Task, TaskStatus};
use abca_core::testing::fixtures;
use abca_core::testing::guardrail::FakeGuardrail;
use serde_json::Value;

use super::world::{Act, World};

struct Life {
    task: Task,
    names: Vec<&'static str>,
    decisions: Vec<PolicyDecisionEvent>,
}

async fn life(guardrail: impl Guardrail) -> Life {
    let world = World::new(Act::Succeed(1));
    let parts = WorkerParts { guard: Guard::new(Arc::new(guardrail)), ..world.parts() };
    let _worker = Worker::start(parts, WorkerConfig::default()).unwrap();
    let id = world.submit(world.task(|_| {})).await;
    let task = world.end(id).await;
    world.quiet().await;
    let events = world.events(id).await;
    let told = events.iter().filter(|e| e.event_type.as_str() == "policy_decision");
    let decisions = told.map(|e| serde_json::from_value(Value::Object(e.metadata.clone())).unwrap()).collect();
    Life { task, names: events.iter().map(|e| e.event_type.as_str()).collect(), decisions }
}

/// A word of every prompt of these worlds.
fn word() -> String {
    fixtures::prepared().user_prompt.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_blocked_fails_the_task_before_a_session_starts() {
    let life = life(FakeGuardrail::default().blocking(word())).await;
    let failure = life.task.failure.clone().unwrap();
    assert_eq!(
        (life.task.status, failure.reason, life.task.attempt),
        (TaskStatus::Failed, FailureReason::Guardrail, 0)
    );
    assert_eq!(failure.message, "guardrail blocked the prompt: fake/phrase in `prompt`");
    assert!(life.names.contains(&"guardrail_blocked"), "{:?}", life.names);
    let [told] = life.decisions.as_slice() else { panic!("{:?}", life.decisions) };
    assert_eq!(
        (told.stage, told.outcome, told.subject.as_str()),
        (GuardStage::Hydration, GuardOutcome::Denied, "prompt")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_masked_is_gone_from_what_the_session_gets() {
    let life = life(FakeGuardrail::default().masking(word())).await;
    let prompt = &life.task.prepared.as_ref().unwrap().user_prompt;
    assert_eq!(*prompt, fixtures::prepared().user_prompt.replace(&word(), "[MASKED]"));
    assert_eq!((life.task.status, life.decisions.len()), (TaskStatus::Completed, 1));
    assert_eq!(life.decisions[0].outcome, GuardOutcome::Changed);
}

#[tokio::test(start_paused = true)]
async fn a_guardrail_that_never_answers_is_asked_until_the_deadline_and_told_once() {
    for kind in [GuardrailErrorKind::Unavailable, GuardrailErrorKind::Throttled] {
        let life = life(FakeGuardrail::default().failing_on("", kind)).await;
        let failure = life.task.failure.clone().unwrap();
        assert_eq!((failure.reason, life.task.attempt), (FailureReason::Deadline, 0));
        assert!(failure.message.contains("the guardrail gave no verdict on the prompt"), "{}", failure.message);
        let outcomes: Vec<GuardOutcome> = life.decisions.iter().map(|d| d.outcome).collect();
        assert_eq!(outcomes, [GuardOutcome::Failed]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guardrail_that_cannot_work_fails_the_task_at_once() {
    let life = life(FakeGuardrail::default().failing_on("", GuardrailErrorKind::Misconfigured)).await;
    let failure = life.task.failure.clone().unwrap();
    assert_eq!(
        (life.task.status, failure.reason, life.task.attempt),
        (TaskStatus::Failed, FailureReason::Hydration, 0)
    );
    assert!(failure.message.starts_with("hydration failed: the guardrail gave no verdict"), "{}", failure.message);
}
