//! The circuit breaker: sees a session that works too fast, fails too often, spends too quickly or changes too much.
//!
//! A pure fold over the session log and its times, with bounded memory, so that a session that takes up another's work goes
//! on counting. It is asked before each tool call. What is over its limit either asks a human, and goes on from there with
//! new counts once they approve, or ends the session; after a no it ends it as well.
//!
//! | measure | counted | window |
//! | --- | --- | --- |
//! | calls per minute | tool calls that began | 60 s |
//! | failures in a row | tool calls that failed or were denied, until one succeeds | - |
//! | cost per minute | settled model calls | 60 s |
//! | files, lines | the work tree against the commit that it began from, at the last checkpoint | - |

use std::collections::VecDeque;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{LogEntry, LogRecord};
use crate::money::MicroUsd;
use crate::time::{Millis, Timestamp};

/// The window of what is counted by the minute.
const WINDOW: Millis = Millis::secs(60);
/// Most moments that are remembered, whatever the limits say.
const REMEMBERED: usize = 10_000;
/// Rules of gates that the breaker asks at begin so.
const RULE: &str = "breaker_";

/// What a breaker does when it trips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerAction {
    /// A human must say whether the task goes on.
    #[default]
    Ask,
    /// The session ends, and the task fails with the reason.
    End,
}

/// Limits of a breaker; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerLimits {
    /// Tool calls that may begin within 60 s. Default: 600, which no model reaches by honest work.
    pub calls_per_minute: Option<u32>,
    /// Tool calls that may fail in a row. Default: 25.
    pub failures_in_a_row: Option<u32>,
    /// What may be spent within 60 s. Default: none.
    pub cost_per_minute: Option<MicroUsd>,
    /// Files that may differ from the commit that the work began from. Default: none.
    pub files_changed: Option<u64>,
    /// Lines that may be added and removed since that commit, together. Default: none.
    pub lines_changed: Option<u64>,
    /// What happens then. Default: ask.
    pub action: BreakerAction,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { calls_per_minute: Some(600), failures_in_a_row: Some(25), ..Self::off() }
    }
}

impl BreakerLimits {
    /// No limit at all.
    pub const fn off() -> Self {
        Self {
            calls_per_minute: None,
            failures_in_a_row: None,
            cost_per_minute: None,
            files_changed: None,
            lines_changed: None,
            action: BreakerAction::Ask,
        }
    }

    /// Whether it has to be known how much the work changes.
    pub const fn wants_churn(&self) -> bool {
        self.files_changed.is_some() || self.lines_changed.is_some()
    }

    /// The first limit that is zero, which nothing could keep.
    pub fn zero(&self) -> Option<&'static str> {
        let limits = [
            ("calls_per_minute", self.calls_per_minute.map(u64::from)),
            ("failures_in_a_row", self.failures_in_a_row.map(u64::from)),
            ("cost_per_minute", self.cost_per_minute.map(|m| m.0)),
            ("files_changed", self.files_changed),
            ("lines_changed", self.lines_changed),
        ];
        limits.into_iter().find(|(_, limit)| *limit == Some(0)).map(|(name, _)| name)
    }
}

impl FromStr for BreakerLimits {
    type Err = String;

