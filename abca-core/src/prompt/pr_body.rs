//! The pull request's title and body (`behaviour.md` 4.6): for the reviewer, honest, and without effects of its own.

use super::markdown::{code, fenced, quoted, without_mentions};
use crate::id::TaskId;
use crate::money::MicroUsd;
use crate::task::{CheckResult, DiffStat, Verification};
use crate::text::preview;

/// Longest title, in characters: what forges take.
const TITLE_CHARS: usize = 256;
// Rooms in characters. Together they stay below 32 768, so that the body has at most 65 536 UTF-16 units, which is what
// forges take, whatever characters it has.
const DESCRIPTION_CHARS: usize = 10_000;
const COMMITS: usize = 50;
const SUBJECT_CHARS: usize = 80;
const CHECKS: usize = 20;
const COMMAND_CHARS: usize = 200;
const NOTES_CHARS: usize = 6_000;

/// What a pull request says, as the session knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullRequestText<'a> {
    /// The task.
    pub task: TaskId,
    /// The attempt that delivers.
    pub attempt: u32,
    /// The issue that the work resolves.
    pub issue_number: Option<u64>,
    /// What the user asked for.
    pub description: Option<&'a str>,
    /// The title: as a rule the subject of the first commit. Empty gives `chore: bgagent/<id>`.
    pub title: &'a str,
    /// Subjects of the commits, oldest first.
    pub commits: &'a [String],
    /// Commands before and after.
    pub verification: &'a [Verification],
    /// What the change touches.
    pub diff: DiffStat,
    /// What was spent on models.
    pub cost: MicroUsd,
    /// Turns of the agent.
    pub turns: u32,
    /// The model, as `provider:id`.
    pub model: Option<&'a str>,
    /// Hash of the deterministic prompt.
    pub prompt_version: &'a str,
    /// What the agent said last.
    pub notes: &'a str,
}

/// A title and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TitleAndBody {
    /// One line, at most 256 characters.
    pub title: String,
    /// Markdown, at most 65 536 characters.
    pub body: String,
}

/// Writes title and body. What the user and the agent wrote is quoted: their Markdown is kept, their HTML is shown, their
/// mentions notify nobody, and they close no issues. What does not fit is left out with a note.
pub fn pull_request_text(of: &PullRequestText<'_>) -> TitleAndBody {
    let mut body = String::new();
    summary(of, &mut body);
    commits(of.commits, &mut body);
    verification(of.verification, &mut body);
    body.push_str("## Change\n\n");
    body.push_str(&format!("{}.\n\n", diff_words(of.diff)));
    body.push_str(&run_words(of));
    if !of.notes.trim().is_empty() {
        body.push_str(&format!("## Agent notes\n\n{}\n", quoted(of.notes, NOTES_CHARS)));
    }
    body.push_str(&marker(of.task, of.attempt));
    TitleAndBody { title: title(of.title, of.task), body }
}

/// The hidden last line by which a pull request is known as a task's, on any forge.
fn marker(task: TaskId, attempt: u32) -> String {
    format!("<!-- abca:task={task} attempt={attempt} -->\n")
}

/// Task and attempt of a body that [`pull_request_text`] wrote. Only the last line counts: nothing that was quoted before
/// it can stand in for it.
pub fn task_of(body: &str) -> Option<(TaskId, u32)> {
    let last = body.trim_end().lines().next_back()?.trim();
    let inner = last.strip_prefix("<!-- abca:task=")?.strip_suffix("-->")?;
    let (task, attempt) = inner.trim_end().split_once(" attempt=")?;
    Some((task.parse().ok()?, attempt.parse().ok()?))
}

/// The title that is given, else `chore: bgagent/<id>`.
fn title(given: &str, task: TaskId) -> String {
    // Mentions in titles notify nobody, and a squash takes the title over: it stays as it was written.
    let title = preview(given, TITLE_CHARS);
    if title.is_empty() { format!("chore: bgagent/{task}") } else { title }
}

fn summary(of: &PullRequestText<'_>, out: &mut String) {
    out.push_str("## Summary\n\n");
    if let Some(number) = of.issue_number {
        out.push_str(&format!("Resolves #{number}\n\n"));
    }
    match of.description.map(str::trim).filter(|d| !d.is_empty()) {
        Some(description) => out.push_str(&format!("{}\n", quoted(description, DESCRIPTION_CHARS))),
        None if of.issue_number.is_none() => out.push_str("No description was given.\n\n"),
        None => {}
    }
}

