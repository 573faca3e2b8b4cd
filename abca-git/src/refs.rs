//! Names of branches and commits, checked before git sees them.

use abca_core::git::{GitError, GitErrorKind};
use abca_core::names;

/// Whether the text is a full commit id: 40 or 64 lower-case hex digits.
pub fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a branch name by the one rule for all of abca, [`names::check_branch`].
///
/// # Errors
/// `Invalid`, naming the rule that it breaks.
pub fn check_branch(op: &'static str, name: &str) -> Result<(), GitError> {
    names::check_branch(name).map_err(|e| GitError::new(GitErrorKind::Invalid, op, e.to_string()))
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
    fn what_is_no_branch_is_invalid_and_says_why() {
        assert!(check_branch("t", "bgagent/01J/fix-12").is_ok());
        let error = check_branch("push", "--upload-pack=x").unwrap_err();
        assert_eq!((error.kind(), error.op()), (GitErrorKind::Invalid, "push"));
        assert!(error.to_string().contains("`--upload-pack=x` is not a branch name: it begins with `-`"), "{error}");
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
