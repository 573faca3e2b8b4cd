//! Any text becomes commands and facts within bounds, alike each time.

#![no_main]

use abca_core::policy::facts::Facts;
use abca_core::policy::shell::{Limits, analyse};
use libfuzzer_sys::fuzz_target;

const BRANCH: &str = "bgagent/01/x";

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let limits = Limits::default();
    let script = analyse(&text, limits);
    assert!(script.commands.len() <= limits.commands);
    for (at, simple) in script.commands.iter().enumerate() {
        assert!(simple.upstream.iter().all(|from| *from < script.commands.len()), "{at}");
        assert!(!simple.folders.is_empty() || simple.folder_unknown);
        let facts = Facts::of(simple, BRANCH);
        assert_eq!(facts, Facts::of(simple, BRANCH));
        assert!(facts.hosts.iter().all(|host| !host.is_empty() && !host.chars().any(char::is_uppercase)));
        assert!(facts.paths.iter().all(|path| !path.path.is_empty()));
        assert!(simple.words.is_empty() || facts.unknown || !facts.program.is_empty() || simple.program() == Some(""));
        let _shown = simple.normal_form();
    }
    // A NUL ends a text for a shell: whatever stands around it is not known.
    if text.contains('\0') {
        assert!(!script.problems.is_empty());
    }
    assert_eq!(analyse(&text, limits), script);
});
