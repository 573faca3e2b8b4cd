//! Adding trailers to commits that the agent made.
//!
//! Works on the commits' bytes: authors, dates, parents, encodings and unknown headers stay as they are. A signature of a
//! changed commit is dropped, for it no longer holds.

use std::collections::BTreeMap;

use abca_core::git::{GitError, GitErrorKind};

use super::Bare;
use crate::refs::check_sha;

const MAX_COMMITS: usize = 10_000;

/// One trailer: `Token: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Letters, digits and `-`, e.g. `Task-Id`.
    pub token: String,
    /// One line.
    pub value: String,
}

impl Bare {
    /// Adds the trailers to every commit between `base` and `head` that has no `Task-Id:` line; answers the new head.
    /// Commits that any branch of the remote has (`refs/heads/`) stay as they are. Equal input gives equal commits, so a
    /// repeat is harmless, and a longer `head` extends what was pushed before.
    ///
    /// # Errors
    /// `Invalid` for a trailer that is none, or more than 10 000 commits; `NotFound` when a commit is not here.
    pub async fn add_trailers(&self, base: &str, head: &str, trailers: &[Trailer]) -> Result<String, GitError> {
        const OP: &str = "add_trailers";
        check_sha(OP, base)?;
        check_sha(OP, head)?;
        check(OP, trailers)?;
        let call = self.call(OP).read_only().args(["rev-list", "--topo-order", "--reverse", head, "--not", base]);
        let out = call.args(["--branches", "--"]).run().await?;
        let list = String::from_utf8_lossy(&out.stdout).into_owned();
        let shas: Vec<&str> = list.lines().collect();
        if shas.len() > MAX_COMMITS {
            let message = format!("there are {} new commits, more than {MAX_COMMITS}", shas.len());
            return Err(GitError::new(GitErrorKind::Invalid, OP, message));
        }
        let call = self.call(OP).read_only().args(["cat-file", "--batch"]).stdin(list.as_bytes());
        let commits = call.run().await?.stdout;
        let mut changed: BTreeMap<String, String> = BTreeMap::new();
        let mut rest = commits.as_slice();
        for sha in shas {
            let (raw, after) = object(rest, sha)
                .ok_or_else(|| GitError::new(GitErrorKind::Corrupt, OP, format!("commit {sha} cannot be read")))?;
            rest = after;
            let Some(new) = rewrite(raw, &changed, trailers) else { continue };
            let call = self.call(OP).args(["hash-object", "-t", "commit", "-w", "--stdin"]);
            changed.insert(sha.to_owned(), call.stdin(new).text().await?);
        }
        Ok(changed.remove(head).unwrap_or_else(|| head.to_owned()))
    }
}

fn check(op: &'static str, trailers: &[Trailer]) -> Result<(), GitError> {
    let token = |t: &str| !t.is_empty() && t.len() <= 64 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value = |v: &str| !v.is_empty() && v.len() <= 512 && !v.chars().any(char::is_control);
    match trailers.iter().find(|t| !token(&t.token) || !value(&t.value)) {
        None => Ok(()),
        Some(t) => {
            let message = format!("`{}` is not a trailer of a token and one line", t.token.escape_debug());
            Err(GitError::new(GitErrorKind::Invalid, op, message))
        }
    }
}

