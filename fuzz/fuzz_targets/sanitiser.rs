//! A text cleaned twice is what it is when cleaned once; changes are in the text; nothing invisible is left.

#![no_main]

use abca_core::text::{sanitize, sanitized};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let done = sanitized(&text);
    assert_eq!(sanitize(&done.text), done.text);
    for change in &done.changes {
        assert!(text.get(change.range.clone()).is_some(), "{change:?}");
    }
    assert!(!done.text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')));
    assert!(!done.text.contains(['\u{200b}', '\u{202e}', '\u{e0041}', '\u{feff}']));
});
