//! Where tools may go: the work tree and the temporary folder.
//!
//! The wall is the sandbox. These checks give the model a clear answer, and keep a careless call from going astray.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::text;

/// Most links in one path, as the kernel has it.
const MOST_LINKS: usize = 40;

/// The parts of a path, the first one last; `.` and the root left out.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let part = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// The two folders, without symbolic links.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: PathBuf,
    tmp: PathBuf,
}

impl Place {
    /// # Errors
    /// When one of them is not a directory.
    pub fn new(root: &Path, tmp: &Path) -> Result<Self, String> {
        let real = |what: &str, p: &Path| match p.canonicalize() {
            Ok(real) if real.is_dir() => Ok(real),
            Ok(_) => Err(format!("the {what} `{}` is not a directory", p.display())),
            Err(e) => Err(format!("the {what} `{}` is not there: {e}", p.display())),
        };
        Ok(Self { root: real("work tree", root)?, tmp: real("temporary folder", tmp)? })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path as the model sees it: relative inside the work tree, else absolute.
    pub fn show(&self, p: &Path) -> String {
        match p.strip_prefix(&self.root) {
            Ok(rest) if rest.as_os_str().is_empty() => ".".into(),
            Ok(rest) => text::path(rest),
            Err(_) => text::path(p),
        }
    }

    /// Something that exists, links followed, inside.
    pub fn existing(&self, path: &str) -> Result<PathBuf, String> {
        let asked = self.absolute(path)?;
        let real = asked.canonicalize().map_err(|e| self.not_there(path, &asked, &e))?;
        self.inside(path, real)
    }

    /// Something that exists, its last link not followed, inside.
    pub fn existing_link(&self, path: &str) -> Result<PathBuf, String> {
        let asked = self.absolute(path)?;
        match (asked.parent(), asked.file_name()) {
            (Some(parent), Some(name)) => {
                let real = parent.canonicalize().map_err(|e| self.not_there(path, &asked, &e))?.join(name);
                real.symlink_metadata().map_err(|e| self.not_there(path, &asked, &e))?;
                self.inside(path, real)
            }
            _ => self.existing(path),
        }
    }

    /// A place to write to, which need not exist; not in `.git`.
    pub fn writable(&self, path: &str) -> Result<PathBuf, String> {
        if path.ends_with('/') {
            return Err(format!("{} names a directory, not a file", text::quoted(path, 300)));
        }
        let asked = self.absolute(path)?;
        // The part that exists is made real; what is to be made below must not climb.
        let mut base = asked.as_path();
        let mut below = Vec::new();
        let real = loop {
            match base.canonicalize() {
                Ok(real) => break real,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if base.symlink_metadata().is_ok() {
                        return Err(format!("{} is a symbolic link to nothing", text::quoted(path, 300)));
                    }
                    match (base.parent(), base.components().next_back()) {
                        (Some(parent), Some(Component::Normal(name))) => {
                            below.push(name);
                            base = parent;
                        }
                        _ => return Err(format!("{} is not a usable path", text::quoted(path, 300))),
                    }
                }
                Err(e) => return Err(format!("{} cannot be reached: {e}", text::quoted(path, 300))),
            }
        };
        let mut real = real;
        real.extend(below.iter().rev());
        let real = self.inside(path, real)?;
        let git = |name: &OsStr| name.eq_ignore_ascii_case(".git");
        let inner = real.strip_prefix(&self.root).unwrap_or(&real);
        if inner.components().any(|c| git(c.as_os_str())) || Path::new(path).components().any(|c| git(c.as_os_str())) {
            return Err(format!(
                "{} belongs to git's own files, which `Write` and `Edit` do not touch; use git commands",
                text::quoted(path, 300)
            ));
        }
        Ok(real)
    }

    /// Opens a regular file and nothing else; never waits.
    pub fn open_regular(&self, real: &Path) -> Result<(File, std::fs::Metadata), String> {
        let shown = self.show(real);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(real)
            .map_err(|e| format!("`{shown}` cannot be opened: {e}"))?;
        let meta = file.metadata().map_err(|e| format!("`{shown}` cannot be examined: {e}"))?;
        if meta.is_dir() {
            return Err(format!("`{shown}` is a directory; use `Glob` or `ls` to see what is in it"));
        }
        if !meta.is_file() {
            return Err(format!("`{shown}` is no regular file but a FIFO, socket or device; it is not read"));
        }
        Ok((file, meta))
    }

