//! The loop dies at every point, also again and again, and what comes of it.

use super::*;

/// When a driver writes what a covered call leaves unwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// While the call is under way.
    Beside,
    /// Together with the answer.
    WithTheAnswer,
}

/// What came of a play.
struct Played {
    log: Vec<LogEntry>,
    ran: Vec<String>,
    calls: u64,
    /// Calls that did not wait for a write.
    covered: u64,
    end: AgentEnd,
}

/// Plays a fixed script against a machine that dies after that many outputs and is resumed from what was written.
fn play(die_after: usize, writes: Writes, long: bool) -> Played {
    let script = |turn: u32| match turn {
        1 => calls(&[call("a", "Bash", 1), call("b", "Write", 2)]),
        2 => calls(&[call("c", "Edit", 3)]),
        _ => says("done"),
    };
    let mut log: Vec<LogEntry> = Vec::new();
    let (mut ran, mut called, mut covered_calls) = (Vec::new(), 0, 0);
    let mut countdown = die_after;
    'life: loop {
        let mut m = Machine::resume(config(), fold(&log));
        let mut outputs = step(&mut m, prompt());
        let mut unwritten: Vec<LogEntry> = Vec::new();
        loop {
            let mut input = None;
            for output in outputs {
                let lasts = matches!(output, Output::RunTool(_)) && long;
                match output {
                    Output::Log(entry) => unwritten.push(entry),
                    Output::CallModel { covered } => {
                        if !covered {
                            log.append(&mut unwritten);
                        }
                        covered_calls += u64::from(covered);
                        called += 1;
                        input = Some(script(m.state().turn));
                    }
                    Output::RunTool(call) => {
                        log.append(&mut unwritten);
                        let begun = |e: &LogEntry| matches!(e, LogEntry::ToolStarted { call: c, .. } if *c == call.id);
                        assert!(log.iter().any(begun), "a tool runs that nobody would know of");
                        ran.push(call.id.clone());
                        input = Some(result(&call.id, "ok"));
                    }
                    Output::Checkpoint { .. } => {}
                    Output::Judge(_) | Output::AwaitApproval(_) => panic!("every call is allowed"),
                    Output::CountTokens => panic!("nothing to count without a budget"),
                    Output::End(end) => {
                        log.append(&mut unwritten);
                        return Played { log, ran, calls: called, covered: covered_calls, end };
                    }
                }
                // The process dies here: what is written stays, everything else is gone.
                if countdown == 0 {
                    countdown = usize::MAX;
                    continue 'life;
                }
                countdown = countdown.saturating_sub(1);
                if lasts {
                    log.extend(logged(&step(&mut m, Input::ToolLasts)));
                }
            }
            if writes == Writes::Beside {
                log.append(&mut unwritten);
            }
            if countdown == 0 {
                countdown = usize::MAX;
                continue 'life;
            }
            outputs = step(&mut m, input.expect("every batch ends with something to do"));
        }
    }
}

#[test]
fn a_death_at_any_point_repeats_no_tool_call_hides_no_cost_and_ends_the_same() {
    let one_call = 100 * 3 + 50 * 15;
    for (writes, long) in [(Writes::Beside, false), (Writes::WithTheAnswer, false), (Writes::Beside, true)] {
        let whole = play(usize::MAX, writes, long);
        assert_eq!((whole.calls, whole.covered), (3, if long { 0 } else { 2 }), "{writes:?} {long}");
        assert_eq!(fold(&whole.log).spent, MicroUsd(3 * one_call));
        for at in 0..whole.log.len() + 12 {
            let Played { log, ran, calls, end, .. } = play(at, writes, long);
            let why = format!("died after {at}, {writes:?}, long {long}");
            let mut once = ran.clone();
            once.dedup();
            assert_eq!(ran, once, "{why}: a tool ran twice");
            assert_eq!(end.failure, whole.end.failure, "{why}");
            // Every call is answered exactly once, whatever happened.
            let mut answered: Vec<&str> = log
                .iter()
                .filter_map(|e| match e {
                    LogEntry::ToolEnded { result, .. } => Some(result.tool_use_id.as_str()),
                    _ => None,
                })
                .collect();
            answered.sort_unstable();
            assert_eq!(answered, ["a", "b", "c"], "{why}");
            let state = fold(&log);
            assert!(state.pending.is_empty(), "{why}");
            assert_eq!(log.iter().filter(|e| matches!(e, LogEntry::AgentEnded { .. })).count(), 1, "{why}");
            assert!(state.spent >= MicroUsd(calls * one_call), "{why}: {calls} calls, {} spent", state.spent);
            let lost = log.iter().filter(|e| matches!(e, LogEntry::ModelFailed { .. })).count();
            assert!(lost <= 1, "{why}: one death loses one call");
        }
    }
}

