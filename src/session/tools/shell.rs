//! What a command's end looks like to the model.

use super::{MAX_RESULT_CHARS, text};
use crate::session::hands::{Captured, ExecEnd, ExecResult, ShellNews};

/// The whole result of a foreground command, and whether it failed.
pub(super) fn result(done: &ExecResult, timeout_ms: u64) -> (String, bool) {
    let (first, failed) = ending(&done.end, timeout_ms);
    let mut out = first;
    let said = output(&done.stdout);
    if said.is_empty() && done.end == ExecEnd::Exited(0) {
        out.push_str("[no output]\n");
    }
    out.push_str(&said);
    if done.killed_leftovers {
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str("[it left processes running, which were killed; use run_in_background for what has to stay]\n");
    }
    (out, failed)
}

fn ending(end: &ExecEnd, timeout_ms: u64) -> (String, bool) {
    match end {
        ExecEnd::Exited(0) => (String::new(), false),
        ExecEnd::Exited(code) => (format!("[exit code {code}]\n"), true),
        ExecEnd::Signaled(signal) => (format!("[killed by signal {signal}{}]\n", signal_name(*signal)), true),
        ExecEnd::TimedOut => (format!("[killed: not done after {timeout_ms} ms; what it wrote follows]\n"), true),
        ExecEnd::Cancelled => ("[cancelled; what it wrote follows]\n".into(), true),
        ExecEnd::Lost => {
            ("[lost: it killed the process that watched it, so everything of it was killed]\n".into(), true)
        }
    }
}

const fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL; perhaps the memory limit)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGXCPU => " (SIGXCPU, a processor time limit)",
        libc::SIGXFSZ => " (SIGXFSZ, a file size limit)",
        _ => "",
    }
}

/// Clipped twice: the bytes in the hands, the characters here.
fn output(captured: &Captured) -> String {
    let omitted = captured.omitted_bytes();
    if omitted == 0 {
        let whole = text::printable(&String::from_utf8_lossy(&captured.bytes()));
        return text::clip(whole, MAX_RESULT_CHARS - 300);
    }
    let half = (MAX_RESULT_CHARS - 600) / 2;
    let head = text::printable(&String::from_utf8_lossy(&captured.head));
    let tail = text::printable(&String::from_utf8_lossy(&captured.tail));
    let head: String = head.chars().take(half).collect();
    let skip = tail.chars().count().saturating_sub(half);
    let tail: String = tail.chars().skip(skip).collect();
    format!(
        "{head}\n[... output of {} bytes: only its beginning and its end are shown ...]\n{tail}",
        captured.total_bytes
    )
}

pub(crate) fn shell_started(id: &str) -> String {
    format!("[started in the background as `{id}`; see BashOutput and KillShell]\n")
}

pub(crate) fn shell_killed(id: &str) -> String {
    format!("[`{id}` is being stopped; BashOutput shows how it ended]\n")
}

pub(crate) fn shell_news(news: &ShellNews) -> String {
    let state = match &news.ended {
        None => "[still running]\n".to_owned(),
        Some(Ok(ExecEnd::Exited(0))) => "[ended: exit code 0]\n".into(),
        Some(Ok(end)) => ending(end, 0).0.replacen('[', "[ended: ", 1),
        Some(Err(why)) => format!("[could not be started: {why}]\n"),
    };
    let said = output(&news.output);
    if said.is_empty() { state + "[no new output]\n" } else { state + &said }
}
