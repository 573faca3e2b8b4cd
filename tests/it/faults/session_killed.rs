//! `kill -9` of a session's brain, its supervisor and its hands, while it does each thing that takes time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abca::TaskHandle;
use abca_core::session::LogEntry;
use futures_util::future::join_all;
use serde_json::json;

use super::server::{Answer, Ask, Model, bash, text, tools};
use super::world::{PATIENCE, Place, gate, open_gate, signal};

/// What a session is doing when it dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum During {
    ModelCall,
    Tool,
    Verification,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Brain,
    Supervisor,
    Hands,
}

fn model(during: During, victim: Victim) -> (Model, Arc<AtomicUsize>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let told = waiting.clone();
    let model = Model::start(move |ask: &Ask| match ask.turn {
        0 => bash(0, "echo one >> ran.log"),
        1 if during == During::ModelCall && told.fetch_add(1, Ordering::SeqCst) == 0 => {
            if victim != Victim::Hands {
                return Answer::Silence;
            }
            while told.load(Ordering::SeqCst) < 2 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            bash(1, "echo two >> ran.log")
        }
        1 if during == During::Tool => tools(
            1,
            &[
                ("Bash", json!({"command": "echo two >> ran.log", "description": "x"})),
                ("Bash", json!({"command": format!("echo three >> ran.log; {}", gate("go")), "description": "x"})),
                ("Bash", json!({"command": "echo four >> ran.log", "description": "x"})),
            ],
        ),
        1 => bash(1, "echo two >> ran.log"),
        _ => text("Done."),
    });
    (model, waiting)
}

/// Waits until the session does what it is to die in.
async fn busy(place: &Place, task: &TaskHandle, during: During, calls: &AtomicUsize) {
    match during {
        During::ModelCall => {
            place.until_true(task, "the model is called", || calls.load(Ordering::SeqCst) > 0).await;
        }
        During::Tool => {
            let log = place.tree(task).join("ran.log");
            let three = || std::fs::read_to_string(&log).is_ok_and(|s| s.contains("three"));
            place.until_true(task, "the tool runs", three).await;
        }
        During::Verification => {
            place.until_true(task, "the test runs", || place.tree(task).join(".testing").exists()).await;
        }
    }
}

async fn dies(during: During, victim: Victim, moved: bool) {
    let what = format!("{during:?} {victim:?} moved={moved}");
    let (model, calls) = model(during, victim);
    // The second run of the test waits.
    let test = format!("if test -e ran.log; then touch .testing; {}; fi\n", gate("go"));
    let test = if during == During::Verification { test } else { "true\n".to_owned() };
    let mut place = Place::with(&model, &[("test.sh", &test), (".gitignore", "go\n.testing\n")]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    busy(&place, &task, during, &calls).await;
    if moved {
        // Whatever is on the ref by now is there for good.
        let saved = || !place.git(&["for-each-ref", "refs/abca/wip"]).is_empty();
        place.until_true(&task, "the work is saved", saved).await;
    }
    let begun = std::time::Instant::now();
    match victim {
        Victim::Brain => signal(place.session_process("brain").unwrap(), "KILL"),
        Victim::Supervisor => signal(place.session_process("supervisor").unwrap(), "KILL"),
        Victim::Hands => {
            let hands = place.hands();
            assert!(!hands.is_empty(), "{what}");
            hands.into_iter().for_each(|pid| signal(pid, "KILL"));
            calls.fetch_add(1, Ordering::SeqCst);
        }
    }
    if victim != Victim::Hands {
        if moved {
            place.nothing_runs(&task).await;
            // A folder that no session holds is removed whole: another machine has none.
            std::fs::remove_dir_all(place.work(&task)).unwrap();
        }
        let retried =
            |e: &abca::Event| e.event_type.as_str() == "session_start_retry" || e.metadata.contains_key("not_before");
        place.until(&task, "another attempt", retried).await;
        assert!(begun.elapsed().as_secs() < 30, "noticed by its exit, not by silence: {what}");
        place
            .until(&task, "the second session", |e| {
                e.event_type.as_str() == "session_started" && e.metadata["attempt"] == 2
            })
            .await;
    }
    if during == During::Verification && victim != Victim::Hands {
        // The next verification waits as well.
        place.until_true(&task, "the tree is there", || place.tree(&task).join("ran.log").exists()).await;
        open_gate(&place.tree(&task), "go");
    }
    if during == During::Verification && victim == Victim::Hands {
        // A machine failure is neither the agent's success nor its fault.
        let outcome = place.end(&task).await;
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.reason, abca_core::task::FailureReason::Infrastructure, "{what} {failure:?}");
        return;
    }
    let outcome = place.delivered(&task).await;
    let log = place.on_branch(&outcome, "ran.log");
    let story = place.story(&task).await;
    let want = if during == During::Tool { "one\ntwo\nthree\nfour\n" } else { "one\ntwo\n" };
    if moved {
        assert!(want.starts_with(log.as_str()) || log.lines().all(|l| want.contains(l)), "{what}: {log}\n{story}");
        assert!(log.starts_with("one\n"), "{what}: {log}\n{story}");
    } else {
        assert_eq!(log, want, "{what}\n{story}");
    }
    assert_eq!(outcome.attempts, if victim == Victim::Hands { 1 } else { 2 }, "{what}");
    let settled = interrupted(&task).await;
    assert_eq!(settled, usize::from(during == During::Tool), "{what}\n{story}");
    assert!(begun.elapsed() < PATIENCE);
}

