//! Tables and texts for people.

use abca_core::git::PullRequest;
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::{Counts, DeadLetter};
use abca_core::task::{CheckResult, Gate, PhaseTiming, Task, TaskStatus, Verdict, Verification};
use abca_core::text::preview;
use abca_core::{Millis, Timestamp};
use comfy_table::{ContentArrangement, Table};

use super::common::say;
use crate::{PendingApproval, QueuePlace, TaskOutcome};

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

/// A list of tasks.
pub(super) fn tasks(tasks: &[Task], now: Timestamp) {
    if tasks.is_empty() {
        say("no tasks");
        return;
    }
    let mut table = table(&["TASK", "STATUS", "AGE", "REPOSITORY", "WHAT", "RESULT"]);
    for task in tasks {
        table.add_row([
            task.id.to_string(),
            task.status.to_string(),
            now.since(task.created_at).to_string(),
            task.spec.repo.as_ref().map(|r| short_path(&r.to_string())).unwrap_or_default(),
            what(task, 48),
            result(task),
        ]);
    }
    say(&table.trim_fmt());
}

fn what(task: &Task, chars: usize) -> String {
    match (&task.spec.task_description, task.spec.issue_number) {
        (Some(text), _) => preview(text, chars),
        (None, Some(number)) => format!("issue #{number}"),
        (None, None) => String::new(),
    }
}

fn result(task: &Task) -> String {
    let report = task.report.as_ref();
    match (report.and_then(|r| r.pull_request.as_ref()), &task.failure) {
        (Some(pr), _) => format!("pull request #{}", pr.number),
        (None, Some(failure)) => preview(&failure.message, 60),
        (None, None) if report.is_some_and(|r| r.verdict == Verdict::NothingToDo) => "nothing to do".to_owned(),
        (None, None) => String::new(),
    }
}

fn short_path(path: &str) -> String {
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    if path.matches('/').count() > 2 {
        format!("\u{2026}/{}", parts.into_iter().rev().collect::<Vec<_>>().join("/"))
    } else {
        path.to_owned()
    }
}

