//! Decisions per second and the slowest of a hundred, shell parse included, and what of real shell lines is not parsed.
//!
//! `cargo bench -p abca-core --features cedar --bench policy [-- FOLDER...]`. The corpus is made at run time from what is
//! installed: scripts under `/usr`, `/etc/init.d` and cargo's registry, recipes of Makefiles, and what folders on the command
//! line hold. It is not kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, and reads the clock"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use abca_core::policy::cedar::CedarPolicy;
use abca_core::policy::shell::{Limits, analyse};
use abca_core::policy::{LexicalPaths, PolicyDecision, PolicyEngine, PolicyRequest};
use abca_core::{TaskId, Timestamp};
use serde_json::json;

/// What agents run most: the figures of a session are these.
const USUAL: &[&str] = &[
    "ls -la",
    "cargo test -p abca-core -- --nocapture 2>&1 | grep -E 'test result|FAILED'",
    "grep -rn 'fn main' src --include='*.rs' | head",
    "git add -A && git commit -m 'Fix the parser'",
    "git push -u origin HEAD",
    "cd crates/core && RUST_BACKTRACE=1 cargo test 2>&1 | tail -40",
    "for f in src/*.rs; do sed -i 's/a/b/' \"$f\"; done",
    "find . -name '*.rs' -not -path './target/*' | xargs grep -l unsafe",
    "cat > src/lib.rs <<'EOF'\nfn main() { println!(\"x\"); }\nEOF\n",
    "git push -f origin main",
];

fn main() {
    let engine = {
        let begun = Instant::now();
        let engine = CedarPolicy::builtin().unwrap();
        say(&format!("policies loaded in {:.1} ms: {} rules", ms(begun.elapsed()), engine.rules().count()));
        engine
    };
    decisions("usual commands", &engine, &USUAL.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(), 20_000);
    let folders: Vec<PathBuf> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).map(PathBuf::from).collect();
    let (lines, scripts) = corpus(&folders);
    say(&format!("corpus: {} different lines of {} scripts", lines.len(), scripts.len()));
    parses("lines", &lines);
    parses("whole scripts", &scripts);
    decisions("lines of the corpus", &engine, &lines, lines.len());
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn say(line: &str) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}

fn decisions(what: &str, engine: &CedarPolicy, commands: &[String], count: usize) {
    let paths = LexicalPaths::default();
    let mut request = PolicyRequest {
        task: TaskId::from_parts(Timestamp::from_millis(0), 0),
        workflow: "coding/new-task-v1".to_owned(),
        repo: "owner/repo".to_owned(),
        branch: "bgagent/01/fix".to_owned(),
        base_branch: "main".to_owned(),
        tool: "Bash".to_owned(),
        input: json!({}),
        read_only: false,
        tainted: true,
    };
    let mut times = Vec::with_capacity(count);
    let mut said: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..count {
        let Some(command) = commands.get(i % commands.len().max(1)) else { return };
        request.input = json!({ "command": command });
        let begun = Instant::now();
        let judged = now(engine.judge(&request, &paths));
        times.push(begun.elapsed());
        let decision = match &judged {
            Ok(judged) => &judged.decision,
            Err(error) => panic!("{command}: {error}"),
        };
        *said.entry(decision.as_str()).or_default() += 1;
        if let PolicyDecision::Ask(_) | PolicyDecision::Deny { .. } = decision {
            for rule in decision.rules() {
                *rules.entry(rule.rule.clone()).or_default() += 1;
            }
        }
    }
    times.sort();
    let total: Duration = times.iter().sum();
    let at = |part: f64| times.get(((times.len() as f64 - 1.0) * part) as usize).copied().unwrap_or_default();
    say(&format!(
        "{what}: {:.0} decisions/s, p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, most {:.1} ms; {said:?}",
        times.len() as f64 / total.as_secs_f64(),
        ms(at(0.5)) * 1e3,
        ms(at(0.99)) * 1e3,
        ms(at(0.999)) * 1e3,
        ms(at(1.0)),
    ));
    let mut most: Vec<_> = rules.into_iter().collect();
    most.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    say(&format!("  rules: {most:?}"));
}