/// What the world has seen of a session: calls that went out, and tools that ran.
#[derive(Default)]
struct World {
    log: Vec<LogEntry>,
    /// What answered calls cost, and what unanswered ones may have.
    owed: MicroUsd,
    ran: Vec<String>,
    deaths: u32,
}

impl World {
    /// A call goes out: what it may cost must be set aside in what is written, whoever makes it.
    fn call_goes_out(&mut self, m: &Machine, budget: MicroUsd, why: &str) -> MicroUsd {
        let (_, may_cost) = m.state().reserved.expect("a call is reserved");
        let known = fold(&self.log);
        let aside = known.reserved.or(known.ahead).map_or(MicroUsd::ZERO, |(_, aside)| aside);
        self.owed = self.owed.plus(may_cost);
        let knows = known.spent.plus(aside);
        assert!(self.owed <= knows, "{why}: {} may be owed, the log knows of {knows}", self.owed);
        assert!(self.owed <= budget, "{why}: {} of {budget}", self.owed);
        may_cost
    }

    /// One life, until it ends or dies. `dice` says whether it dies after an output.
    fn live(&mut self, config: &MachineConfig, dice: &mut impl FnMut(u64) -> bool, why: &str) -> Option<AgentEnd> {
        let budget = config.max_budget.expect("a budget");
        let mut m = Machine::resume(config.clone(), fold(&self.log));
        let mut outputs = step(&mut m, prompt());
        let mut unwritten: Vec<LogEntry> = Vec::new();
        loop {
            let mut input = None;
            for output in outputs {
                match output {
                    Output::Log(entry) => unwritten.push(entry),
                    Output::Checkpoint { .. } => {}
                    Output::Judge(_) | Output::AwaitApproval(_) => panic!("every call is allowed"),
                    Output::CountTokens => {
                        self.log.append(&mut unwritten);
                        input = Some(Input::Counted { input_tokens: m.state().request_bytes / 3 });
                    }
                    Output::CallModel { covered } => {
                        if !covered {
                            self.log.append(&mut unwritten);
                            if dice(4) {
                                return None;
                            }
                        }
                        let may_cost = self.call_goes_out(&m, budget, why);
                        if dice(5) {
                            return None;
                        }
                        self.owed = self.owed.minus(may_cost).plus(MicroUsd(100 * 3 + 50 * 15));
                        let turn = m.state().turn;
                        input = Some(match turn {
                            1..=5 => calls(&[
                                call(&format!("r{turn}"), "Read", u64::from(turn)),
                                call(&format!("b{turn}"), "Bash", u64::from(turn)),
                            ]),
                            _ => says("done"),
                        });
                    }
                    Output::RunTool(call) => {
                        self.log.append(&mut unwritten);
                        self.ran.push(call.id.clone());
                        if dice(3) {
                            self.log.extend(logged(&step(&mut m, Input::ToolLasts)));
                        }
                        if dice(8) {
                            return None;
                        }
                        let text = if dice(3) { "x".repeat(40_000) } else { "ok".to_owned() };
                        if dice(8) {
                            // Fenced, and not aware of it: it writes nothing any more, and a covered call goes out.
                            let late = step(&mut m, result(&call.id, &text));
                            if late.last() == Some(&Output::CallModel { covered: true }) {
                                self.call_goes_out(&m, budget, why);
                            }
                            return None;
                        }
                        input = Some(result(&call.id, &text));
                    }
                    Output::End(end) => {
                        self.log.append(&mut unwritten);
                        return Some(end);
                    }
                }
            }
            if dice(2) {
                self.log.append(&mut unwritten);
            }
            if dice(10) {
                return None;
            }
            outputs = step(&mut m, input.expect("every batch ends with something to do"));
        }
    }
}