/// One task.
pub(super) fn task(task: &Task, place: Option<QueuePlace>, now: Timestamp) {
    let mut rows: Vec<(&str, String)> = vec![
        ("task", task.id.to_string()),
        (
            "status",
            match task.completed_at {
                Some(end) => format!("{} after {}", task.status, end.since(task.created_at)),
                None => format!("{} for {}", task.status, now.since(task.status_at)),
            },
        ),
        ("submitted", format!("{} by {}", task.created_at, task.user)),
        ("repository", task.spec.repo.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("what", what(task, 400)),
        ("workflow", format!("{}@{}", task.spec.workflow_id, task.spec.workflow_version)),
        ("attempt", format!("{} of {}", task.attempt, task.spec.limits.max_attempts)),
    ];
    if let Some(place) = place {
        let estimate = place.estimate_ms.map(|ms| format!(", perhaps {ms} to wait")).unwrap_or_default();
        rows.push(("queue", format!("{} of this user's tasks before it{estimate}", place.ahead)));
    }
    if let Some(model) = task.report.as_ref().and_then(|r| r.model.clone()).or(task.spec.model.clone()) {
        rows.push(("model", model));
    }
    if let Some(session) = &task.session {
        rows.push(("session", session.id.to_string()));
    }
    if let Some(gate) = &task.awaiting {
        rows.extend(gate_rows(gate, now));
    }
    if let Some(cancel) = &task.cancel {
        rows.push(("cancelled", format!("by {} at {}", cancel.by, cancel.at)));
    }
    if let Some(failure) = &task.failure {
        let class = abca_core::classify::classify_failure(failure);
        rows.push(("failed", failure.message.clone()));
        rows.push(("what it is", class.title.to_owned()));
        rows.push(("what to do", class.remedy.to_owned()));
    }
    if let Some(inferred) = &task.inferred {
        rows.push(("inferred", inferred.clone()));
    }
    pairs(&rows);
    if let Some(report) = &task.report {
        say("");
        if let Some(pr) = &report.pull_request {
            say(&format!("pull request #{}  {}", pr.number, pr.url));
        }
        if let Some(branch) = &report.branch {
            say(&format!("branch          {branch}"));
        }
        say(&format!("cost            {} in {} turns", report.cost, report.turns_completed));
        verification(&report.verification);
    }
}

/// How many tasks there are.
pub(super) fn counts(counts: &Counts, now: Timestamp) {
    let mut table = table(&["STATUS", "TASKS"]);
    for (status, n) in &counts.by_status {
        table.add_row([status.to_string(), n.to_string()]);
    }
    say(&table.trim_fmt());
    let oldest = counts.oldest_due.map(|t| format!(", the oldest for {}", now.since(t))).unwrap_or_default();
    say(&format!("due now: {}{oldest}", counts.due));
    say(&format!("dead letters: {}", counts.dead));
}

/// Dead letters.
pub(super) fn dead_letters(letters: &[DeadLetter], now: Timestamp) {
    if letters.is_empty() {
        say("no dead letters");
        return;
    }
    let mut table = table(&["TASK", "DEAD FOR", "WHY"]);
    for letter in letters {
        table.add_row([letter.task.to_string(), now.since(letter.since).to_string(), preview(&letter.reason, 300)]);
    }
    say(&table.trim_fmt());
}

/// What waits for a human, each with what the answer is about and how to give it.
pub(super) fn pending(pending: &[PendingApproval], now: Timestamp) {
    if pending.is_empty() {
        say("nothing waits for an approval");
        return;
    }
    for (n, waiting) in pending.iter().enumerate() {
        if n > 0 {
            say("");
        }
        let PendingApproval { task, user, repo, gate } = waiting;
        let mut rows = vec![(
            "task",
            format!("{task} of {user}{}", repo.as_ref().map(|r| format!(" on {r}")).unwrap_or_default()),
        )];
        rows.extend(gate_rows(gate, now));
        rows.push(("answer", format!("abca approve {task}  |  abca deny {task} --reason \"...\"")));
        pairs(&rows);
    }
}

fn gate_rows(gate: &Gate, now: Timestamp) -> Vec<(&'static str, String)> {
    let left =
        if gate.deadline > now { format!("{} left", gate.deadline.since(now)) } else { "time is over".to_owned() };
    let mut rows = vec![
        ("awaits", format!("{}, {} severity, {left}", gate.request, gate.severity)),
        ("call", format!("{} {}", gate.tool, gate.preview)),
        ("because", gate.reason.clone()),
    ];
    if !gate.scopes.is_empty() {
        rows.push(("scopes", format!("this_call, {}", gate.scopes.join(", "))));
    }
    rows
}

fn pairs(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(k, _)| k.len()).max().unwrap_or(0);
    for (key, value) in rows {
        say(&format!("{key:width$}  {value}"));
    }
}

/// How a task ended.
pub(super) fn outcome(outcome: &TaskOutcome, pr: Option<&PullRequest>) {
    say("");
    match (outcome.status, outcome.verdict) {
        (TaskStatus::Completed, Some(Verdict::NothingToDo)) => say("COMPLETED: there was nothing to change."),
        (status, _) => say(&format!("{status} after {}", outcome.elapsed_ms)),
    }
    if let Some(failure) = &outcome.failure {
        let class = abca_core::classify::classify_failure(failure);
        say(&format!("  why         {}", failure.message));
        say(&format!("  what to do  {}", class.remedy));
    }
    if let Some(inferred) = &outcome.inferred {
        say(&format!("  inferred    {inferred}"));
    }
    if let Some(by) = &outcome.cancelled_by {
        say(&format!("  cancelled by {by}"));
    }
    if let Some(partial) = &outcome.partial_work {
        say(&format!("  the work so far is at {} ({})", partial.reference, short_sha(&partial.sha)));
    }
    if let Some(pr) = pr {
        pull_request(pr);
    } else if let Some(answer) = &outcome.answer_text {
        say("");
        say(answer);
    }
    if outcome.diff.files > 0 {
        say("");
        let plural = if outcome.diff.files == 1 { "" } else { "s" };
        say(&format!(
            "Diff          {} file{plural}, +{} \u{2212}{}",
            outcome.diff.files, outcome.diff.insertions, outcome.diff.deletions
        ));
    }
    verification(&outcome.verification);
    if outcome.turns > 0 {
        say(&format!(
            "Cost          {} in {} turns ({} input, {} output tokens)",
            outcome.cost, outcome.turns, outcome.usage.input_tokens, outcome.usage.output_tokens
        ));
    }
    phases(&outcome.phases, outcome.elapsed_ms);
}

