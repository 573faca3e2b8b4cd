//! What a person sees while a task runs: a line that moves, and lines that stay.

use std::time::{Duration, Instant};

use abca_core::event::{Event, EventType};
use abca_core::text::preview;
use abca_core::{MicroUsd, Millis};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::common::{Output, is_watched};
use crate::tell::tell;

/// Shows events as they come. On a terminal the last line moves; elsewhere only the lines that stay are printed.
pub(super) struct Sight {
    bar: Option<ProgressBar>,
    text: bool,
    began: Instant,
    phase: String,
    turn: u64,
    max_turns: u32,
    tool: String,
    spent: MicroUsd,
}

impl Sight {
    pub(super) fn new(output: Output, max_turns: u32) -> Self {
        let bar = is_watched(output).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            text: output == Output::Text,
            began: Instant::now(),
            phase: "submitted".to_owned(),
            turn: 0,
            max_turns,
            tool: String::new(),
            spent: MicroUsd::ZERO,
        }
    }

    /// Takes an event in and shows what it means.
    pub(super) fn see(&mut self, event: &Event) {
        let text = |key: &str| event.metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| event.metadata.get(key).and_then(Value::as_u64).unwrap_or_default();
        match event.event_type {
            EventType::AdmissionQueued => self.phase(format!("waits for a free slot ({})", text("scope"))),
            EventType::TaskAdmitted | EventType::QueuePickup => self.phase("prepares".to_owned()),
            EventType::SessionStarting => self.phase("starts the session".to_owned()),
            EventType::SessionStarted => {
                self.line("session", &format!("{} ({})", text("session_id"), text("compute_type")))
            }
            EventType::SessionWalls => {
                let walls: Vec<&str> = event
                    .metadata
                    .get("walls")
                    .and_then(Value::as_array)
                    .map(|w| w.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                self.line("walls", &walls.join(", "));
            }
            EventType::SessionStartRetry => {
                self.line("again", &format!("attempt {} was lost: {}", number("attempt"), text("reason")))
            }
            EventType::SessionStopping => self.phase("stops the session".to_owned()),
            EventType::CancelRequested => self.line("cancel", &format!("asked for by {}", text("cancelled_by"))),
            EventType::AgentMilestone if text("milestone") == "approval_requested" => {
                let until = text("deadline");
                self.phase(format!("waits for a human until {until}"));
                let what =
                    format!("{} {} ({})", text("tool_name"), preview(&text("tool_input_preview"), 100), text("reason"));
                self.line("asks", &what);
                self.line("", &format!("  answer: abca approve {0}  |  abca deny {0} --reason ...", event.task_id));
            }
            EventType::AgentMilestone => self.milestone(&text("milestone"), &text("details")),
            EventType::ApprovalDecisionRecorded => {
                let by = text("decided_by");
                let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
                self.phase("the agent works".to_owned());
                self.line("answer", &format!("{}{by} {}", text("decision"), text("reason")));
            }
            EventType::AgentTurn => {
                self.turn = number("turn");
                let said = text("text_preview");
                if !said.is_empty() {
                    self.line(&format!("turn {}", self.turn), &said);
                }
            }
            EventType::AgentToolCall => {
                self.tool = format!("{} {}", text("tool_name"), preview(&text("argument"), 100));
                let tool = self.tool.clone();
                self.line("", &format!("\u{2192} {tool}"));
            }
            EventType::AgentToolResult => {
                let took = Millis(number("duration_ms"));
                if event.metadata.get("is_error").and_then(Value::as_bool) == Some(true) {
                    self.line("", &format!("  failed after {took}: {}", preview(&text("content_preview"), 120)));
                } else if took >= Millis::secs(1) {
                    self.line("", &format!("  took {took}"));
                }
                self.tool.clear();
            }
            EventType::AgentToolOutput => {
                if let Some(last) = text("chunk").lines().last() {
                    self.tool = preview(last, 60);
                }
            }
            EventType::AgentCostUpdate => self.spent = MicroUsd(number("total_micro_usd")),
            EventType::AgentError => self.line("error", &text("message_preview")),
            EventType::PreflightFailed | EventType::GuardrailBlocked => self.line("refused", &text("detail")),
            EventType::TaskFinalizing => self.phase("ends the session".to_owned()),
            _ => {}
        }
        self.refresh();
    }

    fn milestone(&mut self, milestone: &str, details: &str) {
        let Some(step) = milestone.strip_prefix("step:") else {
            match milestone {
                "pr_created" => self.line("proposed", details),
                "stuck_steer" | "nudge_acknowledged" => self.line("told", details),
                _ => {}
            }
            return;
        };
        let (step, how) = step.rsplit_once(':').unwrap_or((step, ""));
        let name = match step {
            "clone_repo" => "clone",
            "baseline" => "before",
            "hydrate_context" => "context",
            "run_agent" => "agent",
            "safety_net" => "commit",
            "verify_build" => "after",
            "ensure_pr" => "propose",
            other => other,
        };
        match how {
            "start" => self.phase(match step {
                "clone_repo" => "clones the repository".to_owned(),
                "baseline" => "builds and tests before the work".to_owned(),
                "hydrate_context" => "reads the project's instructions".to_owned(),
                "run_agent" => "the agent works".to_owned(),
                "safety_net" => "takes the work over".to_owned(),
                "verify_build" => "builds and tests after the work".to_owned(),
                "ensure_pr" => "proposes the work".to_owned(),
                other => other.to_owned(),
            }),
            "skipped" => {}
            "failed" => self.line(name, &format!("failed: {details}")),
            _ if step == "run_agent" || step == "ensure_pr" => {}
            _ => self.line(name, details),
        }
    }

    fn phase(&mut self, phase: String) {
        self.phase = phase;
    }

    /// A line that stays.
    pub(super) fn line(&self, what: &str, text: &str) {
        let line = format!("{what:>9}  {}", preview(text, 160));
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.text => tell(format_args!("{line}")),
            None => {}
        }
    }

    fn refresh(&self) {
        let Some(bar) = &self.bar else { return };
        let took = Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut text = format!("{} \u{b7} {took} \u{b7} {}", self.phase, self.spent);
        if self.turn > 0 {
            text = format!(
                "{} \u{b7} turn {}/{} \u{b7} {took} \u{b7} {}",
                self.phase, self.turn, self.max_turns, self.spent
            );
        }
        if !self.tool.is_empty() {
            text.push_str(&format!(" \u{b7} {}", preview(&self.tool, 60)));
        }
        bar.set_message(text);
    }

    /// Time has passed.
    pub(super) fn tick(&self) {
        self.refresh();
    }

    /// Takes the moving line away.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
