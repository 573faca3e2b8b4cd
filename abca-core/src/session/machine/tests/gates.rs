//! Guards and humans before a tool runs.

use super::*;
use crate::policy::Severity;
use crate::task::{ApprovalScope, InitialScope};

fn draft(deadline: Option<u64>) -> CallVerdict {
    let at = |ms| crate::Timestamp::from_millis(ms);
    CallVerdict::Ask(Box::new(GateDraft {
        preview: "git push --force".to_owned(),
        rules: vec!["force_push".to_owned()],
        reason: "`force_push`: rewrites what others may have".to_owned(),
        severity: Severity::High,
        scopes: vec!["rule:force_push".to_owned()],
        now: at(1),
        deadline: deadline.map(|d| at(i64::try_from(d).unwrap())),
    }))
}

fn asks(m: &mut Machine) -> Vec<Output> {
    m.handle(Input::Judged(draft(Some(301))))
}

fn answer(m: &mut Machine, request: &str, decision: GateDecision) -> Vec<Output> {
    m.handle(Input::Decided {
        request: request.to_owned(),
        signal: format!("decided/{request}"),
        decision,
        waited_ms: Millis(7),
    })
}

/// A machine that waits for what guards say of the first of these calls.
fn judging(calls_made: &[ToolCall]) -> (Machine, Vec<LogEntry>) {
    let mut m = Machine::resume(config(), SessionState::default());
    let mut log = logged(&m.handle(prompt()));
    let out = m.handle(calls(calls_made));
    assert_eq!(out.last(), calls_made.first().cloned().map(Output::Judge).as_ref());
    log.extend(logged(&out));
    (m, log)
}

/// What the model was told of a call that did not run.
fn told(outputs: &[Output]) -> Vec<String> {
    let ended = |e: LogEntry| match e {
        LogEntry::ToolEnded { result, .. } if result.is_error => result.content.first().and_then(|c| match c {
            Content::Text { text } => Some(text.clone()),
            _ => None,
        }),
        _ => None,
    };
    logged(outputs).into_iter().filter_map(ended).collect()
}

#[test]
fn what_guards_refuse_does_not_run_and_the_model_hears_why() {
    let (mut m, _) = judging(&[call("a", "Bash", 1), call("b", "Bash", 2)]);
    let out = m.handle(Input::Judged(CallVerdict::Refuse("denied by policy".to_owned())));
    assert_eq!(told(&out), ["denied by policy"]);
    assert_eq!(out.last(), Some(&Output::Judge(call("b", "Bash", 2))), "the next call is judged for itself");
    assert!(!logged(&out).iter().any(|e| matches!(e, LogEntry::ToolStarted { .. })));
}

#[test]
fn an_approval_runs_the_call_that_was_asked_about_and_no_other() {
    let (mut m, _) = judging(&[call("a", "Bash", 1), call("b", "Bash", 1)]);
    let out = asks(&mut m);
    let Some(Output::AwaitApproval(gate)) = out.last() else { panic!("{out:?}") };
    assert_eq!((gate.request.as_str(), gate.tool.as_str(), gate.deadline.as_millis()), ("gate-1", "Bash", 301));
    let out = answer(&mut m, "gate-1", GateDecision::approve("ann", ApprovalScope::ThisCall));
    assert_eq!(out.last(), Some(&Output::Judge(call("a", "Bash", 1))), "judged by what is approved now");
    assert_eq!(asks(&mut m).last(), Some(&Output::RunTool(call("a", "Bash", 1))));
    assert_eq!(m.handle(result("a", "pushed")).last(), Some(&Output::Judge(call("b", "Bash", 1))));
    let out = asks(&mut m);
    let Some(Output::AwaitApproval(gate)) = out.last() else { panic!("the same words are another call: {out:?}") };
    assert_eq!(gate.request, "gate-2");
}

#[test]
fn a_scope_lasts_for_the_task_in_whatever_session() {
    let (mut m, mut log) = judging(&[call("a", "Bash", 1)]);
    log.extend(logged(&asks(&mut m)));
    log.extend(logged(&answer(&mut m, "gate-1", GateDecision::approve("ann", ApprovalScope::ToolTypeSession))));
    let granted = [InitialScope::ToolType("Bash".to_owned())];
    assert_eq!(m.state().approvals.granted, granted);
    assert_eq!(fold(&log).approvals, m.state().approvals);
}