fn short_sha(sha: &str) -> String {
    sha.chars().take(12).collect()
}

/// A pull request, whole.
pub(super) fn pull_request(pr: &PullRequest) {
    say("");
    say(&format!("Pull request #{}  {}", pr.number, pr.title));
    say(&format!("{}  {} \u{2192} {}  ({})", state(pr), pr.head, pr.base, short_sha(&pr.head_sha)));
    say(&pr.url);
    say("");
    for line in pr.body.lines().filter(|l| !l.starts_with("<!--")) {
        say(&format!("  \u{2502} {line}"));
    }
}

/// Pull requests.
pub(super) fn pull_requests(all: &[PullRequest]) {
    if all.is_empty() {
        say("no pull requests");
        return;
    }
    let mut table = table(&["#", "STATE", "TITLE", "HEAD", "BASE", "CREATED"]);
    for pr in all {
        table.add_row([
            pr.number.to_string(),
            state(pr).to_owned(),
            preview(&pr.title, 60),
            preview(&pr.head, 60),
            pr.base.clone(),
            pr.created_at.to_string(),
        ]);
    }
    say(&table.trim_fmt());
}

const fn state(pr: &PullRequest) -> &'static str {
    use abca_core::git::PullRequestState;
    match pr.state {
        PullRequestState::Open => "open",
        PullRequestState::Closed => "closed",
        PullRequestState::Merged => "merged",
    }
}

fn verification(all: &[Verification]) {
    for v in all {
        say(&format!("{:<12}  {} \u{2192} {}   `{}`", title(&v.name), word(v.before), word(v.after), v.command));
    }
}

fn title(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

const fn word(result: Option<CheckResult>) -> &'static str {
    match result {
        Some(CheckResult::Passed) => "passed",
        Some(CheckResult::Failed) => "FAILED",
        Some(CheckResult::TimedOut) => "TIMED OUT",
        Some(CheckResult::Inert) => "nothing to run",
        Some(CheckResult::InfraFailed) => "MACHINE FAILED",
        None => "not run",
    }
}

/// Where the time went, as bars.
fn phases(phases: &[PhaseTiming], whole: Millis) {
    if phases.is_empty() {
        return;
    }
    say("");
    say(&format!("Where the {whole} went"));
    let known: u64 = phases.iter().map(|p| p.duration_ms.0).sum();
    let rest = PhaseTiming { phase: "orchestration".to_owned(), duration_ms: Millis(whole.0.saturating_sub(known)) };
    let longest = phases.iter().chain([&rest]).map(|p| p.duration_ms.0).max().unwrap_or(1).max(1);
    for p in phases.iter().chain([&rest]) {
        let width = usize::try_from(p.duration_ms.0 * 32 / longest).unwrap_or(0);
        say(&format!(
            "  {:<16} {:>10}  {}",
            p.phase.replace('_', " "),
            p.duration_ms.to_string(),
            "\u{2588}".repeat(width)
        ));
    }
}

/// The session log, readable.
pub(super) fn log(records: &[(u64, LogRecord)]) {
    for (seq, record) in records {
        let (what, text) = entry(&record.entry);
        say(&format!(
            "{seq:>5}  {}  {what:<10} {}",
            record.at,
            text.replace('\n', "\n                                              ")
        ));
    }
}