/// Takes `sha SP type SP size LF content LF` off the front.
fn object<'a>(bytes: &'a [u8], sha: &str) -> Option<(&'a [u8], &'a [u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let size: usize = head.strip_prefix(sha)?.strip_prefix(" commit ")?.parse().ok()?;
    let rest = &bytes[end + 1..];
    (rest.len() > size).then(|| (&rest[..size], &rest[size + 1..]))
}

/// The commit's new bytes; `None` when nothing changes.
fn rewrite(raw: &[u8], parents: &BTreeMap<String, String>, trailers: &[Trailer]) -> Option<Vec<u8>> {
    let split = raw.windows(2).position(|w| w == b"\n\n").map_or(raw.len(), |at| at + 1);
    let (headers, message) = (&raw[..split], raw.get(split + 1..).unwrap_or_default());
    let mut out = Vec::with_capacity(raw.len() + 128);
    let mut moved = false;
    let mut dropping = false;
    for line in headers.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b" ") {
            if !dropping {
                out.extend_from_slice(line);
            }
            continue;
        }
        dropping = line.starts_with(b"gpgsig ") || line.starts_with(b"gpgsig-sha256 ");
        let parent = line.strip_prefix(b"parent ").and_then(|p| std::str::from_utf8(p).ok());
        match parent.and_then(|p| parents.get(p.trim_end())) {
            Some(new) => {
                moved = true;
                out.extend_from_slice(format!("parent {new}\n").as_bytes());
            }
            None if !dropping => out.extend_from_slice(line),
            None => {}
        }
    }
    let tagged = message.split(|b| *b == b'\n').any(|l| l.starts_with(b"Task-Id:"));
    if tagged && !moved {
        return None;
    }
    out.push(b'\n');
    if tagged {
        out.extend_from_slice(message);
        return Some(out);
    }
    let body = message.trim_ascii_end();
    out.extend_from_slice(body);
    out.extend_from_slice(if ends_in_trailers(body) { b"\n" } else { b"\n\n" });
    for trailer in trailers {
        out.extend_from_slice(format!("{}: {}\n", trailer.token, trailer.value).as_bytes());
    }
    Some(out)
}

/// Whether the last paragraph, not being the first, holds trailers only.
fn ends_in_trailers(body: &[u8]) -> bool {
    let lines: Vec<&[u8]> = body.split(|b| *b == b'\n').collect();
    let Some(blank) = lines.iter().rposition(|l| l.trim_ascii().is_empty()) else { return false };
    let last = &lines[blank + 1..];
    let trailer = |line: &&[u8]| {
        let Some(colon) = line.windows(2).position(|w| w == b": ") else { return false };
        colon > 0 && line[..colon].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    !last.is_empty() && last.iter().all(trailer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers() -> Vec<Trailer> {
        vec![Trailer { token: "Task-Id".into(), value: "01J".into() }]
    }

    #[test]
    fn only_message_parents_and_signature_change() {
        let raw = b"tree t\nparent a\nauthor \xe9 <x> 1 +0100\nencoding ISO-8859-1\ngpgsig -----BEGIN\n abc\n -----END\nx-other y\n z\n\nfix: caf\xe9\n";
        let parents = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let new = rewrite(raw, &parents, &trailers()).unwrap();
        let want: &[u8] = b"tree t\nparent b\nauthor \xe9 <x> 1 +0100\nencoding ISO-8859-1\nx-other y\n z\n\nfix: caf\xe9\n\nTask-Id: 01J\n";
        assert_eq!(new, want);
        assert_eq!(rewrite(&new, &BTreeMap::new(), &trailers()), None);
    }

    #[test]
    fn trailers_join_the_ones_that_are_there() {
        let of = |message: &str| {
            let raw = format!("tree t\n\n{message}");
            let new = String::from_utf8(rewrite(raw.as_bytes(), &BTreeMap::new(), &trailers()).unwrap()).unwrap();
            new.strip_prefix("tree t\n\n").unwrap().to_owned()
        };
        assert_eq!(of("fix: x"), "fix: x\n\nTask-Id: 01J\n");
        assert_eq!(of("a\n\nb\n\nSigned-off-by: x\n\n\n"), "a\n\nb\n\nSigned-off-by: x\nTask-Id: 01J\n");
        assert_eq!(of("a\n\nnot: a trailer\nbut text\n"), "a\n\nnot: a trailer\nbut text\n\nTask-Id: 01J\n");
        assert_eq!(of(""), "\n\nTask-Id: 01J\n");
    }

    #[test]
    fn a_trailer_is_one_line() {
        let bad = [Trailer { token: "Task-Id".into(), value: "x\nEvil: y".into() }];
        assert_eq!(check("t", &bad).unwrap_err().kind(), GitErrorKind::Invalid);
    }
}
