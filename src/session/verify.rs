//! Build, test and lint, before and after the agent: what to run, and what its end means.

use abca_core::Millis;
use abca_core::task::{CheckResult, TaskSpec, Verification};
use abca_core::text::clip_tail;
use async_trait::async_trait;

/// The end of an output that is kept (`Verification::output_tail`).
const TAIL_CHARS: usize = 4_000;

/// How a command in the hands ended.
#[derive(Debug, Clone)]
pub(crate) struct ShellRun {
    /// Exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    /// It did not end in time.
    pub(crate) timed_out: bool,
    /// Standard output and error as they came, clipped, screened.
    pub(crate) output: String,
}

/// Runs shell commands in the hands.
#[async_trait]
pub(crate) trait Shell: Send + Sync {
    /// Runs a command in the work tree; an error is a failure of the hands, not of the command.
    async fn shell(&mut self, command: &str, timeout: Millis) -> Result<ShellRun, String>;
}

/// The commands of a task, in the order they are run.
pub(crate) fn commands(spec: &TaskSpec) -> Vec<(&'static str, String)> {
    let named = [("build", &spec.build_command), ("test", &spec.test_command), ("lint", &spec.lint_command)];
    named.into_iter().filter_map(|(name, c)| c.as_ref().map(|c| (name, c.clone()))).collect()
}

/// Which side of the agent's work a run is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Before it.
    Before,
    /// After it.
    After,
}

/// Runs every command and writes the results into `results`, which keeps those of the other side.
pub(crate) async fn run(
    shell: &mut dyn Shell,
    commands: &[(&'static str, String)],
    timeout: Millis,
    side: Side,
    results: &mut Vec<Verification>,
) -> Result<(), String> {
    for (name, command) in commands {
        let run = shell.shell(command, timeout).await?;
        let result = judge(&run);
        let at = results.iter().position(|v| v.name == *name);
        let slot = match at {
            Some(at) => &mut results[at],
            None => {
                results.push(Verification {
                    name: (*name).to_owned(),
                    command: command.clone(),
                    before: None,
                    after: None,
                    output_tail: String::new(),
                });
                results.last_mut().expect("one was pushed just now")
            }
        };
        match side {
            Side::Before => slot.before = Some(result),
            Side::After => slot.after = Some(result),
        }
        slot.output_tail = clip_tail(&run.output, TAIL_CHARS);
    }
    Ok(())
}

/// What an end means (`behaviour.md` 4.5). Commands are configured here, so a missing one is a failure, never inert.
fn judge(run: &ShellRun) -> CheckResult {
    if run.timed_out {
        return CheckResult::TimedOut;
    }
    match run.status {
        Some(0) => CheckResult::Passed,
        Some(137) | None => CheckResult::InfraFailed,
        Some(_) if machine_failed(&run.output) => CheckResult::InfraFailed,
        Some(_) => CheckResult::Failed,
    }
}

/// Words by which the machine itself, not the command, is known to have failed.
fn machine_failed(output: &str) -> bool {
    const MARKS: [&str; 4] = ["No space left on device", "Cannot allocate memory", "Out of memory: Killed", "ENOSPC:"];
    MARKS.iter().any(|m| output.contains(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Option<i32>, timed_out: bool, output: &str) -> CheckResult {
        judge(&ShellRun { status, timed_out, output: output.to_owned() })
    }

    #[test]
    fn an_end_is_judged_by_time_then_status_then_words() {
        assert_eq!(ended(Some(0), false, "No space left on device"), CheckResult::Passed);
        assert_eq!(ended(Some(1), false, "assertion failed"), CheckResult::Failed);
        assert_eq!(ended(Some(127), false, "sh: nope: not found"), CheckResult::Failed);
        assert_eq!(ended(Some(1), false, "write: No space left on device"), CheckResult::InfraFailed);
        assert_eq!(ended(Some(137), false, ""), CheckResult::InfraFailed);
        assert_eq!(ended(None, false, ""), CheckResult::InfraFailed);
        assert_eq!(ended(None, true, ""), CheckResult::TimedOut);
    }
}
