//! Where language toolchains lie in a home folder, and the environment in which the hands find them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use abca_core::compute::NetworkMode;

/// What of a home folder the hands may see, and what their environment says about it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Toolchains {
    /// Seen read-only, at the same path.
    pub paths: Vec<PathBuf>,
    /// Before the system's folders in `PATH`.
    pub path_entries: Vec<PathBuf>,
    /// Further variables, e.g. `RUSTUP_HOME`.
    pub variables: BTreeMap<String, String>,
    cargo_home: Option<PathBuf>,
}

/// What is seen, its folder for `PATH` (if any), and variables that name a folder.
type Known = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Folders of a home that hold toolchains and nothing private.
const KNOWN: &[Known] = &[
    (".cargo/bin", ".cargo/bin", &[]),
    (".rustup", "", &[("RUSTUP_HOME", ".rustup")]),
    (".cargo/registry", "", &[]),
    (".cargo/git", "", &[]),
    (".pyenv", ".pyenv/shims", &[("PYENV_ROOT", ".pyenv")]),
    (".pyenv/bin", ".pyenv/bin", &[]),
    (".nvm", "", &[("NVM_DIR", ".nvm")]),
    (".volta", ".volta/bin", &[("VOLTA_HOME", ".volta")]),
    (".bun/bin", ".bun/bin", &[]),
    (".deno/bin", ".deno/bin", &[]),
    (".rbenv", ".rbenv/shims", &[("RBENV_ROOT", ".rbenv")]),
    (".sdkman/candidates", "", &[]),
    (".local/share/mise/installs", "", &[]),
    (".local/share/mise/shims", ".local/share/mise/shims", &[]),
    (".local/share/uv/python", "", &[("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python")]),
    (".local/bin", ".local/bin", &[]),
    ("go/bin", "go/bin", &[]),
    ("go/pkg/mod", "", &[]),
    (".goenv", ".goenv/shims", &[("GOENV_ROOT", ".goenv")]),
    (".ghcup/bin", ".ghcup/bin", &[]),
    (".juliaup/bin", ".juliaup/bin", &[]),
];

/// The toolchains of a home folder: rustup and cargo (without credentials and configuration), pyenv, nvm, volta, bun,
/// deno, rbenv, sdkman, mise, uv, go, goenv, ghcup, juliaup and `~/.local/bin`, as far as they are there.
pub fn default_toolchains(home: &Path) -> Toolchains {
    let mut found = Toolchains::default();
    for (path, entry, variables) in KNOWN {
        if !home.join(path).is_dir() {
            continue;
        }
        found.paths.push(home.join(path));
        if !entry.is_empty() {
            found.path_entries.push(home.join(entry));
        }
        let absolute = |of: &str| home.join(of).display().to_string();
        found.variables.extend(variables.iter().map(|(name, of)| ((*name).to_owned(), absolute(of))));
    }
    // The newest of nvm's versions: its own choice is made by a shell function.
    let mut nodes: Vec<PathBuf> = folders(&home.join(".nvm/versions/node"));
    nodes.sort_by_key(|path| version(path.file_name().unwrap_or_default()));
    found.path_entries.extend(nodes.pop().map(|node| node.join("bin")));
    found.path_entries.extend(folders(&home.join(".sdkman/candidates")).iter().map(|tool| tool.join("current/bin")));
    found.cargo_home = Some(home.join(".cargo")).filter(|cargo| cargo.join("registry").is_dir());
    found
}

impl Toolchains {
    /// The complete environment of the hands: `PATH`, a private `HOME` and `CARGO_HOME` below the temporary folder, a
    /// UTF-8 locale, the toolchains' variables; package managers told to stay offline when the network is off, and HTTP clients where the
    /// egress proxy is when there is one.
    ///
    /// `tmp` is the temporary folder as the inside sees it: `/tmp`, or the real one without walls.
    pub fn environment(&self, tmp: &Path, network: NetworkMode) -> BTreeMap<String, String> {
        let mut env = self.variables.clone();
        let mut put = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
        let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        let path = std::env::join_paths(self.path_entries.iter().chain(&system)).unwrap_or_default();
        put("PATH", path.to_string_lossy().into_owned());
        put("HOME", tmp.join("home").display().to_string());
        put("TMPDIR", tmp.display().to_string());
        put("CARGO_HOME", tmp.join("home/.cargo").display().to_string());
        put("LANG", "C.UTF-8".to_owned());
        put("TERM", "dumb".to_owned());
        put("USER", "agent".to_owned());
        put("SHELL", "/bin/sh".to_owned());
        match network {
            NetworkMode::Off => {
                put("CARGO_NET_OFFLINE", "true".to_owned());
                put("PIP_NO_INDEX", "1".to_owned());
                put("npm_config_offline", "true".to_owned());
                put("GOPROXY", "off".to_owned());
            }
            NetworkMode::Proxy => {
                abca_core::egress::environment().into_iter().for_each(|(name, value)| put(name, value))
            }
            NetworkMode::Host => {}
        }
        if let Some(modules) = self.paths.iter().find(|path| path.ends_with("go/pkg/mod")) {
            put("GOMODCACHE", modules.display().to_string());
        }
        env
    }

