//! Scanner and sanitiser, in MB/s on one core: clean logs, real source code, and text built to be slow.
//!
//! `cargo bench -p abca-core --bench text [-- most-MB [source-folder]]`: texts grow from 1 KB to `most-MB` (default 100) in steps of
//! ten. The source code is that of our own dependencies (`~/.cargo/registry/src`). A figure that falls as the text grows would be
//! worse than linear: the last column compares the largest text with that of 100 KB. Time is the processor's, so a busy machine disturbs little.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a bench may panic, and looks at the clock"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abca_core::text::{PersonalData, Screen, sanitize};
use secrecy::SecretString;

const SOURCE_BYTES: usize = 64 * 1024 * 1024;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let most: usize = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(100) * 1_000_000;
    let folder = arguments.next().map_or_else(registry, PathBuf::from);
    let plain = Screen::default();
    let secrets = (0..20).map(|n| SecretString::from(format!("known-secret-{n}-q7Wk2Zx9Lp4Vt8Rb3Nc6{n}")));
    let full = Screen::builder().known(secrets).personal(PersonalData::ALL).build().unwrap();
    let known =
        plain.clone().with_known((0..20).map(|n| SecretString::from(format!("known-secret-{n}-q7Wk2Zx9Lp4V{n}"))));

    let begun = Cpu::now();
    let _ = plain.scrub("warm");
    println!("first use: {:.1} ms; with 20 known values: {:.1} ms", ms(begun.elapsed()), {
        let begun = Cpu::now();
        let _ = plain.clone().with_known((0..20).map(|n| SecretString::from(format!("another-{n}-q7Wk2Zx9Lp4V{n}"))));
        ms(begun.elapsed())
    });
    let source = source(&folder);
    let logs = vec![logs(most.max(1_000_000))];
    println!("\nMB/s                        bytes    scanner  +20 known  +personal     stream   sanitiser");
    for (name, texts) in [("logs", &logs), ("source files", &source)] {
        println!(
            "{name:<20} {:>12} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>11.0}",
            texts.iter().map(String::len).sum::<usize>(),
            rate_of(texts, |t| plain.scrub(t).findings.len()),
            rate_of(texts, |t| known.scrub(t).findings.len()),
            rate_of(texts, |t| full.scrub(t).findings.len()),
            rate_of(texts, |t| streamed(&known, t)),
            rate_of(texts, |t| sanitize(t).len()),
        );
    }
    let sizes: Vec<usize> = (3..9).map(|n| 10usize.pow(n)).filter(|n| *n <= most).collect();
    for (what, units) in [("scanner", SCANNER), ("sanitiser", SANITISER)] {
        print!("\n{what:<26}");
        sizes.iter().for_each(|size| print!("{:>9}", human(*size)));
        println!("   MB/s; last to 100 KB");
        for unit in units {
            let label: String = unit.escape_debug().take(24).collect();
            print!("{label:<26}");
            let mut rates = Vec::new();
            for size in &sizes {
                let text = unit.repeat(size.div_ceil(unit.len()));
                let rate = match what {
                    "scanner" => rate(&text, |t| known.scrub(t).findings.len()),
                    _ => rate(&text, |t| sanitize(t).len()),
                };
                rates.push(rate);
                print!("{rate:>9.1}");
            }
            let at_100_kb = sizes.iter().position(|s| *s == 100_000).and_then(|at| rates.get(at));
            println!("   {:>5.2}", rates.last().zip(at_100_kb).map_or(1.0, |(last, at)| last / at));
        }
    }
}

const SCANNER: &[&str] = &[
    "a",
    "ghp_",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456 ",
    "AKIA",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEAabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL\n",
    "a://a:",
    "bearer ",
    "eyJ",
    "eyJhbGciOiJub25lIn0.",
    "token=",
    "secret",
    "password=\"",
    "?token=a",
    "Z2hwX2",
    "T3BlbkFJ",
    "known-se",
    "sk-",
    "://a",
    "\n",
    "é",
];

