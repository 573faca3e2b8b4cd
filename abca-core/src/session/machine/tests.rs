//! The loop against scripted models.

#![allow(clippy::arithmetic_side_effects, reason = "a test may count")]

use serde_json::json;

use super::*;
use crate::model::{Price, ToolInput, Usage};
use crate::session::LogRecord;

mod deaths;
mod gates;

fn config() -> MachineConfig {
    MachineConfig {
        model: "fake:m".to_owned(),
        model_id: "m".to_owned(),
        capabilities: ModelCapabilities {
            context_window_tokens: 200_000,
            max_output_tokens: 8_000,
            images: true,
            caching: true,
            counts_tokens: true,
            price: Some(Price { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 }),
        },
        tools: Vec::new(),
        max_turns: 20,
        max_budget: None,
        max_output_tokens: 8_000,
        max_gates: 3,
    }
}

/// Takes an input, and lets every call run that the guards are asked about.
fn step(m: &mut Machine, input: Input) -> Vec<Output> {
    let mut all = m.handle(input);
    while let Some(Output::Judge(_)) = all.last() {
        all.pop();
        all.extend(m.handle(Input::Judged(CallVerdict::Allow)));
    }
    all
}

fn prompt() -> Input {
    Input::Begin(Box::new(Prompt { system: "be good".to_owned(), user: "fix it".to_owned(), version: "v".to_owned() }))
}

fn call(id: &str, name: &str, n: u64) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), input: ToolInput::Json(json!({ "n": n })) }
}

fn reply(content: Vec<Content>, stop: StopReason) -> Input {
    let usage = Usage { input_tokens: 100, output_tokens: 50, ..Usage::default() };
    let reply = ModelReply { content, stop, usage, model: "m".to_owned() };
    Input::Replied { reply: Box::new(reply), duration_ms: Millis(5) }
}

fn says(text: &str) -> Input {
    reply(vec![Content::text(text)], StopReason::EndTurn)
}

fn calls(calls: &[ToolCall]) -> Input {
    reply(calls.iter().cloned().map(Content::ToolUse).collect(), StopReason::ToolUse)
}

fn result(id: &str, text: &str) -> Input {
    let result = ToolResult { tool_use_id: id.to_owned(), content: vec![Content::text(text)], is_error: false };
    Input::ToolDone { result, duration_ms: Millis(1) }
}

fn logged(outputs: &[Output]) -> Vec<LogEntry> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Log(entry) => Some(entry.clone()),
            _ => None,
        })
        .collect()
}

fn end_of(outputs: &[Output]) -> Option<&AgentEnd> {
    outputs.iter().find_map(|o| match o {
        Output::End(end) => Some(end),
        _ => None,
    })
}

fn fold(entries: &[LogEntry]) -> SessionState {
    let session = crate::SessionId::new("s").unwrap();
    let records: Vec<LogRecord> = entries
        .iter()
        .map(|entry| LogRecord { session: session.clone(), at: crate::Timestamp::from_millis(0), entry: entry.clone() })
        .collect();
    SessionState::fold(&records)
}

#[test]
fn a_conversation_runs_to_its_end() {
    let mut m = Machine::resume(config(), SessionState::default());
    let out = step(&mut m, prompt());
    assert_eq!(out.last(), Some(&Output::CallModel { covered: false }));
    let out = step(&mut m, calls(&[call("a", "Bash", 1), call("b", "Read", 2)]));
    assert_eq!(out.last(), Some(&Output::RunTool(call("a", "Bash", 1))));
    let out = step(&mut m, result("a", "ok"));
    assert_eq!(out.last(), Some(&Output::RunTool(call("b", "Read", 2))), "the second waits for the first");
    let out = step(&mut m, result("b", "text"));
    assert_eq!(out.last(), Some(&Output::CallModel { covered: true }));
    assert!(out.contains(&Output::Checkpoint { turn: 1 }), "a turn that may have changed files is saved");
    let out = step(&mut m, says("done"));
    assert_eq!(end_of(&out), Some(&AgentEnd { failure: None, answer: "done".to_owned() }));
    let roles: Vec<_> = m.request().messages.iter().map(|m| (m.role, m.content.len())).collect();
    use crate::model::Role::{Assistant, User};
    assert_eq!(roles, [(User, 1), (Assistant, 2), (User, 2), (Assistant, 1)]);
    assert_eq!(m.state().spent, MicroUsd(2 * (100 * 3 + 50 * 15)));
}

