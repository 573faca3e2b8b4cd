//! A session whose brain cannot be set up says so, and its task fails at once.

use abca_core::task::FailureReason;

use super::lives::script;
use super::server::Model;
use super::world::Place;

#[tokio::test]
async fn a_trajectory_that_vanished_after_submission() {
    let mut place = Place::new(&Model::start(script)).await;
    let gone = place.state().join("gone.jsonl");
    let replay = format!("replay:{}", gone.display());
    let task = place.submit(&["--model", &replay]).await;
    place.start_worker();
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert!(outcome.attempts <= 1, "{failure:?}");
    assert!(failure.message.contains("gone.jsonl"), "{failure:?}");
}

#[tokio::test]
async fn a_model_that_the_worker_has_no_key_for() {
    let mut place = Place::new(&Model::start(script)).await;
    place.start_worker();
    let task = place.submit(&["--model", "openai:gpt-5"]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.reason, outcome.attempts), (FailureReason::Preflight, 0), "before any compute: {failure:?}");
    assert!(failure.message.contains("set OPENAI_API_KEY"), "{failure:?}");
    let class = abca_core::classify::classify_failure(&failure);
    assert_eq!((class.category, class.retryable), (abca_core::classify::Category::Config, false), "{class:?}");
}

#[tokio::test]
async fn a_model_that_cannot_be_connected() {
    // The worker finds nothing wrong with it: only the session connects.
    let mut model = Model::start(script);
    model.url = "http://user:pw@[broken".to_owned();
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    let story = place.story(&task).await;
    assert_eq!((failure.reason, outcome.attempts), (FailureReason::Model, 1), "{failure:?}\n{story}");
    assert!(failure.message.contains("the model cannot be used"), "{failure:?}");
    assert!(!story.contains(":pw@"), "{story}");
}
