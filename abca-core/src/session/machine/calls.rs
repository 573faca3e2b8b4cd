//! The next call of the model: what it may cost at most, and whether turns, budget and window allow it.

use super::{Machine, Output, Phase};
use crate::money::MicroUsd;
use crate::session::LogEntry;
use crate::task::{Failure, FailureReason};

/// An answer must be allowed at least this many tokens to be worth a call.
const MIN_OUTPUT_TOKENS: u32 = 512;
/// What the result of a tool is expected to add to the next call, at most: tools clip at 30 000 characters. A result that
/// adds more costs its turn a write, nothing else.
const RESULT_BYTES: u64 = 32 * 1024;
/// Messages whose tool results are never trimmed.
const KEEP_MESSAGES: usize = 8;
/// Tokens that a provider adds around a request, e.g. its own preamble for tools.
const PADDING_TOKENS: u64 = 1_024;

impl Machine {
    pub(super) fn next_call(&mut self, out: &mut Vec<Output>) {
        self.state.reply_open = false;
        if self.state.turn >= self.config.max_turns {
            let text = format!("error_max_turns: the agent used all {} turns", self.config.max_turns);
            return self.end(Some(Failure::new(FailureReason::MaxTurns, text)), String::new(), out);
        }
        let window = u64::from(self.config.capabilities.context_window_tokens);
        // Three bytes a token is typical of code and prose; four fifths of the window leave room for the answer.
        if self.bound() / 3 > window.saturating_mul(4) / 5 {
            self.trim(out);
        }
        let max_output = self.max_output();
        match (self.config.max_budget, self.config.capabilities.price) {
            (None, _) => self.reserve(self.worst(0), max_output, out),
            (Some(budget), Some(_)) => {
                let worst = self.worst(0);
                if worst <= budget.minus(self.state.spent) {
                    self.reserve(worst, max_output, out);
                } else {
                    // The bound is coarse: only a count can tell whether the call still fits.
                    self.state.request.max_output_tokens = max_output;
                    self.phase = Phase::Counting;
                    out.push(Output::CountTokens);
                }
            }
            (Some(_), None) => self.end(
                Some(Failure::new(FailureReason::Budget, "no price is known, so a budget cannot be kept")),
                String::new(),
                out,
            ),
        }
    }

    /// A count stands where the coarse bound did not fit: reserve, with a shorter answer if it must be.
    pub(super) fn reserve_counted(&mut self, input_tokens: u64, out: &mut Vec<Output>) {
        let (Some(budget), Some(price)) = (self.config.max_budget, self.config.capabilities.price) else {
            return self.next_call(out);
        };
        let wanted = self.state.request.max_output_tokens;
        // Two per cent and a little on top: counts are taken of a request without the provider's own framing.
        let counted = input_tokens.saturating_add(input_tokens / 50).saturating_add(PADDING_TOKENS);
        let input_tokens = if input_tokens == u64::MAX { self.bound() } else { counted };
        let left = budget.minus(self.state.spent);
        let input_cost = price.worst_case(input_tokens, 0);
        let for_output = left.minus(input_cost).0;
        let affordable = for_output.saturating_mul(1_000_000).checked_div(price.output).unwrap_or(u64::MAX);
        let max_output = u32::try_from(affordable).unwrap_or(u32::MAX).min(wanted);
        if max_output < MIN_OUTPUT_TOKENS.min(wanted) || input_cost > left {
            let next = price.worst_case(input_tokens, u64::from(wanted));
            let text = format!(
                "error_max_budget_usd: the budget of {budget} does not allow another call: {} are spent, and the next call may cost {next}",
                self.state.spent
            );
            return self.end(Some(Failure::new(FailureReason::Budget, text)), String::new(), out);
        }
        self.reserve(price.worst_case(input_tokens, u64::from(max_output)).min(left), max_output, out);
    }

    fn reserve(&mut self, reserved: MicroUsd, max_output: u32, out: &mut Vec<Output>) {
        self.state.request.max_output_tokens = max_output;
        let turn = self.state.turn.saturating_add(1);
        let covered = self.state.ahead.is_some_and(|(of, ahead)| of == turn && reserved <= ahead);
        self.log(LogEntry::ModelReserved { turn, reserved }, out);
        self.phase = Phase::Model;
        out.push(Output::CallModel { covered });
    }

    /// Sets aside what the call after the turn's last tool may cost, where the budget has it.
    pub(super) fn reserve_ahead(&mut self, out: &mut Vec<Output>) {
        let turn = self.state.turn.saturating_add(1);
        let reserved = self.worst(RESULT_BYTES);
        let affordable = self.config.max_budget.is_none_or(|budget| reserved <= budget.minus(self.state.spent));
        if affordable && turn <= self.config.max_turns {
            self.log(LogEntry::ReservedAhead { turn, reserved }, out);
        }
    }

    /// The worst case of the next call, with a longest answer and so many bytes more than there are now.
    fn worst(&self, more_bytes: u64) -> MicroUsd {
        let bound = self.bound().saturating_add(more_bytes);
        self.config.capabilities.price.map_or(MicroUsd::ZERO, |p| p.worst_case(bound, u64::from(self.max_output())))
    }

    fn max_output(&self) -> u32 {
        self.config.max_output_tokens.min(self.config.capabilities.max_output_tokens)
    }

    /// An upper bound of the next call's input tokens.
    const fn bound(&self) -> u64 {
        self.state.request_bytes.saturating_add(self.tool_bytes).saturating_add(PADDING_TOKENS)
    }

    /// Takes old tool results out of the conversation. `false` when there is nothing left to take.
    pub(super) fn trim(&mut self, out: &mut Vec<Output>) -> bool {
        let before = self.state.request.messages.len().saturating_sub(KEEP_MESSAGES);
        let was = self.state.request_bytes;
        self.log(LogEntry::ContextTrimmed { before: u64::try_from(before).unwrap_or(u64::MAX) }, out);
        self.state.request_bytes < was
    }
}