fn entry(entry: &LogEntry) -> (&'static str, String) {
    use abca_core::model::Content;
    match entry {
        LogEntry::SessionStarted { attempt, walls } => {
            ("session", format!("attempt {attempt}, walls: {}", walls.join(", ")))
        }
        LogEntry::StepStarted { step } => ("step", format!("{} \u{2026}", step.as_str())),
        LogEntry::StepEnded { step, status, duration_ms, detail } => {
            ("step", format!("{} {status:?} after {duration_ms}: {detail}", step.as_str()).to_lowercase())
        }
        LogEntry::Cloned { base_branch, base_sha, branch } => {
            ("cloned", format!("{branch} from {base_branch} at {}", short_sha(base_sha)))
        }
        LogEntry::ConversationStarted { model, user_prompt, prompt_version, .. } => {
            ("prompt", format!("{model}, prompt version {prompt_version}\n{user_prompt}"))
        }
        LogEntry::ModelReserved { turn, reserved } => ("reserve", format!("turn {turn}: {reserved} set aside")),
        LogEntry::ReservedAhead { turn, reserved } => ("reserve", format!("turn {turn}: {reserved} set aside ahead")),
        LogEntry::ToolsPinned { tools } => {
            ("mcp", tools.iter().map(|t| t.spec.name.as_str()).collect::<Vec<_>>().join(", "))
        }
        LogEntry::AheadReleased { turn } => ("reserve", format!("turn {turn}: given back while the tool runs")),
        LogEntry::ModelReplied { turn, reply, cost, duration_ms } => {
            let mut text = format!("turn {turn}, {cost}, {duration_ms}");
            for part in &reply.content {
                match part {
                    Content::Text { text: said } => text.push_str(&format!("\n{said}")),
                    Content::Thinking { text: thought, .. } => text.push_str(&format!("\n({thought})")),
                    Content::ToolUse(call) => {
                        let input = match &call.input {
                            abca_core::model::ToolInput::Json(v) => v.to_string(),
                            abca_core::model::ToolInput::Invalid { raw, .. } => raw.clone(),
                        };
                        text.push_str(&format!("\n\u{2192} {} {}", call.name, preview(&input, 400)));
                    }
                    Content::Image { .. } | Content::ToolResult(_) => {}
                }
            }
            ("model", text)
        }
        LogEntry::ModelFailed { turn, message, .. } => ("model", format!("turn {turn} failed: {message}")),
        LogEntry::ApprovalRequested { gate, .. } => (
            "asks",
            format!("{} until {}: {} {}\n{}", gate.request, gate.deadline, gate.tool, gate.preview, gate.reason),
        ),
        LogEntry::ApprovalExpired { request } => ("asks", format!("{request}: nobody has answered in time")),
        LogEntry::ApprovalSettled { request, decision, .. } => {
            let by = decision.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            let scope = if decision.approved { format!(" ({})", decision.scope) } else { String::new() };
            let reason = decision.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            ("answer", format!("{request} {}{by}{scope}{reason}", decision.word()))
        }
        LogEntry::ToolStarted { name, call, .. } => ("tool", format!("{name} ({call}) \u{2026}")),
        LogEntry::ToolEnded { result, duration_ms, .. } => {
            let how = if result.is_error { "failed" } else { "done" };
            let mut text = format!("{how} after {duration_ms}");
            for part in &result.content {
                if let Content::Text { text: said } = part {
                    text.push_str(&format!("\n{}", abca_core::text::clip_middle(said, 2_000)));
                }
            }
            ("tool", text)
        }
        LogEntry::Injected { origin, text, .. } => ("told", format!("({origin}) {text}")),
        LogEntry::ContextTrimmed { before } => ("trimmed", format!("old results before message {before}")),
        LogEntry::Checkpoint { turn, sha } => ("saved", format!("after turn {turn}: {}", short_sha(sha))),
        LogEntry::Churned { churn } => ("changed", format!("{} files, {} lines", churn.files, churn.lines)),
        LogEntry::Verified { results } => (
            "verified",
            results
                .iter()
                .map(|v| format!("{}: {} \u{2192} {}", v.name, word(v.before), word(v.after)))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        LogEntry::PushIntended { branch, sha } => ("pushing", format!("{branch} at {}", short_sha(sha))),
        LogEntry::Pushed { branch, sha } => ("pushed", format!("{branch} at {}", short_sha(sha))),
        LogEntry::PullRequestOpened { number, url } => ("proposed", format!("pull request #{number} {url}")),
        LogEntry::AgentEnded { failure, answer } => {
            ("agent", failure.as_ref().map_or_else(|| format!("done: {answer}"), |f| format!("ended: {}", f.message)))
        }
    }
}