const SANITISER: &[&str] = &[
    "a",
    "<",
    "<b>",
    "</b>",
    "<b><i>",
    "<a b=\"",
    "<script>",
    "<script <",
    "<div hidden>",
    "<!--",
    "<!-- -->",
    "`",
    "``` ",
    "> ",
    "- ",
    "1. ",
    "\n",
    "\0",
    "\u{200b}",
    "\u{1b}[31m",
    "&#105;",
    "ignore ",
    "ignore all ",
    "ignore previous ",
    "i g n o r e ",
    "system",
    "system: ",
    "<system>",
    "[x]",
    "忽略之",
    "\u{301}",
    "é",
];

fn streamed(screen: &Screen, text: &str) -> usize {
    let mut stream = screen.stream();
    let mut given = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(4_096.min(rest.len())).max(1));
        given += stream.push(piece).text.len();
        rest = more;
    }
    given + stream.finish().text.len()
}

/// The processor time of this thread.
#[derive(Clone, Copy)]
struct Cpu(Duration);

impl Cpu {
    fn now() -> Self {
        let nanos = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Self(Duration::from_nanos(nanos.split(' ').next().unwrap().parse().unwrap()))
    }

    fn elapsed(self) -> Duration {
        Self::now().0 - self.0
    }
}

/// MB/s over many texts, each by itself, once.
fn rate_of(texts: &[String], run: impl Fn(&str) -> usize) -> f64 {
    let bytes: usize = texts.iter().map(String::len).sum();
    let begun = Cpu::now();
    for text in texts {
        std::hint::black_box(run(std::hint::black_box(text)));
    }
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64().max(1e-9)
}

/// MB/s: as many runs as take a fifth of a second, for the processor's time is told in milliseconds.
fn rate(text: &str, run: impl Fn(&str) -> usize) -> f64 {
    let mut runs = 0u32;
    std::hint::black_box(run(text));
    let begun = Cpu::now();
    while begun.elapsed() < Duration::from_millis(200) {
        for _ in 0..(100_000 / text.len()).max(1) {
            std::hint::black_box(run(std::hint::black_box(text)));
            runs += 1;
        }
    }
    f64::from(runs) * text.len() as f64 / 1e6 / begun.elapsed().as_secs_f64().max(1e-9)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn human(bytes: usize) -> String {
    if bytes < 1_000_000 { format!("{} KB", bytes / 1_000) } else { format!("{} MB", bytes / 1_000_000) }
}

/// Lines as builds, tests, servers and package managers print them.
fn logs(bytes: usize) -> String {
    let mut out = String::with_capacity(bytes + 1_000);
    let mut n = 0u64;
    while out.len() < bytes {
        n += 1;
        let h = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        out.push_str(&format!(
            "2026-11-23T20:{:02}:{:02}.{:03}Z  INFO abca::session: step ended task=01J{:013X} step=run_agent took_ms={}\n\
             test store::tests::case_{n} ... ok\n   Compiling crate-{} v1.{}.0 (/work/main/crate-{})\n\
             127.0.0.1 - - [23/Nov/2026:20:{:02}:00 +0000] \"GET /v1/tasks/{n}?limit=20 HTTP/1.1\" 200 {}\n\
             npm http fetch GET 200 https://registry.npmjs.org/left-pad {}ms (cache hit)\n\
             commit {:016x}{:016x}{:08x}\nAuthor: Ann <ann@example.com>\n    Fix the parser's token stream ({n})\n",
            n % 60, n % 60, n % 1000, h >> 12, h % 10_000, h % 97, h % 13, h % 97, n % 60, h % 50_000, h % 900, h,
            h.rotate_left(17), h >> 32,
        ));
    }
    out
}

fn registry() -> PathBuf {
    PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cargo/registry/src")
}

/// Source files of a folder, in the order of their names, up to [`SOURCE_BYTES`].
fn source(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                waiting.push(path);
            } else if path
                .extension()
                .is_some_and(|e| ["rs", "c", "h", "md", "toml", "json", "py"].iter().any(|x| e == *x))
                && let Ok(text) = fs::read_to_string(&path)
            {
                bytes += text.len();
                out.push(text);
            }
            if bytes >= SOURCE_BYTES {
                return out;
            }
        }
    }
    out
}
