//! The secret of a state folder, and the session tokens that it signs.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use abca_core::{IdSource, SessionId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// 32 bytes that sign session tokens: `HMAC-SHA256("session:<id>")`, base64url. Never printed.
#[derive(Clone)]
pub struct LinkSecret([u8; 32]);

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(..)")
    }
}

/// The secret's file cannot be used.
#[derive(Debug)]
pub struct SecretFileError {
    path: PathBuf,
    what: &'static str,
    source: Option<io::Error>,
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the link secret `{}` {}", self.path.display(), self.what)
    }
}

impl std::error::Error for SecretFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl LinkSecret {
    /// A fresh one, for one process only.
    pub fn random(ids: &dyn IdSource) -> Self {
        let mut bytes = [0u8; 32];
        bytes[..16].copy_from_slice(&ids.random().to_le_bytes());
        bytes[16..].copy_from_slice(&ids.random().to_le_bytes());
        Self(bytes)
    }

    /// Reads the secret of a folder, or makes it: mode 0600, and one only, however many processes try at once.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is not 32 bytes.
    pub fn open(path: &Path, ids: &dyn IdSource) -> Result<Self, SecretFileError> {
        let fail = |what| move |source| SecretFileError { path: path.to_owned(), what, source: Some(source) };
        match fs::read(path) {
            Ok(bytes) => return Self::from_bytes(path, &bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail("cannot be read")(e)),
        }
        let fresh = Self::random(ids);
        let draft = path.with_extension(format!("{:032x}.tmp", ids.random()));
        let made = write_private(&draft, &fresh.0).and_then(|()| match fs::hard_link(&draft, path) {
            // Somebody else was first: theirs is the one.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let _ = fs::remove_file(&draft);
        made.map_err(fail("cannot be written"))?;
        Self::from_bytes(path, &fs::read(path).map_err(fail("cannot be read"))?)
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, SecretFileError> {
        let what = "is not 32 bytes long: remove it, and sessions that run now will be refused";
        bytes.try_into().map(Self).map_err(|_| SecretFileError { path: path.to_owned(), what, source: None })
    }

    /// A name for the folder that holds this secret, which says nothing about the secret.
    pub(crate) fn place(&self) -> String {
        let mac = self.mac_for(b"place:").finalize().into_bytes();
        mac.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The token of a session.
    pub fn token(&self, session: &SessionId) -> SecretString {
        SecretString::from(URL_SAFE_NO_PAD.encode(self.mac(session).finalize().into_bytes()))
    }

    /// Whether a token is this session's, in constant time.
    pub fn verify(&self, session: &SessionId, token: &SecretString) -> bool {
        URL_SAFE_NO_PAD.decode(token.expose_secret()).is_ok_and(|bytes| self.mac(session).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, session: &SessionId) -> Hmac<Sha256> {
        self.mac_for(b"session:").chain_update(session.as_str())
    }

    /// Signs for one purpose; its name keeps what is signed for one from passing for another.
    pub(crate) fn mac_for(&self, purpose: &[u8]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length").chain_update(purpose)
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::OsRandom;

    #[test]
    fn a_token_opens_one_session_under_one_secret() {
        let (a, b) = (SessionId::new("T-1").unwrap(), SessionId::new("T-2").unwrap());
        let (mine, other) = (LinkSecret::random(&OsRandom), LinkSecret::random(&OsRandom));
        let token = mine.token(&a);
        assert!(mine.verify(&a, &token));
        assert!(!mine.verify(&b, &token));
        assert!(!other.verify(&a, &token));
        for bad in ["", "=", "AAAA", "not base64 at all"] {
            assert!(!mine.verify(&a, &SecretString::from(bad)), "{bad}");
        }
        assert!(!format!("{mine:?}").contains(token.expose_secret()));
    }

    #[test]
    fn a_folder_has_one_secret_whoever_asks_first_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let all: Vec<LinkSecret> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|_| s.spawn(|| LinkSecret::open(&path, &OsRandom).unwrap())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(all.iter().all(|s| s.0 == all[0].0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no drafts are left");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&path, b"short").unwrap();
        assert!(LinkSecret::open(&path, &OsRandom).unwrap_err().to_string().contains("is not 32 bytes long"));
    }
}
