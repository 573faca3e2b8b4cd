//! The server that is ill-treated: started by `scripts/postgres`, on a small tmpfs where one can be mounted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PORT: &str = "55439";
const SIZE: &str = "3g";

pub struct Server {
    dir: PathBuf,
    url: String,
    shim: Option<PathBuf>,
    mounted: bool,
}

fn script(dir: &Path, what: &str, slow: Option<&Path>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
    let mut command = Command::new("bash");
    command.arg(script).arg(what).env("ABCA_POSTGRES_DIR", dir).env("ABCA_POSTGRES_PORT", PORT);
    if let Some(shim) = slow {
        command.env("LD_PRELOAD", shim).env("SLOW_US", "5000");
    }
    let out = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(out.status.success(), "scripts/postgres {what}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Server {
    pub fn start(folder: &Path) -> Self {
        let dir = folder.join("pg");
        std::fs::create_dir_all(&dir).unwrap();
        // The server's user must reach it.
        open_to_all(folder);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"])
            .arg(&dir)
            .status()
            .is_ok_and(|s| s.success());
        let url = script(&dir, "start", None);
        let shim = folder.join("slow.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/chaos/slow.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
        let shim = built.is_ok_and(|s| s.success()).then_some(shim);
        Self { dir, url, shim, mounted }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    fn ctl(&self, args: &[&str]) {
        let bin = std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten().last().unwrap().path().join("bin/pg_ctl");
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(bin).arg("-D").arg(self.dir.join("data")).args(args);
        let done = command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success() || args.contains(&"stop"), "pg_ctl {args:?}");
    }

    /// As in a power cut, but for the disk's cache.
    pub fn stop_at_once(&self) {
        self.ctl(&["-m", "immediate", "stop"]);
    }

    pub fn start_again(&self, slow: bool) {
        script(&self.dir, "start", self.shim.as_deref().filter(|_| slow));
    }

    pub fn can_be_slow(&self) -> bool {
        self.shim.is_some()
    }

    pub fn end_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'abca'";
        let done = Command::new("psql").args([self.url.as_str(), "-qAtc", sql]).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|s| s.success()), "psql");
    }

    /// Takes all the space that is left; `false` where the disk is not the server's own.
    pub fn fill(&self) -> bool {
        if self.mounted {
            let file = self.dir.join("filler");
            let _full = Command::new("dd")
                .args(["if=/dev/zero", &format!("of={}", file.display()), "bs=1M"])
                .stderr(Stdio::null())
                .status();
        }
        self.mounted
    }

    pub fn empty(&self) {
        let _ = std::fs::remove_file(self.dir.join("filler"));
    }

    pub fn end(&self) {
        self.stop_at_once();
        if self.mounted {
            let _ = Command::new("umount").arg(&self.dir).status();
        }
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