#[test]
fn a_result_that_is_longer_than_was_set_aside_for_waits_for_its_own_reservation() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    step(&mut m, calls(&[call("a", "Bash", 1)]));
    let (_, ahead) = m.state().ahead.unwrap();
    let out = step(&mut m, result("a", &"x".repeat(40_000)));
    assert_eq!(out.last(), Some(&Output::CallModel { covered: false }));
    assert!(m.state().reserved.unwrap().1 > ahead && m.state().ahead.is_none());
}

#[test]
fn a_word_that_comes_just_before_the_call_is_in_it() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    let (turn, reserved) = m.state().reserved.unwrap();
    assert_eq!(step(&mut m, Input::Nudge { signal: "n1".to_owned(), text: "use tabs".to_owned() }), []);
    assert!(m.has_unheard());
    let out = step(&mut m, Input::Reconsider);
    let said =
        LogEntry::Injected { signal: Some("n1".to_owned()), origin: "nudge".to_owned(), text: "use tabs".to_owned() };
    assert_eq!(logged(&out)[0], said);
    assert_eq!(out.last(), Some(&Output::CallModel { covered: false }));
    assert!(!m.has_unheard() && m.state().reserved.unwrap().1 > reserved);
    assert_eq!(m.state().turn, turn, "the same turn");
    assert_eq!(m.request().messages[0].content.last(), Some(&Content::text("use tabs")));
}

#[test]
fn the_fold_of_the_log_is_the_state() {
    let mut m = Machine::resume(config(), SessionState::default());
    let mut log = Vec::new();
    for input in [prompt(), calls(&[call("a", "Bash", 1)]), result("a", "x"), says("done")] {
        log.extend(logged(&step(&mut m, input)));
    }
    let mut folded = fold(&log);
    // What the configuration sets is not in the log.
    folded.request.model.clone_from(&m.state().request.model);
    folded.request.max_output_tokens = m.state().request.max_output_tokens;
    folded.reply_open = m.state().reply_open;
    assert_eq!(&folded, m.state());
}

#[test]
fn a_budget_is_a_limit() {
    let budget = MicroUsd(100_000); // ten cents
    let mut m = Machine::resume(MachineConfig { max_budget: Some(budget), ..config() }, SessionState::default());
    let mut outputs = step(&mut m, prompt());
    let mut turns = 0;
    let end = loop {
        if let Some(end) = end_of(&outputs) {
            break end.clone();
        }
        outputs = match outputs.last() {
            Some(Output::CountTokens) => {
                let input_tokens = m.state().request_bytes / 2;
                step(&mut m, Input::Counted { input_tokens })
            }
            Some(Output::CallModel { .. }) => {
                turns += 1;
                let (_, reserved) = m.state().reserved.unwrap();
                assert!(m.state().spent.plus(reserved) <= budget, "reserved beyond the budget");
                assert_eq!(m.state().ahead, None, "one reservation at a time");
                // The worst that the reservation allows.
                let out = u64::from(m.request().max_output_tokens);
                let input_tokens = m.state().request_bytes / 2;
                let usage = Usage { cache_write_tokens: input_tokens, output_tokens: out, ..Usage::default() };
                let content = vec![Content::ToolUse(call(&format!("c{turns}"), "Bash", turns))];
                let reply = ModelReply { content, stop: StopReason::ToolUse, usage, model: "m".to_owned() };
                step(&mut m, Input::Replied { reply: Box::new(reply), duration_ms: Millis(1) })
            }
            Some(Output::RunTool(call)) => {
                let id = call.id.clone();
                let ahead = m.state().ahead.map_or(MicroUsd::ZERO, |(_, ahead)| ahead);
                assert!(m.state().spent.plus(ahead) <= budget, "set aside beyond the budget");
                step(&mut m, result(&id, &format!("output {turns}")))
            }
            other => panic!("{other:?}"),
        };
    };
    assert!(m.state().spent <= budget, "{} spent of {budget}", m.state().spent);
    assert_eq!(end.failure.map(|f| f.reason), Some(FailureReason::Budget));
}

