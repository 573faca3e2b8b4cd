//! A credential for one remote, handed to git by an inherited pipe.
//!
//! The pipe is read by a helper that git starts (`cat /dev/fd/N`; dash knows no `<&N` above 9), so the token is in no address, no argument, no environment and
//! no file. The helper is bound to scheme, host and port of the remote: a redirect elsewhere gets nothing.

use abca_core::git::{Credential, GitError, GitErrorKind};
use secrecy::ExposeSecret;

/// The address's scope (`https://host:port`) and the record in the form that git reads.
pub(super) fn record(op: &'static str, url: &str, credential: &Credential) -> Result<(String, String), GitError> {
    let invalid = |what: &str| GitError::new(GitErrorKind::Invalid, op, what.to_owned());
    let password = credential.password.expose_secret();
    let bad = |s: &str| s.is_empty() || s.len() > 8192 || s.contains(['\n', '\r', '\0']);
    if bad(&credential.username) || bad(password) {
        return Err(invalid("the credential is empty, longer than 8192 bytes, or has a line break"));
    }
    let scope = scope(url).ok_or_else(|| invalid("a credential goes with an `https` address only"))?;
    Ok((scope, format!("username={}\npassword={password}\n", credential.username)))
}

/// The option that makes git ask our helper.
pub(super) fn helper(scope: &str, fd: i32) -> String {
    format!("credential.{scope}.helper=!f() {{ test \"$1\" = get && cat /dev/fd/{fd}; }}; f")
}

fn scope(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let fine = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    fine.then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_bound_to_its_host() {
        let credential = Credential { username: "x".into(), password: "p".to_owned().into() };
        let (scope, text) = record("t", "https://h.example:8443/o/r.git?x", &credential).unwrap();
        assert_eq!((scope.as_str(), text.as_str()), ("https://h.example:8443", "username=x\npassword=p\n"));
        for url in ["/srv/repo", "https:///x", "https://a@b/x", "https://h';x/y"] {
            assert!(record("t", url, &credential).is_err(), "{url}");
        }
        let split = Credential { username: "x".into(), password: "p\nhost=evil".to_owned().into() };
        assert!(record("t", "https://h/x", &split).is_err());
    }
}