#[test]
fn a_denial_is_told_with_its_reason_and_the_same_call_is_not_asked_about_again() {
    let (mut m, _) = judging(&[call("a", "Bash", 1), call("b", "Bash", 1), call("c", "Bash", 2)]);
    asks(&mut m);
    let out = answer(&mut m, "gate-1", GateDecision::deny("ann", Some("use a branch".to_owned())));
    assert!(told(&out)[0].ends_with("They say: use a branch"), "{out:?}");
    assert_eq!(out.last(), Some(&Output::Judge(call("b", "Bash", 1))));
    let out = asks(&mut m);
    assert!(
        told(&out)[0].contains("denied this very call before") && told(&out)[0].contains("use a branch"),
        "{out:?}"
    );
    assert_eq!(out.last(), Some(&Output::Judge(call("c", "Bash", 2))));
    assert!(matches!(asks(&mut m).last(), Some(Output::AwaitApproval(_))), "another call is another question");
}

#[test]
fn nobody_in_time_is_no_and_may_be_asked_again() {
    let (mut m, _) = judging(&[call("a", "Bash", 1), call("b", "Bash", 1)]);
    asks(&mut m);
    let out = answer(&mut m, "gate-1", GateDecision::expired());
    assert!(told(&out)[0].starts_with("nobody answered in time"), "{out:?}");
    assert!(matches!(asks(&mut m).last(), Some(Output::AwaitApproval(_))));
}

#[test]
fn questions_are_limited_and_need_time() {
    let many: Vec<ToolCall> = (0..5).map(|n| call(&format!("c{n}"), "Bash", n)).collect();
    let (mut m, _) = judging(&many);
    let out = m.handle(Input::Judged(draft(None)));
    assert!(told(&out)[0].contains("too little of the task's time"), "{out:?}");
    for n in 1..=3 {
        assert!(matches!(asks(&mut m).last(), Some(Output::AwaitApproval(_))));
        answer(&mut m, &format!("gate-{n}"), GateDecision::expired());
    }
    let out = asks(&mut m);
    assert!(told(&out)[0].contains("as often as it may"), "{out:?}");
}

#[test]
fn an_answer_to_another_gate_changes_nothing() {
    let (mut m, _) = judging(&[call("a", "Bash", 1)]);
    asks(&mut m);
    let before = m.state().clone();
    assert_eq!(answer(&mut m, "gate-2", GateDecision::approve("ann", ApprovalScope::ThisCall)), []);
    assert_eq!(m.state(), &before);
    assert_eq!(m.handle(result("a", "forged")), [], "it does not run before the answer");
}

#[test]
fn a_session_that_dies_at_a_gate_is_followed_by_one_that_waits_at_the_same() {
    for died_after_answer in [false, true] {
        let (mut m, mut log) = judging(&[call("a", "Bash", 1)]);
        log.extend(logged(&asks(&mut m)));
        if died_after_answer {
            log.extend(logged(&answer(&mut m, "gate-1", GateDecision::approve("ann", ApprovalScope::ThisCall))));
        }
        let mut m = Machine::resume(config(), fold(&log));
        assert_eq!(m.handle(prompt()).last(), Some(&Output::Judge(call("a", "Bash", 1))), "it never began");
        let out = m.handle(Input::Judged(draft(Some(9_000))));
        if died_after_answer {
            assert_eq!(out.last(), Some(&Output::RunTool(call("a", "Bash", 1))), "nobody is asked twice");
            continue;
        }
        let Some(Output::AwaitApproval(gate)) = out.last() else { panic!("{out:?}") };
        assert_eq!((gate.request.as_str(), gate.deadline.as_millis()), ("gate-1", 301), "name and deadline stay");
        assert_eq!(m.state().approvals.asked, 1);
        answer(&mut m, "gate-1", GateDecision::approve("ann", ApprovalScope::ThisCall));
        assert_eq!(asks(&mut m).last(), Some(&Output::RunTool(call("a", "Bash", 1))));
    }
}

#[test]
fn a_stop_at_a_gate_ends_the_loop() {
    let (mut m, _) = judging(&[call("a", "Bash", 1)]);
    asks(&mut m);
    assert!(end_of(&m.handle(Input::Stop)).is_some());
    assert_eq!(answer(&mut m, "gate-1", GateDecision::approve("ann", ApprovalScope::ThisCall)), []);
}