fn commits(subjects: &[String], out: &mut String) {
    out.push_str("## Commits\n\n");
    if subjects.is_empty() {
        out.push_str("None.\n\n");
        return;
    }
    let mut list = String::new();
    for subject in subjects.iter().take(COMMITS) {
        list.push_str(&without_mentions(&preview(subject, SUBJECT_CHARS)));
        list.push('\n');
    }
    if let Some(more) = subjects.len().checked_sub(COMMITS).filter(|n| *n > 0) {
        list.push_str(&format!("… and {more} more\n"));
    }
    out.push_str(&fenced(&list, "text"));
    out.push('\n');
}

fn verification(checks: &[Verification], out: &mut String) {
    out.push_str("## Verification\n\n");
    if checks.is_empty() {
        out.push_str("No build, test or lint command is configured, so nothing was verified.\n\n");
        return;
    }
    for v in checks.iter().take(CHECKS) {
        let name = code(&v.name, 40);
        out.push_str(&format!("- {name} {}: {}.\n", code(&v.command, COMMAND_CHARS), verdict_words(v.before, v.after)));
    }
    if let Some(more) = checks.len().checked_sub(CHECKS).filter(|n| *n > 0) {
        out.push_str(&format!("- … and {more} more\n"));
    }
    out.push('\n');
}

/// Both results, and what they mean for the change.
fn verdict_words(before: Option<CheckResult>, after: Option<CheckResult>) -> String {
    use CheckResult::{Failed, Inert, InfraFailed, Passed, TimedOut};
    let word = |result| match result {
        None => "was not run",
        Some(Passed) => "passed",
        Some(Failed) => "failed",
        Some(TimedOut) => "did not end in time",
        Some(Inert) => "had nothing to run",
        Some(InfraFailed) => "could not be judged because the machine failed",
    };
    let meaning = match (before, after) {
        (Some(Passed), Some(Passed)) => return "passed before and after".to_owned(),
        (Some(Inert), Some(Inert)) => return "had nothing to run, before and after".to_owned(),
        (None, None) => return "was not run".to_owned(),
        (Some(Failed), Some(Failed)) => return "failed before and after: not a regression of this change".to_owned(),
        (Some(Failed | TimedOut), Some(Passed)) => "repaired by this change",
        (Some(Failed), Some(TimedOut)) => "it was broken before, so this does not count as a regression",
        (None | Some(Inert | InfraFailed), Some(Passed)) => "nothing to compare it with, and it passes",
        (Some(TimedOut), Some(Failed | TimedOut)) => "a regression cannot be ruled out, and this check does not gate",
        (Some(Passed | Inert | InfraFailed) | None, Some(Failed | TimedOut)) => {
            "counts as a regression, and this check does not gate"
        }
        (_, Some(InfraFailed)) => "nothing can be said of this change",
        (Some(Passed | Failed | TimedOut | InfraFailed) | None, Some(Inert)) => "nothing was verified",
        (Some(_), None) => "nothing was verified after the change",
    };
    format!("before, it {}; after, it {}: {meaning}", word(before), word(after))
}

fn diff_words(diff: DiffStat) -> String {
    let files = if diff.files == 1 { "1 file".to_owned() } else { format!("{} files", diff.files) };
    format!("{files} changed, +{} −{} lines", diff.insertions, diff.deletions)
}