    /// Where a path leads: links followed as far as there is something, the rest as it is written. Relative to the work tree
    /// when it is inside (`.` for itself), under `/tmp` when it is in the temporary folder, else absolute. Reads links and
    /// nothing else.
    pub fn leads_to(&self, path: &str, home: &Path) -> String {
        let asked = match path.strip_prefix('~') {
            Some("") => home.to_owned(),
            Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            Some(_) | None => self.root.join(path),
        };
        let mut real = PathBuf::from("/");
        let mut left: Vec<std::ffi::OsString> = parts(&asked);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                real.pop();
                continue;
            }
            real.push(&part);
            // A link to nothing counts too: writing to it makes its target.
            if links < MOST_LINKS
                && let Ok(target) = std::fs::read_link(&real)
            {
                links += 1;
                real.pop();
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
        }
        match (real.strip_prefix(&self.root), real.strip_prefix(&self.tmp)) {
            (Ok(inside), _) if inside.as_os_str().is_empty() => ".".to_owned(),
            (Ok(inside), _) => inside.to_string_lossy().into_owned(),
            // Without walls the temporary folder lies elsewhere: policies know it by this name.
            (Err(_), Ok(inside)) => Path::new("/tmp").join(inside).to_string_lossy().into_owned(),
            (Err(_), Err(_)) => real.to_string_lossy().into_owned(),
        }
    }

    fn absolute(&self, path: &str) -> Result<PathBuf, String> {
        if path.is_empty() || path.contains('\0') {
            return Err("the path is empty or holds a NUL character".into());
        }
        // `join` takes an absolute path as it is.
        Ok(self.root.join(path))
    }

    fn inside(&self, asked: &str, real: PathBuf) -> Result<PathBuf, String> {
        if real.starts_with(&self.root) || real.starts_with(&self.tmp) {
            return Ok(real);
        }
        let asked = text::quoted(asked, 300);
        Err(format!(
            "{asked} is outside the work tree `{}` and the temporary folder `{}` (it leads to `{}`); use a path inside",
            text::path(&self.root),
            text::path(&self.tmp),
            text::path(&real)
        ))
    }

    fn not_there(&self, path: &str, asked: &Path, e: &io::Error) -> String {
        let quoted = text::quoted(path, 300);
        if e.kind() != io::ErrorKind::NotFound {
            return format!("{quoted} cannot be reached: {e}");
        }
        let near = self.near(asked).map_or_else(String::new, |p| format!("; did you mean `{p}`?"));
        format!("{quoted} does not exist (relative paths start at the work tree `{}`){near}", text::path(&self.root))
    }

    /// A file of the same stem or the same letters beside the one that is missing.
    fn near(&self, asked: &Path) -> Option<String> {
        let dir = asked.parent()?.canonicalize().ok()?;
        let dir = self.inside("", dir).ok()?;
        let (name, stem) = (asked.file_name()?, asked.file_stem()?);
        let found = std::fs::read_dir(dir).ok()?.take(1_000).flatten().map(|e| e.path()).filter(|p| {
            p.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name)) || p.file_stem().is_some_and(|s| s == stem)
        });
        found.min().map(|p| self.show(&p))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_leads_where_its_links_do() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let root = top.join("work");
        std::fs::create_dir_all(root.join(".github/workflows")).unwrap();
        std::fs::create_dir_all(top.join("home")).unwrap();
        symlink(".github/workflows", root.join("w")).unwrap();
        symlink("../.git/config", root.join(".github/not-there-yet")).unwrap();
        symlink("/etc", root.join("e")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        std::fs::create_dir(top.join("tmp")).unwrap();
        let place = Place::new(&root, &top.join("tmp")).unwrap();
        assert_eq!(place.leads_to("../tmp/x", &top), "/tmp/x");
        for (path, want) in [
            ("w/ci.yml", ".github/workflows/ci.yml"),
            ("w/../../a", "a"),
            (".github/not-there-yet", ".git/config"),
            ("new/deep/file", "new/deep/file"),
            ("./new//../x", "x"),
            (".", "."),
            ("e/passwd", "/etc/passwd"),
            ("/etc/../usr", "/usr"),
            ("loop", "loop"),
        ] {
            assert_eq!(place.leads_to(path, &top.join("home")), want, "{path}");
        }
        assert_eq!(place.leads_to("~/.ssh/id", &top.join("home")), top.join("home/.ssh/id").to_str().unwrap());
        assert_eq!(place.leads_to("..", &top.join("home")), top.to_str().unwrap());
    }
}