#[test]
fn however_often_a_session_dies_a_budget_holds_no_tool_runs_twice_and_no_turn_is_lost() {
    let (mut done, mut out_of_money) = (0, 0);
    for seed in 1..=150u64 {
        let budget = MicroUsd(200_000 + 20_000 * seed);
        let config = MachineConfig { max_turns: 6, max_budget: Some(budget), ..config() };
        let mut random = seed;
        let mut world = World::default();
        let end = loop {
            let deadly = world.deaths < 25;
            let mut dice = |sides: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (deadly || sides < 4) && (random >> 33) % sides == 0
            };
            match world.live(&config, &mut dice, &format!("seed {seed}")) {
                Some(end) => break end,
                None => world.deaths += 1,
            }
        };
        let mut once = world.ran.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), world.ran.len(), "seed {seed}: a tool ran twice: {:?}", world.ran);
        let state = fold(&world.log);
        assert!(world.owed <= state.spent && state.spent <= budget, "seed {seed}");
        match end.failure.map(|f| f.reason) {
            // Six turns are allowed and needed: not one was lost.
            None => done += 1,
            Some(FailureReason::Budget) => out_of_money += 1,
            Some(other) => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(done > 20 && out_of_money > 20, "{done} done, {out_of_money} out of money");
}

#[test]
fn a_death_while_a_long_tool_runs_costs_nothing() {
    let mut m = Machine::resume(config(), SessionState::default());
    let mut log = logged(&step(&mut m, prompt()));
    log.extend(logged(&step(&mut m, calls(&[call("a", "Bash", 1)]))));
    assert!(fold(&log).ahead.is_some());
    let released = step(&mut m, Input::ToolLasts);
    assert_eq!(released, [Output::Log(LogEntry::AheadReleased { turn: 2 })]);
    assert_eq!(step(&mut m, Input::ToolLasts), [], "once");
    log.extend(logged(&released));
    let spent = fold(&log).spent;
    let mut m = Machine::resume(config(), fold(&log));
    let out = step(&mut m, prompt());
    assert_eq!((out.last(), m.state().spent), (Some(&Output::CallModel { covered: false }), spent));
}

#[test]
fn a_call_that_was_lost_costs_money_and_no_turn() {
    let config = MachineConfig { max_turns: 1, ..config() };
    let mut m = Machine::resume(config.clone(), SessionState::default());
    let log = logged(&step(&mut m, prompt()));
    let mut m = Machine::resume(config, fold(&log));
    let out = step(&mut m, prompt());
    assert_eq!(out.last(), Some(&Output::CallModel { covered: false }), "the one turn is still to be had");
    assert_eq!((m.state().turn, m.state().spent > MicroUsd::ZERO), (1, true));
}

#[test]
fn a_death_while_tokens_are_counted_costs_no_turn() {
    // The first call was lost, and the session that took over dies while it counts for the second try.
    let config = MachineConfig { max_turns: 1, max_budget: Some(MicroUsd(200_000)), ..config() };
    let mut m = Machine::resume(config.clone(), SessionState::default());
    let mut log = logged(&step(&mut m, prompt()));
    let mut m = Machine::resume(config.clone(), fold(&log));
    let out = step(&mut m, prompt());
    assert_eq!(out.last(), Some(&Output::CountTokens), "what is left does not hold another worst case");
    log.extend(logged(&out));
    let mut m = Machine::resume(config, fold(&log));
    let out = step(&mut m, prompt());
    assert_eq!((end_of(&out), out.last()), (None, Some(&Output::CountTokens)), "the one turn is still to be had");
}