fn parses(what: &str, texts: &[String]) {
    let mut problems: BTreeMap<&str, usize> = BTreeMap::new();
    let mut slowest = (Duration::ZERO, 0);
    let mut bytes = 0;
    let begun = Instant::now();
    for text in texts {
        let one = Instant::now();
        let script = analyse(text, Limits::default());
        slowest = slowest.max((one.elapsed(), text.len()));
        bytes += text.len();
        for problem in script.problems {
            *problems.entry(problem.as_str()).or_default() += 1;
        }
    }
    let taken = begun.elapsed();
    let bad: usize = texts.iter().filter(|t| !analyse(t, Limits::default()).problems.is_empty()).count();
    say(&format!(
        "{what} parsed: {:.1} MB/s, slowest {:.2} ms ({} bytes); not parsed {bad} of {} ({:.1} %): {problems:?}",
        bytes as f64 / 1e6 / taken.as_secs_f64(),
        ms(slowest.0),
        slowest.1,
        texts.len(),
        bad as f64 * 100.0 / texts.len().max(1) as f64,
    ));
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

/// Lines, each once and in order, and whole scripts.
fn corpus(more: &[PathBuf]) -> (Vec<String>, Vec<String>) {
    let home = std::env::home_dir().unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/etc/init.d", "/var/lib/dpkg/info"]
            .iter()
            .map(PathBuf::from)
            .collect();
    folders.push(home.join(".cargo/registry/src"));
    folders.extend(more.iter().cloned());
    let mut lines = BTreeSet::new();
    let mut scripts = BTreeSet::new();
    for folder in folders {
        harvest(&folder, 12, &mut lines, &mut scripts);
    }
    (lines.into_iter().collect(), scripts.into_iter().collect())
}

fn harvest(folder: &Path, depth: usize, lines: &mut BTreeSet<String>, scripts: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            harvest(&path, depth - 1, lines, scripts);
        } else if kind.is_file() && entry.metadata().is_ok_and(|m| m.len() < 120_000) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let named = name.ends_with(".sh") || name.ends_with(".bash") || name.ends_with("Makefile");
            let hooks = [".postinst", ".prerm", ".preinst", ".postrm"].iter().any(|e| name.ends_with(e));
            if !(named || hooks || !name.contains('.')) {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            if name.ends_with("Makefile") {
                recipes(&text, lines);
                continue;
            }
            let first = text.lines().next().unwrap_or_default();
            let shell = first.starts_with("#!") && ["/sh", "bash", "dash", "env sh"].iter().any(|s| first.contains(s));
            if shell {
                lines.extend(text.lines().filter(|l| is_command(l)).map(|l| l.trim().to_owned()));
                scripts.insert(text);
            }
        }
    }
}

/// Recipes, with make's own `$$` made one.
fn recipes(text: &str, lines: &mut BTreeSet<String>) {
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().filter_map(|l| l.strip_prefix('\t')).filter(|l| is_command(l)) {
        lines.insert(line.trim_start_matches(['@', '-', '+']).replace("$$", "$").trim().to_owned());
    }
}

/// Whether a line stands for itself: no comment, no keyword alone, no part of something longer.
fn is_command(line: &str) -> bool {
    let line = line.trim();
    let words = [
        "if ", "elif ", "else", "fi", "then", "do", "done", "case ", "esac", "for ", "while ", "until ", "{", "}", "(",
        ")",
    ];
    let partial =
        words.iter().any(|w| line.starts_with(w)) || line.ends_with(['\\', '|', '{', '(', '&']) || line.ends_with(";;");
    !line.is_empty()
        && !line.starts_with('#')
        && !partial
        && line.len() > 3
        && !line.contains("<<")
        && line.matches(['\'', '"']).count().is_multiple_of(2)
}
