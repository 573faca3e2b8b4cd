//! How long a program takes to start and end behind the walls: `cargo run --example spawn_latency -p abca-compute`.

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Instant;

    use abca_compute::sandbox::{Choice, Io, LimitsBy, Sandbox, SandboxSpec, WallsBy, default_toolchains};
    use abca_core::compute::{NetworkMode, SandboxMode, SessionLimits};

    pub async fn measure() -> Result<(), Box<dyn std::error::Error>> {
        const ROUNDS: usize = 101;
        let dir = std::env::temp_dir().join(format!("abca-spawn-latency-{}", std::process::id()));
        println!("{:<12} {:<9} {:>12} {:>12} {:>12}", "walls", "limits", "prepare ms", "median ms", "p95 ms");
        let walls = [
            ("bubblewrap", WallsBy::Bubblewrap, SandboxMode::Required),
            ("namespaces", WallsBy::Namespaces, SandboxMode::Required),
            ("none", WallsBy::Auto, SandboxMode::Unsandboxed),
        ];
        for (name, by, sandbox) in walls {
            for (limits_name, limits_by) in [("auto", LimitsBy::Auto), ("watchdog", LimitsBy::Watchdog)] {
                let (work_tree, tmp) = (dir.join("work"), dir.join("tmp"));
                std::fs::create_dir_all(&work_tree)?;
                std::fs::create_dir_all(&tmp)?;
                let toolchains = default_toolchains(&dir);
                let limits = SessionLimits { sandbox, ..SessionLimits::default() };
                let before = Instant::now();
                let sandbox = Sandbox::prepare(SandboxSpec {
                    work_tree,
                    tmp: tmp.clone(),
                    hidden: Vec::new(),
                    read_only: Vec::new(),
                    env: toolchains.environment(&tmp, NetworkMode::Off),
                    toolchains: toolchains.paths,
                    limits,
                    egress: None,
                    choice: Choice { walls: by, limits: limits_by },
                })?;
                let prepare = before.elapsed().as_secs_f64() * 1e3;
                let mut times = Vec::with_capacity(ROUNDS);
                for _ in 0..ROUNDS {
                    let before = Instant::now();
                    let ended = sandbox.spawn(&["/usr/bin/true".into()], Io::default()).await?.wait().await?;
                    assert_eq!(ended.code, Some(0));
                    times.push(before.elapsed().as_secs_f64() * 1e3);
                }
                times.sort_by(f64::total_cmp);
                let (median, p95) = (times[ROUNDS / 2], times[ROUNDS * 95 / 100]);
                println!("{name:<12} {limits_name:<9} {prepare:>12.1} {median:>12.1} {p95:>12.1}");
            }
        }
        Ok(std::fs::remove_dir_all(dir)?)
    }
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    abca_compute::init();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(linux::measure())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
