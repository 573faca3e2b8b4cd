//! What git's words on stderr mean, and cleaning them before anybody reads them.

use abca_core::git::{GitError, GitErrorKind};

use super::Output;

const TAIL: usize = 1500;

/// Phrases of git, curl and the system, most telling first. Git runs in the C locale, so they are English.
const PHRASES: &[(&str, GitErrorKind)] = &[
    ("no space left on device", GitErrorKind::Full),
    ("disk quota exceeded", GitErrorKind::Full),
    ("returned error: 429", GitErrorKind::Throttled),
    ("rate limit", GitErrorKind::Throttled),
    ("authentication failed", GitErrorKind::Access),
    ("could not read username", GitErrorKind::Access),
    ("could not read password", GitErrorKind::Access),
    ("terminal prompts disabled", GitErrorKind::Access),
    ("returned error: 401", GitErrorKind::Access),
    ("returned error: 403", GitErrorKind::Access),
    ("hook declined", GitErrorKind::Access),
    ("protected branch", GitErrorKind::Access),
    ("permission denied", GitErrorKind::Access),
    ("insufficient permission", GitErrorKind::Access),
    ("read-only file system", GitErrorKind::Access),
    ("transport '", GitErrorKind::Unsupported),
    ("could not resolve", GitErrorKind::Unavailable),
    ("failed to connect", GitErrorKind::Unavailable),
    ("couldn't connect", GitErrorKind::Unavailable),
    ("connection refused", GitErrorKind::Unavailable),
    ("connection reset", GitErrorKind::Unavailable),
    ("connection timed out", GitErrorKind::Unavailable),
    ("operation timed out", GitErrorKind::Unavailable),
    ("returned error: 5", GitErrorKind::Unavailable),
    ("ssl_", GitErrorKind::Unavailable),
    ("cannot lock ref", GitErrorKind::Conflict),
    ("stale info", GitErrorKind::Conflict),
    ("non-fast-forward", GitErrorKind::Conflict),
    ("fetch first", GitErrorKind::Conflict),
    ("branch is currently checked out", GitErrorKind::Conflict),
    ("returned error: 404", GitErrorKind::NotFound),
    ("repository not found", GitErrorKind::NotFound),
    ("/' not found", GitErrorKind::NotFound),
    ("not a git repository", GitErrorKind::NotFound),
    ("does not appear to be a git repository", GitErrorKind::NotFound),
    ("couldn't find remote ref", GitErrorKind::NotFound),
    ("needed a single revision", GitErrorKind::NotFound),
    ("unknown revision", GitErrorKind::NotFound),
    ("bad revision", GitErrorKind::NotFound),
    ("fsck error", GitErrorKind::Corrupt),
    ("corrupt", GitErrorKind::Corrupt),
    ("bad object", GitErrorKind::Corrupt),
    ("unable to read tree", GitErrorKind::Corrupt),
    ("object file", GitErrorKind::Corrupt),
    ("bad config", GitErrorKind::Corrupt),
    ("invalid index-pack output", GitErrorKind::Corrupt),
    ("error in object", GitErrorKind::Corrupt),
    ("missing necessary objects", GitErrorKind::Corrupt),
    ("did not send all necessary objects", GitErrorKind::Corrupt),
    ("early eof", GitErrorKind::Unavailable),
    ("unexpected disconnect", GitErrorKind::Unavailable),
    ("hung up unexpectedly", GitErrorKind::Unavailable),
    ("rpc failed", GitErrorKind::Unavailable),
    ("does not exist", GitErrorKind::NotFound),
];

/// Makes an error of a call that failed. What no phrase matches is `Unavailable` when a signal ended git, else `Invalid`.
pub(crate) fn classify(op: &'static str, name: &str, out: &Output) -> GitError {
    let text = out.stderr.to_lowercase();
    let kind = PHRASES.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, kind)| *kind);
    let kind = kind.unwrap_or(if out.status > 128 { GitErrorKind::Unavailable } else { GitErrorKind::Invalid });
    let said = if out.stderr.is_empty() { "it said nothing" } else { out.stderr.as_str() };
    GitError::new(kind, op, format!("git {name} ended with status {}: {said}", out.status))
}

/// One line of at most 1 500 bytes, the end of it, without secrets, user information in addresses and control characters.
pub(super) fn scrub(stderr: &[u8], secrets: &[String]) -> String {
    let mut text = String::from_utf8_lossy(stderr).into_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty() && !is_progress(l));
    let mut line = lines.map(without_userinfo).collect::<Vec<_>>().join("; ");
    line.retain(|c| !c.is_control());
    if line.len() > TAIL {
        let from = (line.len() - TAIL..line.len()).find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line = format!("…{}", &line[from..]);
    }
    line
}

fn is_progress(line: &str) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    line.starts_with("hint:") || (line.contains("objects: ") && line.contains('%'))
}

fn without_userinfo(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => &after[user + 1..],
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_clean_and_classified() {
        let all = [
            ("fatal: Authentication failed for 'https://u:hunter2@h/x'", GitErrorKind::Access),
            ("error: file write error: No space left on device\nfatal: index-pack failed", GitErrorKind::Full),
            ("fatal: unable to access 'https://h/': Could not resolve host: h", GitErrorKind::Unavailable),
            ("fatal: couldn't find remote ref refs/heads/x", GitErrorKind::NotFound),
            ("fatal: something new", GitErrorKind::Invalid),
        ];
        for (stderr, kind) in all {
            let out = Output { status: 128, stdout: Vec::new(), stderr: scrub(stderr.as_bytes(), &[]) };
            let error = classify("t", "fetch", &out);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_and_control_characters_do_not_survive() {
        let clean = scrub(b"\x1b[31mremote: token s3cret refused\r\n  at https://a@b/\n", &["s3cret".into()]);
        assert_eq!(clean, "[31mremote: token *** refused; at https://b/");
        assert!(scrub("é".repeat(5000).as_bytes(), &[]).len() < TAIL + 8);
    }
}