#[test]
fn a_budget_smaller_than_one_call_makes_no_call() {
    let config = MachineConfig { max_budget: Some(MicroUsd(100)), ..config() };
    let mut m = Machine::resume(config, SessionState::default());
    assert_eq!(step(&mut m, prompt()).last(), Some(&Output::CountTokens));
    let out = step(&mut m, Input::Counted { input_tokens: 50 });
    let failure = end_of(&out).and_then(|e| e.failure.clone()).unwrap();
    assert_eq!(failure.reason, FailureReason::Budget);
    assert!(failure.message.contains("does not allow another call"), "{}", failure.message);
    assert!(!logged(&out).iter().any(|e| matches!(e, LogEntry::ModelReserved { .. })));
}

#[test]
fn a_budget_without_a_price_is_refused() {
    let mut config = MachineConfig { max_budget: Some(MicroUsd(1_000_000)), ..config() };
    config.capabilities.price = None;
    let out = Machine::resume(config, SessionState::default()).handle(prompt());
    assert!(end_of(&out).unwrap().failure.as_ref().unwrap().message.contains("no price is known for `fake:m`"));
}

#[test]
fn a_model_that_says_nothing_is_asked_again_and_then_given_up() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    let mut out = Vec::new();
    for _ in 0..MAX_UNPRODUCTIVE {
        assert_eq!(end_of(&out), None);
        out = step(&mut m, reply(Vec::new(), StopReason::EndTurn));
    }
    assert_eq!(end_of(&out).unwrap().failure.as_ref().unwrap().reason, FailureReason::Model);
}

#[test]
fn a_refusal_ends_the_session_with_its_words() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    let out = step(&mut m, reply(vec![Content::text("I will not.")], StopReason::Refusal));
    let failure = end_of(&out).unwrap().failure.clone().unwrap();
    assert_eq!((failure.reason, failure.message.as_str()), (FailureReason::Refusal, "the model refused: I will not."));
}

