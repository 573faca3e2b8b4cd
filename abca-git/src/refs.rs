//! Names of branches and commits, checked before git sees them.

use abca_core::git::{GitError, GitErrorKind};

/// Whether the text is a full commit id: 40 or 64 lower-case hex digits.
pub fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a branch name by git's own rules (`git help check-ref-format`), and that it cannot be taken for an option.
/// At most 200 bytes, so that the ref's file and its lock fit a file system.
///
/// # Errors
/// `Invalid`, naming the rule that it breaks.
pub fn check_branch(op: &'static str, name: &str) -> Result<(), GitError> {
    let broken = |rule: &str| {
        let shown: String = name.chars().take(80).collect::<String>().escape_debug().collect();
        Err(GitError::new(GitErrorKind::Invalid, op, format!("`{shown}` is not a branch name: {rule}")))
    };
    if name.is_empty() || name == "@" || name == "HEAD" {
        return broken("it is empty or reserved");
    }
    if name.len() > 200 {
        return broken("it is longer than 200 bytes");
    }
    if name.starts_with('-') {
        return broken("it begins with `-`");
    }
    if name.starts_with("refs/") {
        return broken("write it without `refs/heads/`");
    }
    if name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) || name.contains("..") || name.contains("@{") {
        return broken("it holds a blank, a control character, `~^:?*[\\`, `..` or `@{`");
    }
    if name.split('/').any(|p| p.is_empty() || p.starts_with('.') || p.ends_with('.') || p.ends_with(".lock")) {
        return broken("a part between slashes is empty, begins or ends with a dot, or ends with `.lock`");
    }
    Ok(())
}

/// Checks a full commit id.
pub(crate) fn check_sha(op: &'static str, sha: &str) -> Result<(), GitError> {
    if is_sha(sha) {
        return Ok(());
    }
    let shown: String = sha.chars().take(80).collect::<String>().escape_debug().collect();
    Err(GitError::new(GitErrorKind::Invalid, op, format!("`{shown}` is not a full commit id")))
}

/// Checks a full ref name (`refs/…`).
pub(crate) fn check_ref(op: &'static str, name: &str) -> Result<(), GitError> {
    match name.strip_prefix("refs/") {
        Some(rest) if rest.contains('/') => check_branch(op, rest),
        _ => Err(GitError::new(GitErrorKind::Invalid, op, format!("`{}` is not a full ref name", name.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_follow_gits_rules() {
        for good in ["main", "bgagent/01J/fix-12", "a.b", "ünï/ço-dé", "feature/a@b"] {
            assert!(check_branch("t", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a/",
            "/a",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a~1",
            "a:b",
            "a\nb",
            "@",
            "a@{1}",
            "HEAD",
            "refs/heads/x",
            "a.",
            "x\0",
        ] {
            assert_eq!(check_branch("t", bad).unwrap_err().kind(), GitErrorKind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn full_ids_only() {
        assert!(is_sha("0123456789abcdef0123456789abcdef01234567"));
        for bad in [
            "",
            "HEAD",
            "0123456",
            "0123456789ABCDEF0123456789abcdef01234567",
            "-0123456789abcdef0123456789abcdef0123456",
        ] {
            assert!(!is_sha(bad), "{bad}");
        }
    }
}
