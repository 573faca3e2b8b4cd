//! What holds for every text.

use abca_core::policy::shell::{Limits, Problem, analyse};
use proptest::prelude::*;

use super::{bash, rules};

/// Pieces that mean something to a shell.
const PIECES: &[&str] = &[
    "git",
    "push",
    "-f",
    " ",
    "\n",
    ";",
    "&",
    "&&",
    "|",
    "||",
    "(",
    ")",
    "{",
    "}",
    "{ ",
    "; }",
    "$(",
    "`",
    "\"",
    "'",
    "\\",
    "$",
    "${",
    "${x",
    "}",
    "$((",
    "))",
    "((",
    "[[",
    "]]",
    "<<EOF",
    "\nEOF\n",
    "<<-E",
    "<<<",
    "<(",
    ">",
    ">>",
    "<",
    "2>&1",
    "&>",
    "if ",
    "then ",
    "fi",
    "case x in ",
    "esac",
    ";;",
    "for i in a b; do ",
    "done",
    "while ",
    "do ",
    "function f",
    "f()",
    "time ",
    "! ",
    "eval ",
    "sh -c ",
    "env ",
    "xargs ",
    "x=",
    "x=(",
    "$x",
    "a",
    "é",
    "\u{0}",
    "$'",
    "\\x41",
    "~",
    "*",
    "?",
    "[",
    "]",
    ",",
    "..",
    "#",
    "\r",
    "\t",
    "=",
    "+=",
    "find . -exec ",
    "\\;",
    "git -c alias.x=!",
    "coproc ",
    "rm -rf ",
    "/",
];

fn shell_like() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Ways to run the same.
fn wrapped(command: &str, way: u8) -> String {
    match way % 12 {
        0 => format!("sh -c {}", quoted(command)),
        1 => format!("env A=b bash -lc {}", quoted(command)),
        2 => format!("eval {}", quoted(command)),
        3 => format!("( {command} )"),
        4 => format!("{{ {command}; }}"),
        5 => format!("if true; then {command}; fi"),
        6 => format!("echo $( {command} )"),
        7 => format!("true && {command} || true"),
        8 => format!("bash <<'END'\n{command}\nEND\n"),
        9 => format!("f() {{ {command}; }}; f"),
        10 => format!("nohup timeout 5 sh -c {} &", quoted(command)),
        _ => format!("for i in 1 2; do {command}; done > /dev/null"),
    }
}

/// A word with its letters quoted in one of the ways that mean the same.
fn requoted(word: &str, way: u8) -> String {
    match way % 5 {
        0 => quoted(word),
        1 => format!("\"{word}\""),
        2 => word.chars().map(|c| format!("\\{c}")).collect(),
        3 => format!("$'{}'", word.chars().map(|c| format!("\\x{:02x}", c as u32)).collect::<String>()),
        _ => word.chars().map(|c| format!("{c}''")).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(text in shell_like()) {
        let script = analyse(&text, Limits::default());
        prop_assert!(script.commands.len() <= Limits::default().commands);
        let _judged = bash(&text);
    }

    #[test]
    fn no_bytes_panic(text in "\\PC{0,200}") {
        let _judged = bash(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_not_allowed_stays_so_however_it_is_wrapped_and_quoted(
        which in 0_usize..6, ways in proptest::collection::vec(any::<u8>(), 0..4), quotes in any::<[u8; 6]>()
    ) {
        let words: &[&str] = [
            &["git", "push", "-f", "origin", "main"] as &[&str],
            &["rm", "-rf", "/"],
            &["tee", ".github/workflows/ci.yml"],
            &["npm", "publish"],
            &["cat", "/proc/self/environ"],
            &["git", "config", "core.hooksPath", "x"],
        ][which];
        let mut command =
            words.iter().zip(quotes).map(|(word, way)| requoted(word, way)).collect::<Vec<_>>().join(" ");
        for way in ways {
            command = wrapped(&command, way);
        }
        let judged = bash(&command);
        prop_assert_ne!(judged.decision.as_str(), "allow", "{}", command);
    }
}

#[test]
fn hostile_texts_end_soon_and_are_not_parsed() {
    let deep = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for (text, problem) in [
        (deep("$(", "a", ")", 10_000), Problem::TooDeep),
        (deep("\"$(echo ", "a", ")\"", 5_000), Problem::TooDeep),
        (deep("${a:-", "", "}", 5_000), Problem::TooDeep),
        (deep("$((", "1", "))", 5_000), Problem::TooDeep),
        ("( ".repeat(40), Problem::Unclosed),
        ("(".repeat(10_000), Problem::TooDeep),
        ("if a; then ".repeat(5_000), Problem::Unclosed),
        ("`".repeat(1_001), Problem::Unclosed),
        ("echo 'abc".to_owned(), Problem::Unclosed),
        ("echo a\0b".to_owned(), Problem::Nul),
        ("a;".repeat(50_000), Problem::TooMany),
        ("echo ".to_owned() + &"a ".repeat(600_000), Problem::TooLong),
        ("echo ".to_owned() + &"{a,b}".repeat(5_000), Problem::TooMany),
        (format!("echo {}", deep("{a,", "b", "}", 2_000)), Problem::TooMany),
    ] {
        let script = analyse(&text, Limits::default());
        assert!(!script.problems.is_empty(), "{problem:?} expected: {:.40}", text);
    }
    // A hundred thousand of what is harmless is no problem.
    assert_eq!(analyse(&format!("echo {}", "a".repeat(100_000)), Limits::default()).problems, []);
    assert_eq!(analyse(&"echo a | ".repeat(500).replace("| \0", ""), Limits::default()).problems.len(), 0);
}

#[test]
fn a_denial_names_no_more_parts_than_there_are() {
    let judged = bash("rm -rf /; rm -rf /usr");
    assert!(rules(&judged).contains(&"rm_slash"));
}