    /// Makes the private home below `tmp` (the real one): a `CARGO_HOME` whose index and downloaded crates are the
    /// user's, read-only. So a build finds what was downloaded before, offline. With a network the folders are private,
    /// so that more can be downloaded: [`Toolchains::furnish_sources`] puts the user's crates there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn furnish(&self, tmp: &Path, network: NetworkMode) -> io::Result<()> {
        fs::create_dir_all(tmp.join("home"))?;
        let Some((user, own)) = self.registries(tmp) else { return Ok(()) };
        fs::create_dir_all(&own)?;
        match network {
            NetworkMode::Off => ["index", "cache"].iter().try_for_each(|part| link(&user.join(part), &own.join(part))),
            NetworkMode::Proxy | NetworkMode::Host => Ok(()),
        }
    }

    /// Adds to the private home the unpacked sources of crates, and with a network the packed ones: the user's where they
    /// are, and private where they are not.
    /// Without it every build unpacks what it needs by itself. A link for each crate, so many that it is worth to do
    /// something else meanwhile; to be over before the first build begins.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn furnish_sources(&self, tmp: &Path, network: NetworkMode) -> io::Result<()> {
        let Some((user, own)) = self.registries(tmp) else { return Ok(()) };
        for registry in folders(&user.join("src")) {
            let sources = own.join("src").join(registry.file_name().unwrap_or_default());
            fs::create_dir_all(&sources)?;
            for package in folders(&registry) {
                symlink(&package, &sources.join(package.file_name().unwrap_or_default()))?;
            }
        }
        if network != NetworkMode::Off {
            for registry in folders(&user.join("cache")) {
                let packed = own.join("cache").join(registry.file_name().unwrap_or_default());
                fs::create_dir_all(&packed)?;
                for package in fs::read_dir(&registry)?.flatten() {
                    symlink(&package.path(), &packed.join(package.file_name()))?;
                }
            }
        }
        Ok(())
    }

    /// The user's registry, if there is one, and the private one.
    fn registries(&self, tmp: &Path) -> Option<(PathBuf, PathBuf)> {
        self.cargo_home.as_ref().map(|user| (user.join("registry"), tmp.join("home/.cargo/registry")))
    }
}

fn link(to: &Path, at: &Path) -> io::Result<()> {
    if to.exists() { symlink(to, at) } else { Ok(()) }
}

fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(to, at) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(of).into_iter().flatten().flatten();
    // What the folder itself says of its entries suffices, but for links.
    let is_folder = |entry: &fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    };
    all.filter(is_folder).map(|entry| entry.path()).collect()
}

fn version(name: &OsStr) -> Vec<u64> {
    name.to_string_lossy().trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_seen_without_its_credentials() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for dir in [
            ".cargo/bin",
            ".cargo/registry/src/r/a-1",
            ".cargo/registry/cache",
            ".nvm/versions/node/v9.1.0",
            ".nvm/versions/node/v18.2.0",
        ] {
            fs::create_dir_all(home.join(dir)).unwrap();
        }
        fs::write(home.join(".cargo/credentials.toml"), "token").unwrap();
        let found = default_toolchains(home);
        assert_eq!(found.paths, [home.join(".cargo/bin"), home.join(".cargo/registry"), home.join(".nvm")]);
        assert_eq!(found.path_entries, [home.join(".cargo/bin"), home.join(".nvm/versions/node/v18.2.0/bin")]);
        let tmp = tempfile::tempdir().unwrap();
        for _again in 0..2 {
            found.furnish(tmp.path(), NetworkMode::Off).unwrap();
            found.furnish_sources(tmp.path(), NetworkMode::Off).unwrap();
        }
        let link = fs::read_link(tmp.path().join("home/.cargo/registry/src/r/a-1")).unwrap();
        assert_eq!(link, home.join(".cargo/registry/src/r/a-1"));
        assert!(!tmp.path().join("home/.cargo/credentials.toml").exists());
        let env = found.environment(Path::new("/tmp"), NetworkMode::Off);
        assert_eq!(env["CARGO_HOME"], "/tmp/home/.cargo");
        assert_eq!(env["CARGO_NET_OFFLINE"], "true");
    }

    #[test]
    fn with_a_network_more_crates_can_be_downloaded_beside_the_users() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cargo/registry/cache/r");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("a-1.crate"), "a").unwrap();
        let found = default_toolchains(home.path());
        let tmp = tempfile::tempdir().unwrap();
        for _again in 0..2 {
            found.furnish(tmp.path(), NetworkMode::Proxy).unwrap();
            found.furnish_sources(tmp.path(), NetworkMode::Proxy).unwrap();
        }
        let own = tmp.path().join("home/.cargo/registry/cache/r");
        assert_eq!(fs::read_link(own.join("a-1.crate")).unwrap(), cache.join("a-1.crate"));
        fs::write(own.join("b-1.crate"), "b").unwrap();
        assert!(!cache.join("b-1.crate").exists(), "the user's stay as they are");
    }
}