    /// Reads `off`, or what differs from the default: `calls=120,failures=10,cost=0.50,files=200,lines=20000,action=end`; a
    /// measure is switched off by `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::off());
        }
        let mut limits = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!(
                    "`{part}` is not NAME=VALUE: give calls, failures, cost, files, lines or action, or `off` alone"
                )
            })?;
            let number = || match value {
                "none" => Ok(None),
                _ => value
                    .parse()
                    .map(Some)
                    .map_err(|_| format!("`{value}` in `{part}` is no number from 1 on, nor `none`")),
            };
            let small = || match number()?.map(u32::try_from).transpose() {
                Ok(number) => Ok(number),
                Err(_) => Err(format!("`{value}` in `{part}` is too large")),
            };
            match name {
                "calls" => limits.calls_per_minute = small()?,
                "failures" => limits.failures_in_a_row = small()?,
                "files" => limits.files_changed = number()?,
                "lines" => limits.lines_changed = number()?,
                "cost" if value == "none" => limits.cost_per_minute = None,
                "cost" => {
                    let cost =
                        value.parse().map_err(|e| format!("`{value}` in `{part}` is no amount in dollars: {e}"))?;
                    limits.cost_per_minute = Some(cost);
                }
                "action" => {
                    limits.action = match value {
                        "ask" => BreakerAction::Ask,
                        "end" => BreakerAction::End,
                        _ => return Err(format!("`{value}` is no action: give ask or end")),
                    };
                }
                _ => return Err(format!("`{name}` is no measure: give calls, failures, cost, files, lines or action")),
            }
        }
        match limits.zero() {
            Some(name) => Err(format!("`{name}` is 0, which nothing can keep: give a number from 1 on, or none")),
            None => Ok(limits),
        }
    }
}

/// How much the work differs from what it began from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Churn {
    /// Files.
    pub files: u64,
    /// Lines added and removed, together; binary files have none.
    pub lines: u64,
}

/// What is over its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tripped {
    /// The rule of the gate that asks about it, e.g. `breaker_calls_per_minute`.
    pub rule: &'static str,
    /// How much, and how much is allowed.
    pub reason: String,
    /// What is to happen.
    pub action: BreakerAction,
}

/// The counts of a session.
#[derive(Debug, Clone)]
pub struct Breaker {
    limits: BreakerLimits,
    calls: VecDeque<Timestamp>,
    costs: VecDeque<(Timestamp, MicroUsd)>,
    failures: u32,
    churn: Churn,
    /// What a human has seen and approved.
    approved: Churn,
    /// A gate of the breaker's own waits.
    asks: bool,
    refused: bool,
}

