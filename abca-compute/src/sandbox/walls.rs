//! Which walls hold, for the record of a session.

use std::fmt;

/// The walls around the hands, each with the mechanism that holds it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Walls(Vec<(Wall, &'static str)>);

/// A wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Wall {
    /// No write outside the work tree and the private temporary folder.
    Filesystem,
    /// Home folders are not there, toolchains excepted.
    Home,
    /// No network at all, or none but the egress proxy's socket.
    Network,
    /// No sight of processes outside, and the tree dies as a whole.
    Processes,
    /// Nothing of the outside's environment.
    Environment,
    /// The memory limit holds.
    Memory,
    /// The limit on processes and threads holds.
    ProcessCount,
    /// Dangerous system calls are refused.
    Syscalls,
}

impl Wall {
    /// Its name in records, e.g. `process_count`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Home => "home",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::Environment => "environment",
            Self::Memory => "memory",
            Self::ProcessCount => "process_count",
            Self::Syscalls => "syscalls",
        }
    }
}

impl Walls {
    pub(super) fn add(&mut self, wall: Wall, by: &'static str) {
        self.0.push((wall, by));
    }

    /// What holds a wall; none when it does not hold.
    pub fn by(&self, wall: Wall) -> Option<&'static str> {
        self.0.iter().find(|(held, _)| *held == wall).map(|(_, by)| *by)
    }

    /// Every wall that holds with its mechanism, e.g. `filesystem:bubblewrap`.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(|(wall, by)| format!("{}:{by}", wall.as_str())).collect()
    }
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_strings().join(" "))
    }
}
