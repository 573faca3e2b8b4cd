//! Cancel, wherever the task stands: confirmed once nothing of it runs any more, and nothing follows.

use abca::{Event, TaskHandle, TaskStatus};
use futures_util::future::join_all;

use super::server::{Answer, Ask, Model, bash, text};
use super::world::{Place, named, open_gate};

async fn cancel(place: &Place, task: &TaskHandle) {
    let done = place.abca(&["cancel", &task.id().to_string()]).await;
    assert!(done.status.success(), "{done:?}");
}

/// Ends cancelled, and stays so: no process, no call, no push afterwards.
async fn cancelled(place: &mut Place, task: &TaskHandle, marker: &str) -> Vec<Event> {
    let outcome = place.end(task).await;
    // Whatever there is to see must be true at the moment of the confirmation.
    let (left, calls) = (place.processes(marker), place.model.calls());
    let story = place.story(task).await;
    assert_eq!(left, Vec::<i32>::new(), "{story}");
    assert_eq!(place.session_processes(), Vec::<i32>::new(), "{story}");
    assert_eq!(outcome.status, TaskStatus::Cancelled, "{story}");
    assert!(outcome.cancelled_by.is_some());
    // Another worker finds nothing to do either.
    place.start_worker();
    let other = place.submit_plain(&["--model", "replay:/nowhere"]).await;
    place.end(&other).await;
    assert_eq!(place.model.calls(), calls, "{story}");
    assert_eq!(place.git(&["for-each-ref", "refs/heads/bgagent"]), "", "{story}");
    assert_eq!(place.pull_requests().await.len(), 0);
    place.events(task).await
}

fn position(events: &[Event], name: &str) -> Option<usize> {
    events.iter().position(|e| named(e, name))
}

#[tokio::test]
async fn while_it_waits_for_a_worker() {
    let mut place = Place::new(&Model::start(|_: &Ask| text("Never."))).await;
    let task = place.submit(&[]).await;
    cancel(&place, &task).await;
    place.start_worker();
    let events = cancelled(&mut place, &task, "no-such-process").await;
    assert_eq!(position(&events, "session_starting"), None);
    assert_eq!(place.model.calls(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_its_session_starts() {
    join_all(
        ["task_admitted", "session_starting", "session_started", "session_walls", "step:clone_repo:succeeded"].map(
            async |moment| {
                let mut place = Place::new(&Model::start(|_: &Ask| Answer::Silence)).await;
                place.start_worker();
                let task = place.submit(&[]).await;
                place.until_named(&task, moment).await;
                cancel(&place, &task).await;
                cancelled(&mut place, &task, "no-such-process").await;
            },
        ),
    )
    .await;
}

#[tokio::test]
async fn while_the_model_never_answers() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, "echo partial > work.txt"),
        _ => Answer::Silence,
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.until_true(&task, "the second call", || place.model.calls() == 2).await;
    cancel(&place, &task).await;
    cancelled(&mut place, &task, "no-such-process").await;
    let wip = format!("refs/abca/wip/{}", task.id());
    assert_eq!(place.git(&["show", &format!("{wip}:work.txt")]), "partial\n");
    let saved = task.outcome().await.unwrap().partial_work.unwrap();
    assert_eq!((saved.reference, saved.sha), (wip.clone(), place.git(&["rev-parse", &wip]).trim().to_owned()));
}

#[tokio::test]
async fn while_a_tool_runs_that_will_not_die() {
    let marker = format!("1e9{}", std::process::id());
    let stubborn = format!(
        "trap '' TERM INT HUP; echo begun > begun.txt; (setsid sh -c 'trap \"\" TERM; sleep {marker}' & ) ; \
         (setsid setsid sleep {marker} >/dev/null 2>&1 < /dev/null &); sleep {marker}"
    );
    let model = Model::start(move |ask: &Ask| match ask.turn {
        0 => bash(0, &stubborn),
        _ => text("Never."),
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let sleep = format!("sleep {marker}");
    place.until_true(&task, "three sleep", || place.processes(&sleep).len() >= 3).await;
    cancel(&place, &task).await;
    // The tool dies within the session's own time, not at the end of the grace: the session still tells of itself.
    let events = cancelled(&mut place, &task, &sleep).await;
    let (asked, ended) = (position(&events, "cancel_requested").unwrap(), position(&events, "task_cancelled").unwrap());
    assert!(asked < ended);
    let report = task.record().await.unwrap().report;
    assert!(report.is_some(), "the session had the time to report\n{}", place.story(&task).await);
    let wip = format!("refs/abca/wip/{}:begun.txt", task.id());
    assert_eq!(place.git(&["show", &wip]), "begun\n");
}

#[tokio::test]
async fn while_it_verifies() {
    let marker = format!("2e9{}", std::process::id());
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, "echo done > work.txt"),
        _ => text("Done."),
    });
    let test = format!("if test -e work.txt; then sleep {marker}; fi\n");
    let mut place = Place::with(&model, &[("test.sh", &test)]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let sleep = format!("sleep {marker}");
    place.until_true(&task, "the test runs", || !place.processes(&sleep).is_empty()).await;
    cancel(&place, &task).await;
    cancelled(&mut place, &task, &sleep).await;
    assert_eq!(place.git(&["show", &format!("refs/abca/wip/{}:work.txt", task.id())]), "done\n");
}

#[tokio::test]
async fn while_it_waits_to_say_that_it_will_push() {
    let marker = format!("3e9{}", std::process::id());
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, "echo done > work.txt"),
        _ => text("Done."),
    });
    let test = format!("if test -e work.txt; then sh -c 'until test -e go; do sleep 0.05; done' {marker}; fi\n");
    let mut place = Place::with(&model, &[("test.sh", &test), (".gitignore", "go\n")]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.until_true(&task, "the test runs", || !place.processes(&marker).is_empty()).await;
    place.until_named(&task, "step:verify_build:start").await;
    // Nobody takes the session's words for a while, and when somebody does, the answer is that it shall stop.
    place.kill_worker();
    open_gate(&place.tree(&task), "go");
    place.until_true(&task, "the test has ended", || place.processes(&marker).is_empty()).await;
    cancel(&place, &task).await;
    place.start_worker();
    cancelled(&mut place, &task, &marker).await;
    assert_eq!(place.git(&["show", &format!("refs/abca/wip/{}:work.txt", task.id())]), "done\n");
}
