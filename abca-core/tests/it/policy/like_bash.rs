//! Our reading of words against the real bash: what it would run is what we say it would run.

use std::process::Command;

use abca_core::policy::shell::{Limits, analyse};
use proptest::prelude::*;

/// What bash makes of the words after `p`, which prints each with a NUL after it.
fn by_bash(words: &str) -> Option<Vec<String>> {
    let text = format!("p() {{ [ $# = 0 ] || printf '%s\\0' \"$@\"; }}\np {words}");
    let out = Command::new("bash").args(["--norc", "--noprofile", "-f", "-c", &text]).env_clear().output().ok()?;
    if !out.status.success() || !out.stderr.is_empty() {
        return None;
    }
    let out = String::from_utf8(out.stdout).ok()?;
    Some(out.split_terminator('\0').map(str::to_owned).collect())
}

const PIECES: &[&str] = &[
    "a",
    "B",
    " ",
    "  ",
    "'",
    "\"",
    "\\",
    "$'",
    "\\x41",
    "\\n",
    "\\t",
    "\\055",
    "''",
    "\"\"",
    "{",
    "}",
    ",",
    "-f",
    "=",
    "x",
    "\\\n",
    "#",
    "é",
    "/",
    ".",
    "%",
    "!",
    "+",
    "{a,b}",
    "{a,{b,c}d}",
    "{}",
    "{x}",
    "\\'",
    "\\\"",
    "\\\\",
    "$",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn words_are_what_bash_makes_of_them(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)) {
        let words = pieces.concat();
        let script = analyse(&format!("p {words}"), Limits::default());
        // What bash runs without complaint is either the very same for us, or not known.
        let Some(theirs) = by_bash(&words).filter(|_| script.problems.is_empty()) else { return Ok(()) };
        let Some(ours) = script.commands.iter().find(|c| c.program() == Some("p")) else {
            return Err(TestCaseError::fail(format!("nothing is run: {words:?}")));
        };
        if ours.arguments().iter().all(|w| w.known) {
            let said: Vec<&str> = ours.arguments().iter().map(|w| w.text.as_str()).collect();
            prop_assert_eq!(said, theirs, "{}", words);
        }
    }
}

#[test]
fn variables_split_as_in_bash() {
    for (text, want) in [
        ("x='a b'; p $x", vec!["a", "b"]),
        ("x='a b'; p \"$x\"", vec!["a b"]),
        ("x='a b'; p 1$x'2'", vec!["1a", "b2"]),
        ("x=' a '; p 1${x}2", vec!["1", "a", "2"]),
        ("x=; p $x b", vec!["b"]),
        ("x=; p \"$x\" b", vec!["", "b"]),
        ("p a${IFS}b", vec!["a", "b"]),
    ] {
        let script = analyse(text, Limits::default());
        let ours = script.commands.iter().find(|c| c.program() == Some("p")).unwrap();
        let said: Vec<&str> = ours.arguments().iter().map(|w| w.text.as_str()).collect();
        assert_eq!(said, want, "{text}");
        let (before, words) = text.rsplit_once("p ").unwrap();
        let out = Command::new("bash")
            .args(["--norc", "-c", &format!("p() {{ printf '%s\\0' \"$@\"; }}; {before} p {words}")])
            .output()
            .unwrap();
        let theirs = String::from_utf8(out.stdout).unwrap();
        assert_eq!(theirs.split_terminator('\0').collect::<Vec<_>>(), want, "{text}");
    }
}