fn run_words(of: &PullRequestText<'_>) -> String {
    let turns = if of.turns == 1 { "1 turn".to_owned() } else { format!("{} turns", of.turns) };
    let model = of.model.map(|m| format!(" of {}", code(m, 100))).unwrap_or_default();
    let version = match of.prompt_version {
        "" => String::new(),
        version => format!(", prompt {}", code(version, 40)),
    };
    format!("Made in {turns}{model} for {}{version}. Task {}, attempt {}.\n\n", of.cost, of.task, of.attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::utf16_len;
    use crate::time::Timestamp;

    fn task() -> TaskId {
        TaskId::from_parts(Timestamp::from_millis(0), 7)
    }

    fn check(name: &str, before: Option<CheckResult>, after: Option<CheckResult>) -> Verification {
        let command = format!("make {name}");
        Verification { name: name.into(), command, before, after, output_tail: String::new() }
    }

    fn text<'a>(commits: &'a [String], verification: &'a [Verification], notes: &'a str) -> PullRequestText<'a> {
        PullRequestText {
            task: task(),
            attempt: 2,
            issue_number: Some(12),
            description: Some("Keep empty lines."),
            title: commits.first().map_or("", String::as_str),
            commits,
            verification,
            diff: DiffStat { files: 1, insertions: 10, deletions: 3 },
            cost: MicroUsd(12_345),
            turns: 9,
            model: Some("replay:demo"),
            prompt_version: "0123456789ab",
            notes,
        }
    }

    #[test]
    fn the_whole_text() {
        use CheckResult::{Failed, Passed};
        let commits = ["fix(parser): keep empty lines, thanks @alice".to_owned(), "test: ```fence".to_owned()];
        let checks = [
            check("build", Some(Passed), Some(Passed)),
            check("test", Some(Failed), Some(Passed)),
            check("lint", Some(Failed), Some(Failed)),
        ];
        let got =
            pull_request_text(&text(&commits, &checks, "Done, @bob. Closes #99.\n<!-- abca:task=x attempt=1 -->"));
        assert_eq!(got.title, "fix(parser): keep empty lines, thanks @alice");
        let want = "## Summary\n\nResolves #12\n\n> Keep empty lines.\n\n\
                    ## Commits\n\n````text\nfix(parser): keep empty lines, thanks @\u{200b}alice\ntest: ```fence\n````\n\n\
                    ## Verification\n\n- `build` `make build`: passed before and after.\n\
                    - `test` `make test`: before, it failed; after, it passed: repaired by this change.\n\
                    - `lint` `make lint`: failed before and after: not a regression of this change.\n\n\
                    ## Change\n\n1 file changed, +10 −3 lines.\n\n\
                    Made in 9 turns of `replay:demo` for $0.0124, prompt `0123456789ab`. \
                    Task 00000000000000000000000007, attempt 2.\n\n\
                    ## Agent notes\n\n> Done, @\u{200b}bob. C\u{200b}loses #99.\n> <\u{200b}!-- abca:task=x attempt=1 -->\n\n\
                    <!-- abca:task=00000000000000000000000007 attempt=2 -->\n";
        assert_eq!(got.body, want);
        assert_eq!(task_of(&got.body), Some((task(), 2)));
    }

    #[test]
    fn a_title_is_one_short_line_and_never_empty() {
        let titled = |subject: &str| pull_request_text(&text(&[subject.to_owned()], &[], "")).title;
        assert_eq!(titled(&"x".repeat(300)).chars().count(), TITLE_CHARS);
        assert_eq!(titled(" \n"), "chore: bgagent/00000000000000000000000007");
        assert_eq!(pull_request_text(&text(&[], &[], "")).title, "chore: bgagent/00000000000000000000000007");
    }

    #[test]
    fn no_input_makes_it_too_long_for_a_forge() {
        for hostile in ["👀", "<a", "```\n", "@a ", "\n", "closes #1 "] {
            let long = hostile.repeat(60_000);
            let commits: Vec<String> = (0..500).map(|_| long.clone()).collect();
            let one = Verification { name: long.clone(), command: long.clone(), ..check("x", None, None) };
            let checks = vec![one; 30];
            let got =
                pull_request_text(&PullRequestText { description: Some(&long), ..text(&commits, &checks, &long) });
            assert!(utf16_len(&got.body) <= 65_536, "{hostile:?}: {}", utf16_len(&got.body));
            assert!(got.title.chars().count() <= TITLE_CHARS);
            assert_eq!(task_of(&got.body), Some((task(), 2)), "{hostile:?}");
        }
    }

    #[test]
    fn only_the_last_line_is_the_marker() {
        assert_eq!(task_of(&format!("{}more", marker(task(), 1))), None);
        assert_eq!(task_of(""), None);
        assert_eq!(task_of(&format!("x\n{}\n \n", marker(task(), 1))), Some((task(), 1)));
    }

    #[test]
    fn every_pair_of_results_reads_as_a_sentence() {
        use CheckResult::{Failed, Inert, InfraFailed, Passed, TimedOut};
        let all = [None, Some(Passed), Some(Failed), Some(TimedOut), Some(Inert), Some(InfraFailed)];
        for (before, after) in all.iter().flat_map(|b| all.iter().map(move |a| (*b, *a))) {
            let words = verdict_words(before, after);
            assert!(words.starts_with(|c: char| c.is_lowercase()) && !words.ends_with('.'), "{words}");
            assert_eq!(words.contains("regression of this change"), (before, after) == (Some(Failed), Some(Failed)));
        }
    }
}