impl Breaker {
    /// Counts of nothing.
    pub const fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            calls: VecDeque::new(),
            costs: VecDeque::new(),
            failures: 0,
            churn: Churn { files: 0, lines: 0 },
            approved: Churn { files: 0, lines: 0 },
            asks: false,
            refused: false,
        }
    }

    /// Counts of a log so far.
    pub fn of_log(limits: BreakerLimits, log: &[LogRecord]) -> Self {
        let mut breaker = Self::new(limits);
        log.iter().for_each(|record| breaker.observe(&record.entry, record.at));
        breaker
    }

    /// Takes in what was logged, in its order.
    pub fn observe(&mut self, entry: &LogEntry, at: Timestamp) {
        match entry {
            LogEntry::ToolStarted { .. } => push(&mut self.calls, at),
            LogEntry::ToolEnded { result, .. } => {
                self.failures = if result.is_error { self.failures.saturating_add(1) } else { 0 };
            }
            LogEntry::ModelReplied { cost, .. } | LogEntry::ModelFailed { cost, .. } if *cost > MicroUsd::ZERO => {
                push(&mut self.costs, (at, *cost));
            }
            LogEntry::Churned { churn } => self.churn = *churn,
            LogEntry::ApprovalRequested { gate, .. } => self.asks = gate.rules.iter().any(|r| r.starts_with(RULE)),
            LogEntry::ApprovalSettled { decision, .. } if std::mem::take(&mut self.asks) => {
                if decision.approved {
                    self.calls.clear();
                    self.costs.clear();
                    self.failures = 0;
                    self.approved = self.churn;
                } else {
                    self.refused = true;
                }
            }
            _ => {}
        }
    }

    /// What is over its limit now, if anything: the first of the table above.
    pub fn tripped(&self, now: Timestamp) -> Option<Tripped> {
        let l = &self.limits;
        let action = if self.refused { BreakerAction::End } else { l.action };
        let over = |rule, count: u64, limit: Option<u64>, what: &str| {
            let limit = limit.filter(|limit| count > *limit)?;
            Some(Tripped { rule, reason: format!("{count} {what}, and {limit} are allowed"), action })
        };
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        // Before the next call begins: it is the one too many.
        let calls = count(self.calls.iter().filter(|at| now.since(**at) < WINDOW).count()).saturating_add(1);
        let recent = self.costs.iter().filter(|(at, _)| now.since(*at) < WINDOW);
        let cost = recent.fold(MicroUsd::ZERO, |sum, (_, cost)| sum.plus(*cost));
        let files = self.churn.files.saturating_sub(self.approved.files);
        let lines = self.churn.lines.saturating_sub(self.approved.lines);
        over("breaker_calls_per_minute", calls, l.calls_per_minute.map(u64::from), "tool calls within a minute")
            .or_else(|| {
                let limit = l.failures_in_a_row.map(u64::from);
                over("breaker_failures_in_a_row", u64::from(self.failures), limit, "tool calls failed in a row")
            })
            .or_else(|| {
                let limit = l.cost_per_minute.filter(|limit| cost > *limit)?;
                let reason = format!("{cost} were spent within a minute, and {limit} are allowed");
                Some(Tripped { rule: "breaker_cost_per_minute", reason, action })
            })
            .or_else(|| over("breaker_files_changed", files, l.files_changed, "files are changed"))
            .or_else(|| over("breaker_lines_changed", lines, l.lines_changed, "lines are changed"))
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Content, ToolResult};
    use crate::task::{ApprovalScope, GateDecision};
    use crate::testing::fixtures;

    fn at(ms: u64) -> Timestamp {
        fixtures::at(ms)
    }

    fn began() -> LogEntry {
        LogEntry::ToolStarted { turn: 1, call: "c".to_owned(), name: "Bash".to_owned() }
    }

    fn ended(is_error: bool) -> LogEntry {
        let result = ToolResult { tool_use_id: "c".to_owned(), content: vec![Content::text("x")], is_error };
        LogEntry::ToolEnded { turn: 1, result, duration_ms: Millis(1) }
    }

    fn spent(cost: u64) -> LogEntry {
        LogEntry::ModelFailed { turn: 1, message: "m".to_owned(), cost: MicroUsd(cost) }
    }

    fn rule(breaker: &Breaker, now: u64) -> Option<&'static str> {
        breaker.tripped(at(now)).map(|t| t.rule)
    }

    fn answered(breaker: &mut Breaker, tripped: &Tripped, decision: GateDecision) {
        let mut gate = fixtures::gate("gate-1", at(9));
        gate.rules = vec![tripped.rule.to_owned()];
        breaker.observe(&LogEntry::ApprovalRequested { turn: 1, call: "c".to_owned(), gate: Box::new(gate) }, at(0));
        let settled = LogEntry::ApprovalSettled {
            request: "gate-1".to_owned(),
            signal: "s".to_owned(),
            decision,
            waited_ms: Millis(0),
        };
        breaker.observe(&settled, at(0));
    }

    #[test]
    fn calls_are_counted_within_a_minute_and_the_next_one_is_the_one_too_many() {
        let mut breaker = Breaker::new(BreakerLimits { calls_per_minute: Some(3), ..BreakerLimits::off() });
        for n in 0..3 {
            assert_eq!(rule(&breaker, n), None);
            breaker.observe(&began(), at(n));
        }
        assert_eq!(rule(&breaker, 3), Some("breaker_calls_per_minute"));
        assert_eq!(rule(&breaker, 59_999), Some("breaker_calls_per_minute"));
        assert_eq!(rule(&breaker, 60_000), None, "the first is a minute ago");
    }

    #[test]
    fn failures_count_until_a_call_succeeds() {
        let mut breaker = Breaker::new(BreakerLimits { failures_in_a_row: Some(2), ..BreakerLimits::off() });
        for failed in [true, true, false, true, true] {
            breaker.observe(&ended(failed), at(0));
            assert_eq!(rule(&breaker, 0), None);
        }
        breaker.observe(&ended(true), at(0));
        let tripped = breaker.tripped(at(0)).unwrap();
        assert_eq!(tripped.reason, "3 tool calls failed in a row, and 2 are allowed");
    }

    #[test]
    fn money_is_counted_within_a_minute() {
        let limits = BreakerLimits { cost_per_minute: Some(MicroUsd(1_000)), ..BreakerLimits::off() };
        let mut breaker = Breaker::new(limits);
        breaker.observe(&spent(600), at(0));
        breaker.observe(&spent(400), at(30_000));
        assert_eq!(rule(&breaker, 40_000), None, "as much as is allowed");
        breaker.observe(&spent(1), at(40_000));
        assert_eq!(rule(&breaker, 40_000), Some("breaker_cost_per_minute"));
        assert_eq!(rule(&breaker, 60_000), None);
    }

    #[test]
    fn what_was_approved_is_not_counted_again_and_what_was_refused_ends_it() {
        let limits = BreakerLimits { files_changed: Some(10), lines_changed: Some(1_000), ..BreakerLimits::off() };
        let mut breaker = Breaker::new(limits);
        let churned = |files, lines| LogEntry::Churned { churn: Churn { files, lines } };
        breaker.observe(&churned(11, 20), at(0));
        let tripped = breaker.tripped(at(0)).unwrap();
        assert_eq!((tripped.rule, tripped.action), ("breaker_files_changed", BreakerAction::Ask));
        answered(&mut breaker, &tripped, GateDecision::approve("ann", ApprovalScope::ThisCall));
        assert_eq!(rule(&breaker, 0), None);
        breaker.observe(&churned(21, 1_020), at(1));
        assert_eq!(rule(&breaker, 1), None, "ten and a thousand more than what was approved");
        breaker.observe(&churned(21, 1_021), at(2));
        let tripped = breaker.tripped(at(2)).unwrap();
        assert_eq!(tripped.rule, "breaker_lines_changed");
        answered(&mut breaker, &tripped, GateDecision::expired());
        assert_eq!(breaker.tripped(at(2)).map(|t| t.action), Some(BreakerAction::End));
    }

    #[test]
    fn gates_of_others_reset_nothing() {
        let mut breaker = Breaker::new(BreakerLimits { failures_in_a_row: Some(1), ..BreakerLimits::off() });
        breaker.observe(&ended(true), at(0));
        breaker.observe(&ended(true), at(0));
        let other = Tripped { rule: "force_push_any", reason: String::new(), action: BreakerAction::Ask };
        answered(&mut breaker, &other, GateDecision::approve("ann", ApprovalScope::ThisCall));
        assert_eq!(rule(&breaker, 0), Some("breaker_failures_in_a_row"));
    }

    #[test]
    fn limits_are_written_in_one_line() {
        let read = |text: &str| text.parse::<BreakerLimits>();
        assert_eq!(read("off"), Ok(BreakerLimits::off()));
        let all = BreakerLimits {
            calls_per_minute: Some(120),
            failures_in_a_row: None,
            cost_per_minute: Some(MicroUsd(500_000)),
            files_changed: Some(200),
            lines_changed: Some(20_000),
            action: BreakerAction::End,
        };
        assert_eq!(read("calls=120,failures=none,cost=0.50,files=200,lines=20000,action=end"), Ok(all));
        for wrong in
            ["", "calls", "calls=0", "calls=-1", "calls=5000000000", "cost=x", "action=stop", "files=1,speed=2"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut breaker = Breaker::new(BreakerLimits::default());
        (0..30_000).for_each(|n| breaker.observe(&began(), at(n)));
        assert!(breaker.calls.len() <= REMEMBERED);
        assert_eq!(rule(&breaker, 30_000), Some("breaker_calls_per_minute"));
    }
}
