//! The task's commands before and after the agent, and whether they let its work through.

use abca_core::session::{LogEntry, StepName, StepStatus};
use abca_core::task::{CheckResult, FailureReason, Verification};
use abca_core::text::preview;
use abca_core::workflow::{Check, Workflow, gate};

use super::super::host::Host;
use super::super::verify::{self, Side};
use super::{Break, Pipeline, failed};

impl Pipeline {
    /// Runs the task's commands on one side of the agent's work.
    pub(super) async fn check_step(&mut self, host: &mut Host, step: StepName, side: Side) -> Result<(), Break> {
        let begun = self.journal.now();
        self.keep(LogEntry::StepStarted { step });
        let commands = verify::commands(&self.task.spec);
        if commands.is_empty() || (self.task.spec.read_only && side == Side::Before) {
            self.end_step(step, StepStatus::Skipped, begun, "no command is configured");
            return Ok(());
        }
        let mut results = self.state.verification.clone();
        let limit = self.task.spec.limits.command_timeout_ms;
        let ran = self.shown(verify::run(host, &commands, limit, side, &mut results)).await?;
        if let Err(why) = ran {
            self.end_step(step, StepStatus::Failed, begun, &why);
            return Err(failed(FailureReason::Infrastructure, &why));
        }
        let detail = results.iter().map(|v| summary(v, side)).collect::<Vec<_>>().join(", ");
        self.keep(LogEntry::Verified { results });
        self.end_step(step, StepStatus::Succeeded, begun, &detail);
        Ok(())
    }

    /// Whether the checks let the work through (`behaviour.md` 4.2).
    pub(super) fn gate(&self, workflow: &Workflow) -> Result<(), Break> {
        for v in &self.state.verification {
            let check = match v.name.as_str() {
                "lint" => Check::Lint,
                "test" => Check::Test,
                _ => Check::Build,
            };
            let after = v.after.unwrap_or(CheckResult::Inert);
            if !gate(workflow.gate_mode(check), self.task.spec.read_only, v.before, after).is_ok() {
                if after == CheckResult::InfraFailed {
                    let last = v.output_tail.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it was killed");
                    let text = format!(
                        "Task did not succeed (agent_status=success, build_ok=infra): the machine failed while `{}` was running ({})",
                        v.command,
                        preview(last, 200),
                    );
                    return Err(failed(FailureReason::Infrastructure, &text));
                }
                let text = format!(
                    "Task did not succeed (agent_status=success, build_ok=False): `{}` ({}) {} before the agent's work and {} after it; the work is kept at `{}`",
                    v.command,
                    v.name,
                    word(v.before),
                    word(v.after),
                    abca_core::names::wip_ref(self.task.id),
                );
                return Err(failed(FailureReason::Verification, &text));
            }
        }
        Ok(())
    }
}

fn summary(v: &Verification, side: Side) -> String {
    let result = match side {
        Side::Before => v.before,
        Side::After => v.after,
    };
    format!("{} {}", v.name, word(result))
}

fn word(result: Option<CheckResult>) -> &'static str {
    match result {
        Some(CheckResult::Passed) => "passed",
        Some(CheckResult::Failed) => "failed",
        Some(CheckResult::TimedOut) => "did not end in time",
        Some(CheckResult::Inert) => "had nothing to run",
        Some(CheckResult::InfraFailed) => "was ended by a failure of the machine",
        None => "was not run",
    }
}
