//! The state folder: where a laptop's abca keeps everything.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};

/// The layout that this program reads and writes.
const FORMAT: u32 = 1;
/// The file that names the layout. Its presence is what makes a folder a state folder.
const FORMAT_FILE: &str = "abca-state";

/// A state folder that was checked, and made if it was not there.
///
/// | within it | what |
/// | --- | --- |
/// | `abca-state` | the layout's number |
/// | `abca.db` | the store |
/// | `workers/` | a locked file for each worker that lives |
/// | `link/` | sockets of the workers of this machine, and the secret that signs session tokens |
/// | everything else | the compute strategy's, named by it |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Opens a state folder; makes it, readable by its owner only, where nothing or an empty folder is. Several
    /// processes may do so at once.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it is not a folder, cannot be read or written, holds something else than abca's
    /// state, or was written by a newer abca.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let shown = path.display();
        make_private(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                bad(format!("`{shown}` is not a folder: give the path of a folder, or of nothing yet"), e)
            }
            _ => {
                bad(format!("`{shown}` cannot be made: check the rights of the folder above it, or choose another"), e)
            }
        })?;
        let path = fs::canonicalize(path).map_err(|e| bad(format!("`{shown}` cannot be reached"), e))?;
        let file = path.join(FORMAT_FILE);
        match fs::read_to_string(&file) {
            Ok(text) => check_format(&path, &text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(&path)?;
                write_format(&path).map_err(|e| {
                    bad(
                        format!("`{shown}` cannot be written: check its rights and the free space, or choose another"),
                        e,
                    )
                })?;
            }
            Err(e) => return Err(bad(format!("`{}` cannot be read: check its rights", file.display()), e)),
        }
        let state = Self(path);
        make_private(&state.link_dir())
            .map_err(|e| bad(format!("`{}` cannot be made: check its rights", state.link_dir().display()), e))?;
        Ok(state)
    }

    /// The folder, as an absolute path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of the sessions' workspaces, one per task.
    pub fn work_dir(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The folder of the session processes, one folder each.
    pub fn sessions_dir(&self) -> PathBuf {
        self.0.join("sessions")
    }

    /// Where each worker of this machine keeps a locked file while it lives.
    pub fn roster_dir(&self) -> PathBuf {
        self.0.join("workers")
    }

    /// The folder of the workers' sockets.
    pub fn link_dir(&self) -> PathBuf {
        self.0.join("link")
    }

    /// The secret that signs session tokens.
    pub fn link_secret(&self) -> PathBuf {
        self.0.join("link").join("secret")
    }
}

fn bad(message: String, source: io::Error) -> Error {
    Error::new(ErrorKind::State, format!("{message}: {source}")).with_source(source)
}

/// Makes a folder of mode 0700, with those above it; a folder that is there stays as it is.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn check_format(path: &Path, text: &str) -> Result<(), Error> {
    let shown = path.display();
    match text.trim().parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(()),
        Ok(format) => Err(Error::new(
            ErrorKind::State,
            format!(
                "`{shown}` has layout {format}, but this abca knows {FORMAT} at most: use a newer abca, or another folder"
            ),
        )),
        Err(_) => Err(Error::new(
            ErrorKind::State,
            format!(
                "`{shown}/{FORMAT_FILE}` does not name a layout: the folder is damaged, or not abca's; use another"
            ),
        )),
    }
}

/// A folder with something else in it is somebody's: a mistyped path must not fill it.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    let entries = fs::read_dir(path).map_err(|e| bad(format!("`{shown}` cannot be read: check its rights"), e))?;
    for entry in entries {
        let entry = entry.map_err(|e| bad(format!("`{shown}` cannot be read"), e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Another process may be making the same folder at this moment.
        if !name.starts_with(FORMAT_FILE) && !path.join(FORMAT_FILE).exists() {
            return Err(Error::new(
                ErrorKind::State,
                format!(
                    "`{shown}` holds `{name}` and is not an abca state folder: give an empty folder, or a new path"
                ),
            ));
        }
    }
    Ok(())
}

fn write_format(path: &Path) -> io::Result<()> {
    // A name of its own for every draft: several threads of one process may make the same folder.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.join(format!("{FORMAT_FILE}.{}-{number}.tmp", std::process::id()));
    let mut file = fs::File::create(&draft)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(draft, path.join(FORMAT_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_kept_private_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::open(&path).unwrap(), first);
        assert!(first.path().is_absolute());
        #[cfg(unix)]
        for made in [first.path().to_owned(), first.link_dir()] {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(made).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn many_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(|| StateDir::open(&path).map(|d| d.path().to_owned()))).collect();
            let paths: Vec<_> = all.into_iter().map(|t| t.join().unwrap().unwrap()).collect();
            assert!(paths.iter().all(|p| *p == paths[0]));
        });
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let refused = |path: &Path| {
            let error = StateDir::open(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            error.message().to_owned()
        };
        assert!(refused(&file).contains("is not a folder"), "{}", refused(&file));
        assert!(refused(&file.join("below")).contains("is not a folder"));
        assert!(refused(dir.path()).contains("holds `file` and is not an abca state folder"));

        let newer = dir.path().join("newer");
        StateDir::open(&newer).unwrap();
        fs::write(newer.join(FORMAT_FILE), "2\n").unwrap();
        assert!(refused(&newer).contains("has layout 2, but this abca knows 1 at most"));
        fs::write(newer.join(FORMAT_FILE), "what\n").unwrap();
        assert!(refused(&newer).contains("does not name a layout"));
    }
}
