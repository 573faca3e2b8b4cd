//! `kill -9` of the worker at every milestone of a life, alone and together with the session.

use futures_util::future::join_all;

use super::lives::{LINES, script};
use super::server::Model;
use super::world::{Place, held, named, open_gate, signal};

/// Milestones of a whole life, in order; of those that come often, the nth is meant.
const MOMENTS: &[(&str, usize)] = &[
    ("task_created", 1),
    ("task_admitted", 1),
    ("hydration_complete", 1),
    ("session_starting", 1),
    ("session_started", 1),
    ("session_walls", 1),
    ("step:clone_repo:succeeded", 1),
    ("step:baseline:start", 1),
    ("step:hydrate_context:start", 1),
    ("step:run_agent:start", 1),
    ("agent_turn", 1),
    ("agent_tool_call", 2),
    ("agent_tool_result", 3),
    ("checkpoint", 1),
    ("agent_execution_complete", 1),
    ("step:safety_net:start", 1),
    ("step:verify_build:start", 1),
    ("step:ensure_pr:start", 1),
    ("pr_created", 1),
    ("step:ensure_pr:succeeded", 1),
];

const BEFORE_THE_SESSION: &[&str] = &["task_created", "task_admitted", "hydration_complete", "session_starting"];

async fn reached(place: &Place, task: &abca::TaskHandle, (name, nth): (&str, usize)) {
    let seen = std::cell::Cell::new(0);
    let fits = |event: &abca::Event| {
        seen.set(seen.get() + usize::from(named(event, name)));
        seen.get() == nth && named(event, name)
    };
    place.until(task, name, fits).await;
}

async fn worker_dies(moment: (&'static str, usize)) {
    let mut place = Place::new(&Model::start(script)).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    reached(&place, &task, moment).await;
    place.kill_worker();
    place.start_worker();
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), LINES, "{moment:?}\n{}", place.story(&task).await);
    // A worker that dies while it starts a session may leave half of one, which ends and is begun anew.
    let most = if BEFORE_THE_SESSION.contains(&moment.0) { 2 } else { 1 };
    assert!(outcome.attempts <= most, "the session outlives its worker: {moment:?}\n{}", place.story(&task).await);
    assert_eq!(place.model.calls(), 4, "{moment:?}\n{}", place.story(&task).await);
}

async fn worker_and_session_die(moment: (&'static str, usize)) {
    let mut place = Place::new(&Model::start(script)).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    reached(&place, &task, moment).await;
    place.kill_worker();
    for pid in ["supervisor", "brain"].iter().filter_map(|which| place.session_process(which)) {
        signal(pid, "KILL");
    }
    place.start_worker();
    let outcome = place.delivered(&task).await;
    let log = place.on_branch(&outcome, "ran.log");
    // What was interrupted may have left its line or not; nothing is there twice.
    let lines: Vec<&str> = LINES.lines().filter(|l| log.lines().any(|x| x == *l)).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), lines, "{moment:?}\n{}", place.story(&task).await);
    assert!(lines.len() >= 3, "{moment:?} {lines:?}");
}

// Few lives at a time: what is tested is not how they share two processors.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_at_every_milestone() {
    for few in MOMENTS.chunks(10) {
        join_all(few.iter().map(|moment| worker_dies(*moment))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_and_the_session_at_every_milestone() {
    for few in MOMENTS.chunks(10) {
        join_all(few.iter().map(|moment| worker_and_session_die(*moment))).await;
    }
}

/// A lock lives as long as anybody holds the file open: had a session it open, its worker would look alive for ever.
#[tokio::test]
async fn no_session_holds_the_lock_of_its_worker() {
    let (mut place, task) = held().await;
    let roster = place.state().join("workers");
    let held = |pid: i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|path| path.starts_with(&roster)).count()
    };
    let names = || std::fs::read_dir(&roster).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [dead] = names().try_into().unwrap();
    assert!(place.session_processes().len() >= 2);
    assert_eq!(place.session_processes().into_iter().map(held).sum::<usize>(), 0);
    // Whoever comes next sees the death at once.
    place.kill_worker();
    place.start_worker();
    place.until_true(&task, "the dead one is buried", || !names().contains(&dead)).await;
    open_gate(&place.tree(&task), "go");
    assert!(place.end(&task).await.is_success(), "{}", place.story(&task).await);
}