/// Tool calls whose result says that they were cut short.
async fn interrupted(task: &TaskHandle) -> usize {
    let log = task.log().await.unwrap();
    let cut = |entry: &LogEntry| match entry {
        LogEntry::ToolEnded { result, .. } => {
            let text = serde_json::to_string(&result.content).unwrap();
            result.is_error
                && (text.contains("may or may not have taken effect") || text.contains("may not have taken"))
        }
        _ => false,
    };
    log.iter().filter(|(_, record)| cut(&record.entry)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brain_supervisor_and_hands_while_it_works() {
    let mut lives = Vec::new();
    for during in [During::ModelCall, During::Tool, During::Verification] {
        for victim in [Victim::Brain, Victim::Supervisor, Victim::Hands] {
            lives.push(dies(during, victim, false));
        }
    }
    join_all(lives).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_the_work_goes_on_on_another_machine() {
    join_all([During::ModelCall, During::Tool, During::Verification].map(|d| dies(d, Victim::Brain, true))).await;
}

/// Dies in delivery: at once after the push, or after its pull request and its worker.
async fn dies_delivering(opened: bool, moved: bool) {
    let what = format!("opened={opened} moved={moved}");
    let (model, _) = model(During::Verification, Victim::Brain);
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    if opened {
        // Not yet in the log, as a rule: what says so has no worker to say it to.
        let proposed = || place.repo().join(".git/abca/pulls/1.json").exists();
        place.until_true(&task, "the pull request is there", proposed).await;
        place.kill_worker();
    } else {
        let branch = place.repo().join(".git/refs/heads/bgagent").join(task.id().to_string());
        place.until_true(&task, "the branch is pushed", || branch.exists()).await;
    }
    if let Some(brain) = place.session_process("brain") {
        signal(brain, "KILL");
    }
    place.nothing_runs(&task).await;
    if moved && place.work(&task).exists() {
        std::fs::remove_dir_all(place.work(&task)).unwrap();
    }
    if opened {
        place.start_worker();
    }
    let outcome = place.delivered(&task).await;
    let story = place.story(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "one\ntwo\n", "{what}\n{story}");
    assert_eq!(place.model.calls(), 3, "{what}\n{story}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brain_while_it_delivers() {
    join_all([(false, false), (true, false), (false, true), (true, true)].map(|(o, m)| dies_delivering(o, m))).await;
}

/// Its worker stands still from after the push on, so that nothing that the session says of its pull request is heard; then
/// both die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_its_pull_request_and_its_report() {
    let (model, _) = model(During::Verification, Victim::Brain);
    let mut place = Place::new(&model).await;
    let records = place.repo().join(".git/abca");
    std::fs::create_dir_all(&records).unwrap();
    // Whoever opens a pull request waits for this.
    let lock = std::fs::File::options().create(true).truncate(false).write(true).open(records.join("lock")).unwrap();
    lock.lock().unwrap();
    place.start_worker();
    let task = place.submit(&[]).await;
    let branch = place.repo().join(".git/refs/heads/bgagent").join(task.id().to_string());
    place.until_true(&task, "the branch is pushed", || branch.exists()).await;
    place.stop_worker();
    lock.unlock().unwrap();
    let proposed = || records.join("pulls/1.json").exists();
    place.until_true(&task, "the pull request is there", proposed).await;
    signal(place.session_process("brain").unwrap(), "KILL");
    place.kill_worker();
    place.nothing_runs(&task).await;
    place.start_worker();
    let outcome = place.delivered(&task).await;
    let story = place.story(&task).await;
    assert_eq!(outcome.attempts, 1, "nothing is done again\n{story}");
    let inferred = outcome.inferred.clone().unwrap_or_default();
    assert!(inferred.contains("its pull request stands"), "{inferred}\n{story}");
    assert_eq!(place.on_branch(&outcome, "ran.log"), "one\ntwo\n", "{story}");
    assert_eq!((outcome.turns, outcome.verification.len()), (3, 1), "all that the log tells\n{story}");
    assert_eq!(place.model.calls(), 3, "{story}");
}