#[test]
fn the_same_call_for_ever_comes_to_an_end() {
    let mut m = Machine::resume(MachineConfig { max_turns: 500, ..config() }, SessionState::default());
    step(&mut m, prompt());
    for turn in 0..100 {
        let id = format!("c{turn}");
        step(&mut m, calls(&[call(&id, "Bash", 7)]));
        let out = step(&mut m, result(&id, "the same"));
        if let Some(end) = end_of(&out) {
            assert!(end.failure.as_ref().unwrap().message.contains("stuck"));
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn the_turn_cap_holds() {
    let mut m = Machine::resume(MachineConfig { max_turns: 2, ..config() }, SessionState::default());
    step(&mut m, prompt());
    step(&mut m, calls(&[call("a", "Bash", 1)]));
    step(&mut m, result("a", "1"));
    step(&mut m, calls(&[call("b", "Bash", 2)]));
    let out = step(&mut m, result("b", "2"));
    assert_eq!(end_of(&out).unwrap().failure.as_ref().unwrap().reason, FailureReason::MaxTurns);
    assert_eq!((m.state().turn, m.state().turns_completed), (2, 2));
}

#[test]
fn an_answer_that_breaks_off_is_counted_as_spent_and_asked_for_again() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    let reserved = m.state().reserved.unwrap().1;
    let broken = || Input::ModelFailed { kind: ModelErrorKind::Network, message: "cut".to_owned(), billed: true };
    let out = step(&mut m, broken());
    assert_eq!(out.last(), Some(&Output::CallModel { covered: false }));
    assert_eq!(m.state().spent, reserved);
    for _ in 1..MAX_BROKEN_ANSWERS {
        step(&mut m, broken());
    }
    assert_eq!(end_of(&step(&mut m, broken())).unwrap().failure.as_ref().unwrap().reason, FailureReason::Model);
}

#[test]
fn nudges_reach_the_model_between_turns_once() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    step(&mut m, calls(&[call("a", "Bash", 1)]));
    for _ in 0..2 {
        step(&mut m, Input::Nudge { signal: "n1".to_owned(), text: "use tabs".to_owned() });
    }
    step(&mut m, result("a", "ok"));
    let last = m.request().messages.last().unwrap();
    assert_eq!(last.content.last(), Some(&Content::text("use tabs")));
    assert_eq!(last.content.len(), 2);
    step(&mut m, Input::Nudge { signal: "n1".to_owned(), text: "use tabs".to_owned() });
    step(&mut m, calls(&[call("b", "Bash", 2)]));
    step(&mut m, result("b", "ok"));
    assert_eq!(m.request().messages.last().unwrap().content.len(), 1, "heard once");
}

#[test]
fn a_conversation_that_outgrows_the_window_loses_its_oldest_results_first() {
    let mut config = MachineConfig { max_turns: 500, ..config() };
    config.capabilities.context_window_tokens = 10_000;
    let mut m = Machine::resume(config, SessionState::default());
    step(&mut m, prompt());
    for turn in 0..40u64 {
        let id = format!("c{turn}");
        step(&mut m, calls(&[call(&id, "Read", turn)]));
        step(&mut m, result(&id, &"x".repeat(2_000)));
    }
    assert!(m.state().request_bytes < 60_000, "{}", m.state().request_bytes);
    let texts: Vec<String> = m.request().messages.iter().map(|m| format!("{m:?}")).collect();
    assert!(texts.iter().any(|t| t.contains("removed to make room")));
    assert!(texts.last().unwrap().contains("xxx"), "the newest result stays");
}

#[test]
fn no_input_in_any_phase_is_answered_with_a_second_end() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    assert!(end_of(&step(&mut m, Input::Stop)).is_some());
    for input in [prompt(), says("late"), result("a", "late"), Input::Stop, Input::Counted { input_tokens: 1 }] {
        assert_eq!(step(&mut m, input), []);
    }
}

#[test]
fn what_is_said_while_calls_are_open_comes_after_their_results() {
    let mut m = Machine::resume(config(), SessionState::default());
    let mut log = logged(&step(&mut m, prompt()));
    log.extend(logged(&step(&mut m, calls(&[call("a", "Bash", 1), call("b", "Bash", 2)]))));
    let text = "you were moved".to_owned();
    log.push(LogEntry::Injected { signal: None, origin: "restored".to_owned(), text: text.clone() });
    let mut m = Machine::resume(config(), fold(&log));
    step(&mut m, prompt());
    step(&mut m, result("b", "ok"));
    let last = m.request().messages.last().unwrap();
    let kinds: Vec<&str> = last
        .content
        .iter()
        .map(|c| match c {
            Content::ToolResult(r) => r.tool_use_id.as_str(),
            _ => "text",
        })
        .collect();
    assert_eq!(kinds, ["a", "b", "text"]);
    let bytes = m.state().request_bytes;
    assert_eq!(m.state().request.messages.len(), 3);
    assert!(bytes > u64::try_from(text.len()).unwrap());
}

#[test]
fn an_agent_that_is_done_hears_what_was_said_meanwhile_before_it_ends() {
    let mut m = Machine::resume(config(), SessionState::default());
    step(&mut m, prompt());
    step(&mut m, Input::Nudge { signal: "n1".to_owned(), text: "and the docs".to_owned() });
    let out = step(&mut m, says("done"));
    assert_eq!((end_of(&out), out.last()), (None, Some(&Output::CallModel { covered: false })));
    assert!(end_of(&step(&mut m, says("all done"))).is_some());
}
