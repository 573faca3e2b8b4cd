//! Local sockets by path, also where the path is longer than a socket address holds.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// `sun_path` holds 108 bytes on Linux and 104 elsewhere, the final zero included.
const MAX_SUN_PATH: usize = 103;

/// The ending of socket names.
const ENDING: &str = "sock";

/// Listens at `dir/<name>.sock`, readable by the owner only.
pub(crate) fn bind(dir: &Path, name: &str) -> io::Result<(UnixListener, PathBuf)> {
    let path = path(dir, name);
    let short = Short::of(&path)?;
    let listener = UnixListener::bind(&short.path)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok((listener, path))
}

/// Where [`bind`] would listen.
pub(crate) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name).with_extension(ENDING)
}

/// Connects to a socket.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path).await
}

/// Sockets in a folder, the newest name first.
pub(super) fn all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == ENDING))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// A path that fits; the folder is held open where it is reached through its descriptor.
#[derive(Debug)]
pub(crate) struct Short {
    pub(crate) path: PathBuf,
    _dir: Option<std::fs::File>,
}

impl Short {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_SUN_PATH {
            return Ok(Self { path: path.to_owned(), _dir: None });
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a folder and a name"));
        };
        if !cfg!(target_os = "linux") {
            let message = format!("`{}` is too long for a socket: use a shorter state folder", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let dir = std::fs::File::open(dir)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{fd}")).join(name), _dir: Some(dir) })
    }
}
