//! A question to a human: from the session's log to the task's state, and the answer back.

use abca_core::link::SessionLink;
use abca_core::session::LogEntry;
use abca_core::store::SignalOutcome;
use abca_core::task::{Gate, GateDecision, SignalKind, TaskStatus, Verdict};
use abca_core::testing::fixtures;
use abca_core::{Clock, Millis};

use super::link::Stage;
use super::world::report;

fn question(stage: &Stage, name: &str, wait: u64) -> LogEntry {
    let deadline = stage.world.clock.now().after(Millis::secs(wait));
    LogEntry::ApprovalRequested { turn: 1, call: "c1".to_owned(), gate: Box::new(fixtures::gate(name, deadline)) }
}

/// Answers as a human does.
async fn answers(stage: &Stage, gate: &str, decision: GateDecision) -> SignalOutcome {
    let kind = SignalKind::ApprovalDecided { request: gate.to_owned(), decision };
    let id = Gate::answer_id(gate).unwrap();
    let signal = fixtures::signal(stage.task, id.as_str(), kind, stage.world.clock.now());
    stage.world.store.signal(&[signal]).await.unwrap().remove(0)
}

/// Waits for the answer as a session does.
async fn heard(stage: &Stage) -> (String, GateDecision) {
    loop {
        let reply = stage.world.link.listen(stage.task, &stage.session, &[]).await.unwrap();
        let answer = reply.signals.into_iter().find_map(|s| match s.kind {
            SignalKind::ApprovalDecided { decision, .. } => Some((s.id.as_str().to_owned(), decision)),
            _ => None,
        });
        if let Some(answer) = answer {
            return answer;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_moves_the_task_and_its_answer_moves_it_back_before_the_session_hears_it() {
    let stage = Stage::set().await;
    let (link, task, session) = (stage.world.link.clone(), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    let asks = stage.append(1, question(&stage, "gate-1", 300));
    link.append(&asks).await.unwrap();
    // The answer to the append got lost: it is said again, and asked once.
    link.append(&asks).await.unwrap();
    let waiting = stage.world.until(task, "asked", |s| s.task.status == TaskStatus::AwaitingApproval).await;
    assert_eq!(waiting.task.awaiting.as_ref().map(|g| g.preview.as_str()), Some("git push --force"));
    assert_eq!(waiting.signals, []);
    let yes = GateDecision::approve("ann", "rule:force_push_any".parse().unwrap());
    assert_eq!(answers(&stage, "gate-1", yes.clone()).await, SignalOutcome::Accepted);
    assert_eq!(answers(&stage, "gate-1", GateDecision::deny("bob", None)).await, SignalOutcome::Duplicate);
    let (signal, decision) = heard(&stage).await;
    assert_eq!(decision, yes, "the first answer counts");
    let running = stage.world.until(task, "runs again", |s| s.task.status == TaskStatus::Running).await;
    assert_eq!(running.task.awaiting, None);
    let settled = LogEntry::ApprovalSettled { request: "gate-1".to_owned(), signal, decision, waited_ms: Millis(0) };
    assert_eq!(link.append(&stage.append(2, settled)).await.unwrap().signals, []);
    let after = stage.world.until(task, "nothing is left to hear", |s| s.signals.is_empty()).await;
    assert_eq!(after.task.status, TaskStatus::Running);
    link.report(task, &session, &report(Verdict::Succeeded)).await.unwrap();
    assert_eq!(stage.world.end(task).await.status, TaskStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_first_of_a_human_and_the_deadline_is_the_answer() {
    for human_first in [true, false] {
        let stage = Stage::set().await;
        let (link, task) = (stage.world.link.clone(), stage.task);
        link.register(task, &stage.session).await.unwrap();
        link.append(&stage.append(1, question(&stage, "gate-1", 30))).await.unwrap();
        stage.world.until(task, "asked", |s| s.task.status == TaskStatus::AwaitingApproval).await;
        let yes = GateDecision::approve("ann", "this_call".parse().unwrap());
        let over = stage.append(2, LogEntry::ApprovalExpired { request: "gate-1".to_owned() });
        let wanted = if human_first {
            assert_eq!(answers(&stage, "gate-1", yes.clone()).await, SignalOutcome::Accepted);
            link.append(&over).await.unwrap();
            yes
        } else {
            link.append(&over).await.unwrap();
            assert_eq!(answers(&stage, "gate-1", yes).await, SignalOutcome::Duplicate);
            GateDecision::expired()
        };
        assert_eq!(heard(&stage).await.1, wanted, "human first: {human_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_at_a_gate_stops_the_session_and_strands_the_question() {
    let stage = Stage::set().await;
    let (link, task, session) = (stage.world.link.clone(), stage.task, stage.session.clone());
    link.register(task, &session).await.unwrap();
    link.append(&stage.append(1, question(&stage, "gate-1", 300))).await.unwrap();
    stage.world.until(task, "asked", |s| s.task.status == TaskStatus::AwaitingApproval).await;
    let (reply, _) = tokio::join!(link.listen(task, &session, &[]), stage.world.cancel(task));
    assert_eq!(reply.unwrap().stop.as_deref(), Some("cancelled by bob"));
    link.report(task, &session, &report(Verdict::Cancelled)).await.unwrap();
    let ended = stage.world.end(task).await;
    assert_eq!((ended.status, ended.awaiting), (TaskStatus::Cancelled, None));
    let late = answers(&stage, "gate-1", GateDecision::approve("ann", "this_call".parse().unwrap())).await;
    assert_eq!(late, SignalOutcome::Terminal(TaskStatus::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_question_of_a_session_that_is_not_expected_is_refused() {
    let stage = Stage::set().await;
    let link = stage.world.link.clone();
    link.register(stage.task, &stage.session).await.unwrap();
    let mut foreign = stage.append(1, question(&stage, "gate-1", 300));
    foreign.session = abca_core::SessionId::of(stage.task, 2);
    foreign.records[0].session = foreign.session.clone();
    assert!(link.append(&foreign).await.is_err());
    let snapshot = stage.world.store.load(&[stage.task]).await.unwrap().remove(0).unwrap();
    assert_eq!((snapshot.task.status, snapshot.signals), (TaskStatus::Running, vec![]));
}
