//! What each tier of tools holds. Data: who asks for a tool that is not in the tier gets none.

use super::names::Tier;

/// Tools that look at the work tree and at nothing else.
const READ_ONLY: &[&str] = &["Read", "Glob", "Grep", "TodoWrite"];
/// Also those that run, write and fetch.
const STANDARD: &[&str] =
    &["Bash", "BashOutput", "KillShell", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "TodoWrite"];
/// How the tools of MCP servers are named: `mcp__server__tool`.
pub const MCP_PREFIX: &str = "mcp__";

impl Tier {
    /// The built-in tools of the tier.
    ///
    /// | tier | tools |
    /// | --- | --- |
    /// | `read-only` | `Read`, `Glob`, `Grep`, `TodoWrite` |
    /// | `standard` | these, and `Bash`, `BashOutput`, `KillShell`, `Write`, `Edit`, `WebFetch` |
    /// | `elevated` | these, and every tool of an MCP server |
    pub const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::ReadOnly => READ_ONLY,
            Self::Standard | Self::Elevated => STANDARD,
        }
    }

    /// Whether tools of MCP servers belong to it.
    pub const fn has_mcp(self) -> bool {
        matches!(self, Self::Elevated)
    }

    /// Whether a tool belongs to it.
    pub fn allows(self, tool: &str) -> bool {
        self.tools().contains(&tool) || (self.has_mcp() && tool.starts_with(MCP_PREFIX))
    }

    /// Whether everything of the tier is in the other one too.
    pub const fn is_within(self, ceiling: Self) -> bool {
        self.height() <= ceiling.height()
    }

    /// The order of names is not the order of reach.
    const fn height(self) -> u8 {
        match self {
            Self::ReadOnly => 0,
            Self::Standard => 1,
            Self::Elevated => 2,
        }
    }
}

/// Records of before there was a choice have the reference's default.
pub(crate) const fn standard() -> Tier {
    Tier::Standard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_holds_the_one_below_and_only_the_highest_reaches_servers() {
        let tiers = [Tier::ReadOnly, Tier::Standard, Tier::Elevated];
        for (i, low) in tiers.into_iter().enumerate() {
            for (j, high) in tiers.into_iter().enumerate() {
                assert_eq!(low.is_within(high), i <= j, "{low} {high}");
                assert!(i > j || low.tools().iter().all(|tool| high.allows(tool)), "{low} {high}");
            }
        }
        let allows = |tool: &str| tiers.map(|tier| tier.allows(tool));
        assert_eq!(allows("Read"), [true, true, true]);
        for tool in ["Bash", "KillShell", "Write", "Edit", "WebFetch"] {
            assert_eq!(allows(tool), [false, true, true], "{tool}");
        }
        assert_eq!(allows("mcp__files__read"), [false, false, true]);
        assert_eq!(allows("Teleport"), [false, false, false]);
    }
}
