//! What the scanner and the sanitiser find in samples, and what they find where nothing is. `scripts/guards-text` feeds it.
//!
//! `guards_text recall FILE`: lines of JSON, each `{"guard": "scanner"|"sanitiser", "family": "…", "text": "…"}`; a table by family.
//! `guards_text false FOLDER`: every text file under it; findings by rule and changes by kind, per file and per million bytes.
//! `guards_text show FOLDER RULE`: what a rule finds there, for a person to judge.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use abca_core::text::{ChangeKind, Screen, sanitized};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["recall", file] => recall(Path::new(file)),
        ["false", folder] => {
            false_positives(Path::new(folder));
            Ok(())
        }
        ["show", folder, rule] => {
            show(Path::new(folder), rule);
            Ok(())
        }
        _ => Err("use `recall FILE`, `false FOLDER` or `show FOLDER RULE`".into()),
    }
}

#[derive(Default)]
struct Family {
    samples: u32,
    found: u32,
    rules: BTreeMap<String, u32>,
}

fn recall(file: &Path) -> Result<(), Box<dyn Error>> {
    let screen = Screen::default();
    let mut families: BTreeMap<(String, String), Family> = BTreeMap::new();
    for line in fs::read_to_string(file)?.lines() {
        let sample: Value = serde_json::from_str(line)?;
        let word = |name: &str| sample.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (guard, text) = (word("guard"), word("text"));
        let found: Vec<String> = if guard == "scanner" {
            screen.scrub(&text).findings.into_iter().map(|f| f.rule).collect()
        } else {
            let suspicious = |kind: &&ChangeKind| !matches!(kind, ChangeKind::Tag);
            sanitized(&text).counts.keys().filter(suspicious).map(|kind| format!("{kind:?}")).collect()
        };
        let family = families.entry((guard, word("family"))).or_default();
        family.samples = family.samples.saturating_add(1);
        family.found = family.found.saturating_add(u32::from(!found.is_empty()));
        for rule in found {
            let count = family.rules.entry(rule).or_default();
            *count = count.saturating_add(1);
        }
    }
    println!("| guard | family | samples | found | by |\n|---|---|---:|---:|---|");
    for ((guard, name), family) in families {
        let mut rules: Vec<(String, u32)> = family.rules.into_iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let by: Vec<String> = rules.iter().take(3).map(|(rule, _)| rule.clone()).collect();
        let share = f64::from(family.found) * 100.0 / f64::from(family.samples.max(1));
        println!("| {guard} | {name} | {} | {share:.0} % | {} |", family.samples, by.join(", "));
    }
    Ok(())
}

fn false_positives(folder: &Path) {
    let screen = Screen::default();
    let (mut files, mut bytes, mut pages, mut page_bytes) = (0u64, 0u64, 0u64, 0u64);
    let mut rules: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    each_text(folder, |path, text| {
        files = files.saturating_add(1);
        bytes = bytes.saturating_add(text.len() as u64);
        tally(&mut rules, screen.scrub(text).findings.into_iter().map(|f| (f.rule, 1)));
        if path.extension().is_some_and(|e| e == "md") {
            pages = pages.saturating_add(1);
            page_bytes = page_bytes.saturating_add(text.len() as u64);
            tally(&mut kinds, sanitized(text).counts.into_iter().map(|(kind, n)| (format!("{kind:?}"), n as u64)));
        }
    });
    println!("{files} files of {:.1} MB; {pages} pages of {:.1} MB\n", bytes as f64 / 1e6, page_bytes as f64 / 1e6);
    println!("| scanner: rule | found | files | per MB |\n|---|---:|---:|---:|");
    for (rule, (count, in_files)) in &rules {
        println!("| {rule} | {count} | {in_files} | {:.3} |", *count as f64 * 1e6 / bytes as f64);
    }
    println!("\n| sanitiser: change | made | pages |\n|---|---:|---:|");
    for (kind, (count, in_files)) in &kinds {
        println!("| {kind} | {count} | {in_files} |");
    }
}

fn tally(counts: &mut BTreeMap<String, (u64, u64)>, found: impl Iterator<Item = (String, u64)>) {
    let mut here: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in found {
        let entry = here.entry(name).or_default();
        *entry = entry.saturating_add(count);
    }
    for (name, count) in here {
        let entry = counts.entry(name).or_default();
        *entry = (entry.0.saturating_add(count), entry.1.saturating_add(1));
    }
}

fn show(folder: &Path, rule: &str) {
    let screen = Screen::default();
    each_text(folder, |path, text| {
        for finding in screen.scrub(text).findings.iter().filter(|f| f.rule == rule) {
            let from = text.floor_char_boundary(finding.range.start.saturating_sub(40));
            let to = text.ceil_char_boundary(finding.range.end.min(finding.range.start.saturating_add(100)));
            println!("{}: {:?}", path.display(), text.get(from..to).unwrap_or_default());
        }
        for change in sanitized(text).changes.iter().filter(|c| format!("{:?}", c.kind) == rule) {
            let to = text.ceil_char_boundary(change.range.end.min(change.range.start.saturating_add(100)));
            println!("{}: {:?}", path.display(), text.get(change.range.start..to).unwrap_or_default());
        }
    });
}

fn each_text(folder: &Path, mut look: impl FnMut(&Path, &str)) {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                look(&path, &text);
            }
        }
    }
}
