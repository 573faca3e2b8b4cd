//! Whether the result of a command lets a task succeed.

use serde::{Deserialize, Serialize};

use super::{Domain, GateMode, StepKind, Workflow};
use crate::task::CheckResult;

/// What is verified before and after the agent's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The build command.
    Build,
    /// The test command. Gates like the build, of which it is a part in the workflow file.
    Test,
    /// The lint command.
    Lint,
}

/// What a gate says of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateResult {
    /// It passed, or there was nothing to run.
    Passed,
    /// It did not pass, and this gate lets that through: informational, read-only, or it was broken before.
    Tolerated,
    /// It failed, and that fails the task.
    Failed,
    /// It did not end in time, and that fails the task.
    TimedOut,
    /// The machine failed, so that nothing can be said of the work; that fails the task.
    Infra,
}

impl GateResult {
    /// Whether the task may succeed.
    pub const fn is_ok(self) -> bool {
        match self {
            Self::Passed | Self::Tolerated => true,
            Self::Failed | Self::TimedOut | Self::Infra => false,
        }
    }
}

/// Judges a command's result after the agent's work by its result before.
///
/// Only a baseline that is known to be red excuses a red result: one that was not run, timed out, had nothing to run or
/// died of the machine counts as green, so that a later failure is a regression.
pub const fn gate(mode: GateMode, read_only: bool, before: Option<CheckResult>, after: CheckResult) -> GateResult {
    let verdict = match after {
        CheckResult::Passed | CheckResult::Inert => return GateResult::Passed,
        CheckResult::Failed => GateResult::Failed,
        CheckResult::TimedOut => GateResult::TimedOut,
        CheckResult::InfraFailed => GateResult::Infra,
    };
    if read_only {
        return GateResult::Tolerated;
    }
    match mode {
        GateMode::Informational => GateResult::Tolerated,
        GateMode::Strict => verdict,
        GateMode::RegressionOnly => match (before, after) {
            // What a machine's failure hides is unknown, whatever was before.
            (_, CheckResult::InfraFailed) => verdict,
            (Some(CheckResult::Failed), _) => GateResult::Tolerated,
            (
                None
                | Some(CheckResult::Passed | CheckResult::TimedOut | CheckResult::Inert | CheckResult::InfraFailed),
                _,
            ) => verdict,
        },
    }
}

impl Workflow {
    /// How a check gates tasks of this workflow.
    ///
    /// A declared step's `gate`, by default `regression_only`. Undeclared: in the domain `coding` the build (and the test)
    /// still gates on regressions; anything else is informational.
    pub fn gate_mode(&self, check: Check) -> GateMode {
        let kind = match check {
            Check::Build | Check::Test => StepKind::VerifyBuild,
            Check::Lint => StepKind::VerifyLint,
        };
        match self.steps.iter().find(|s| s.kind == kind) {
            Some(step) => step.gate.unwrap_or_default(),
            None => match (check, self.domain) {
                (Check::Build | Check::Test, Domain::Coding) => GateMode::RegressionOnly,
                (Check::Build | Check::Test, Domain::Knowledge | Domain::Hybrid) | (Check::Lint, _) => {
                    GateMode::Informational
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CheckResult; 5] =
        [CheckResult::Passed, CheckResult::Failed, CheckResult::TimedOut, CheckResult::Inert, CheckResult::InfraFailed];

    fn befores() -> impl Iterator<Item = Option<CheckResult>> {
        std::iter::once(None).chain(ALL.into_iter().map(Some))
    }

    #[test]
    fn passing_or_nothing_to_run_passes_every_gate() {
        for mode in [GateMode::Strict, GateMode::RegressionOnly, GateMode::Informational] {
            for (before, after) in befores().flat_map(|b| [(b, CheckResult::Passed), (b, CheckResult::Inert)]) {
                assert_eq!(gate(mode, false, before, after), GateResult::Passed, "{mode:?} {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn informational_and_read_only_never_fail_a_task() {
        for (before, after) in befores().flat_map(|b| ALL.map(|a| (b, a))) {
            assert!(gate(GateMode::Informational, false, before, after).is_ok());
            for mode in [GateMode::Strict, GateMode::RegressionOnly, GateMode::Informational] {
                assert!(gate(mode, true, before, after).is_ok(), "{mode:?} {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn strict_fails_whatever_was_before() {
        for before in befores() {
            let all = [CheckResult::Failed, CheckResult::TimedOut, CheckResult::InfraFailed]
                .map(|after| gate(GateMode::Strict, false, before, after));
            assert_eq!(all, [GateResult::Failed, GateResult::TimedOut, GateResult::Infra]);
        }
    }

    #[test]
    fn regression_only_excuses_nothing_but_a_known_red_baseline() {
        for before in befores() {
            let red = before == Some(CheckResult::Failed);
            let expected = |otherwise| if red { GateResult::Tolerated } else { otherwise };
            let gated = |after| gate(GateMode::RegressionOnly, false, before, after);
            assert_eq!(gated(CheckResult::Failed), expected(GateResult::Failed), "{before:?}");
            assert_eq!(gated(CheckResult::TimedOut), expected(GateResult::TimedOut), "{before:?}");
            assert_eq!(gated(CheckResult::InfraFailed), GateResult::Infra, "{before:?}");
        }
    }
}
