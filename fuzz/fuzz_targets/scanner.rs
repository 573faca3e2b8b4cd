//! A text screened in pieces is what it is when screened whole; ranges are in the text; a known value is in no outcome.

#![no_main]

use std::sync::LazyLock;

use abca_core::text::{Screen, Screened};
use libfuzzer_sys::fuzz_target;

const KNOWN: &str = "pa55 word/+?";

static SCREEN: LazyLock<Screen> = LazyLock::new(|| Screen::default().with_known([KNOWN.to_owned().into()]));

fuzz_target!(|data: &[u8]| {
    let Some((step, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let whole = SCREEN.scrub(&text);
    assert!(!whole.text.contains(KNOWN));
    for finding in &whole.findings {
        assert!(text.get(finding.range.clone()).is_some_and(|found| !found.is_empty()));
    }
    let mut stream = SCREEN.stream();
    let mut out = Screened { text: String::new(), findings: Vec::new() };
    let mut rest: &str = &text;
    while !rest.is_empty() {
        let at = rest.ceil_char_boundary(usize::from(*step).max(1).min(rest.len()));
        let (piece, more) = rest.split_at(at);
        out.extend([stream.push(piece)]);
        rest = more;
    }
    out.extend([stream.finish()]);
    assert_eq!(out, whole);
});
