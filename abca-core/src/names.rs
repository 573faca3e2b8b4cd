//! Names that abca gives to things in a repository: branches, the hidden ref, the committer.

use crate::id::TaskId;

/// The name that the agent's commits carry.
pub const GIT_NAME: &str = "bgagent";
/// The address that the agent's commits carry.
pub const GIT_EMAIL: &str = "bgagent@noreply.github.com";
/// First part of every branch that abca makes.
pub const BRANCH_PREFIX: &str = "bgagent/";

/// Longest slug, in characters (`behaviour.md` 2.10).
const SLUG_CHARS: usize = 50;
/// The slug of what has no letters or digits.
const NO_SLUG: &str = "task";
/// Longest branch name in bytes, so that the ref's file and its lock fit a file system.
const BRANCH_BYTES: usize = 200;

/// The branch of a task: `bgagent/<task>/<slug>`.
pub fn branch(task: TaskId, slug: &str) -> String {
    format!("{BRANCH_PREFIX}{task}/{slug}")
}

/// The hidden ref that unfinished work is saved at: `refs/abca/wip/<task>`.
pub fn wip_ref(task: TaskId) -> String {
    format!("refs/abca/wip/{task}")
}

/// The readable end of a branch name: of the description, else of the repository; of a local repository only the
/// folder's name.
///
/// Lower-case; every run of other characters than `a-z` and `0-9` is one `-`, none at the ends; at most 50 characters;
/// `task` when nothing is left. Always fit for [`branch`].
pub fn slug(description: Option<&str>, repo: &str) -> String {
    let source = description.unwrap_or_else(|| match repo.strip_prefix('/') {
        Some(path) => path.trim_end_matches('/').rsplit('/').next().unwrap_or(path),
        None => repo,
    });
    let mut out = String::new();
    for c in source.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() >= SLUG_CHARS {
            break;
        }
    }
    match out.trim_end_matches('-') {
        "" => NO_SLUG.to_owned(),
        slug => slug.to_owned(),
    }
}

/// Text that cannot be the name of a branch, and which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a branch name: {rule}")]
pub struct InvalidBranch {
    shown: String,
    rule: &'static str,
}

/// Checks that git takes the text as the name of a branch, by the rules of `git check-ref-format --branch`, and that it
/// can be taken neither for an option nor for a full ref. At most 200 bytes.
///
/// # Errors
/// [`InvalidBranch`], naming the rule that it breaks.
pub fn check_branch(name: &str) -> Result<(), InvalidBranch> {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let part = |p: &str| p.is_empty() || p.starts_with('.') || p.ends_with('.') || p.ends_with(".lock");
    let rule = if matches!(name, "" | "@" | "HEAD") {
        "it is empty or reserved"
    } else if name.len() > BRANCH_BYTES {
        "it is longer than 200 bytes"
    } else if name.starts_with('-') {
        "it begins with `-`"
    } else if name.starts_with("refs/") {
        "write it without `refs/heads/`"
    } else if name.chars().any(odd) || name.contains("..") || name.contains("@{") {
        "it holds a blank, a control character, `~^:?*[\\`, `..` or `@{`"
    } else if name.split('/').any(part) {
        "a part between slashes is empty, begins or ends with a dot, or ends with `.lock`"
    } else {
        return Ok(());
    };
    let shown = name.chars().take(80).collect::<String>().escape_debug().collect();
    Err(InvalidBranch { shown, rule })
}

/// Whether [`check_branch`] finds nothing wrong.
pub fn valid_branch(name: &str) -> bool {
    check_branch(name).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn slugs_follow_the_reference_but_never_end_in_a_dash() {
        assert_eq!(slug(Some("Fix the bug_in  `parse()`!"), "o/r"), "fix-the-bug-in-parse");
        assert_eq!(slug(None, "Owner/My.Repo"), "owner-my-repo");
        assert_eq!(slug(None, "/home/me/src/widget/"), "widget");
        assert_eq!(slug(Some("日本語"), "o/r"), "task");
        assert_eq!(slug(Some(""), "o/r"), "task");
        let long = format!("{} tail", "x".repeat(49));
        assert_eq!(slug(Some(&long), "o/r"), "x".repeat(49));
        assert_eq!(slug(Some(&"a".repeat(1_000)), "o/r").len(), SLUG_CHARS);
    }

    #[test]
    fn a_task_has_one_branch_and_one_hidden_ref() {
        let task = TaskId::from_parts(Timestamp::from_millis(0), 7);
        assert_eq!(branch(task, "fix-12"), "bgagent/00000000000000000000000007/fix-12");
        assert_eq!(wip_ref(task), "refs/abca/wip/00000000000000000000000007");
    }

    #[test]
    fn branch_names_follow_gits_rules() {
        for good in ["main", "bgagent/01J/fix-12", "a.b", "ünï/ço-dé", "feature/a@b", "@a", "lock", "HEAD/x"] {
            assert!(valid_branch(good), "{good}");
        }
        let bad = [
            "",
            "@",
            "HEAD",
            "-x",
            "a b",
            "a..b",
            "a/",
            "/a",
            "a//b",
            ".a",
            "a/.b",
            "a.",
            "a./b",
            "a.lock",
            "a.lock/b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a@{b",
            "a\u{7f}",
            "a\n",
            "refs/heads/a",
        ];
        for name in bad {
            assert!(!valid_branch(name), "{name:?}");
        }
        assert!(!valid_branch(&"a".repeat(BRANCH_BYTES.saturating_add(1))));
        let said = check_branch("a\u{1b}[2J").unwrap_err().to_string();
        let rule = "it holds a blank, a control character, `~^:?*[\\`, `..` or `@{`";
        assert_eq!(said, format!("`a\\u{{1b}}[2J` is not a branch name: {rule}"));
    }

    proptest! {
        #[test]
        fn every_slug_makes_a_valid_branch(text in "(?s).{0,120}", repo in "[a-zA-Z0-9./_-]{0,40}") {
            let task = TaskId::from_parts(Timestamp::from_millis(0), 7);
            for s in [slug(Some(&text), &repo), slug(None, &repo)] {
                prop_assert!(valid_branch(&branch(task, &s)), "{s}");
                prop_assert!(s.len() <= SLUG_CHARS && !s.starts_with('-') && !s.ends_with('-') && !s.contains("--"));
            }
        }
    }
}
