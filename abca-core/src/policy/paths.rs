//! Where the paths of a call lead: a seam, because only a look at the disk tells.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::PolicyError;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResolvedPath {
    /// Without `.`, `..` and, where the disk was asked, without symbolic links: relative to the work tree when it is in it
    /// (`.` for itself), else absolute.
    pub path: String,
    /// Whether the disk was asked: otherwise the path is what its letters say.
    pub looked: bool,
}

/// Says where paths lead, on the machine where the call would run.
///
/// # Contract
/// Answers as many as it is asked, in the same order. A path that does not exist leads where it would be made: the longest
/// part that exists is resolved, the rest is appended. Relative paths start at the work tree. Changes nothing.
#[async_trait]
pub trait PathResolver: fmt::Debug + Send + Sync {
    /// Resolves paths.
    ///
    /// # Errors
    /// When nobody can say: the call is then denied.
    async fn resolve(&self, paths: &[String]) -> Result<Vec<ResolvedPath>, PolicyError>;
}

/// Goes by the letters alone: symbolic links are not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexicalPaths {
    /// The work tree, absolute.
    pub root: String,
    /// What `~` stands for, absolute.
    pub home: String,
}

impl Default for LexicalPaths {
    /// A work tree at `/work/repo`, a home at `/root`.
    fn default() -> Self {
        Self { root: "/work/repo".to_owned(), home: "/root".to_owned() }
    }
}

#[async_trait]
impl PathResolver for LexicalPaths {
    async fn resolve(&self, paths: &[String]) -> Result<Vec<ResolvedPath>, PolicyError> {
        Ok(paths.iter().map(|p| ResolvedPath { path: lexical(&self.root, &self.home, p), looked: false }).collect())
    }
}

/// A path without `.`, `..` and doubled slashes: relative to `root` when it is inside (`.` for `root` itself), else
/// absolute. `~` and `~/…` stand for `home`. `..` above the root of the file system stays there.
pub fn lexical(root: &str, home: &str, path: &str) -> String {
    let absolute = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        Some(_) | None if path.starts_with('/') => path.to_owned(),
        Some(_) | None => format!("{root}/{path}"),
    };
    let parts = parts_of(&absolute);
    let root = parts_of(root);
    match parts.strip_prefix(root.as_slice()) {
        Some([]) => ".".to_owned(),
        Some(inside) => inside.join("/"),
        None => format!("/{}", parts.join("/")),
    }
}

fn parts_of(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_as_they_lie_to_the_work_tree() {
        for (path, want) in [
            ("a/b", "a/b"),
            ("./a//b/../c/", "a/c"),
            ("", "."),
            (".", "."),
            ("/w/r", "."),
            ("/w/r/a", "a"),
            ("/w/rest", "/w/rest"),
            ("..", "/w"),
            ("../r/.git", ".git"),
            ("../../../../etc/passwd", "/etc/passwd"),
            ("~", "/h"),
            ("~/.ssh/id", "/h/.ssh/id"),
            ("~other/x", "~other/x"),
            ("a/~/b", "a/~/b"),
            ("/", "/"),
        ] {
            assert_eq!(lexical("/w/r", "/h", path), want, "{path}");
        }
    }
}
