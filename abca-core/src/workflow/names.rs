//! The closed sets of names in a workflow file.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $wire:literal; )+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $( $(#[$vdoc])* #[serde(rename = $wire)] $variant, )+ }

        impl $name {
            /// Every value on the wire.
            pub const NAMES: &'static [&'static str] = &[ $( $wire, )+ ];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }

            /// The value of a name on the wire.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $wire => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

wire_enum! {
    /// What kind of work a workflow does.
    Domain {
        /// Changes or reads a repository.
        Coding = "coding";
        /// Works without one.
        Knowledge = "knowledge";
        /// Either.
        Hybrid = "hybrid";
    }
}

wire_enum! {
    /// Where context comes from.
    HydrationSource {
        /// The issue of `issue_number`.
        Issue = "issue";
        /// The pull request of `pr_number`.
        PullRequest = "pull_request";
        /// What earlier tasks learned.
        Memory = "memory";
        /// Files that came with the task.
        Attachments = "attachments";
        /// Addresses in the task.
        Urls = "urls";
        /// The description.
        TaskDescription = "task_description";
    }
}

wire_enum! {
    /// How far an agent may reach.
    Tier {
        /// Built-in tools.
        Standard = "standard";
        /// Also MCP servers, plugins and skills.
        Elevated = "elevated";
        /// Built-in tools that do not write files.
        ReadOnly = "read-only";
    }
}

wire_enum! {
    /// Who hosts repositories.
    VcsProvider {
        /// GitHub.
        Github = "github";
        /// GitLab.
        Gitlab = "gitlab";
        /// Bitbucket.
        Bitbucket = "bitbucket";
        /// AWS CodeCommit.
        Codecommit = "codecommit";
        /// Any git server.
        GenericGit = "generic_git";
    }
}

wire_enum! {
    /// Agent configuration that a repository carries.
    DiscoveredConfig {
        /// `CLAUDE.md`.
        ClaudeMd = "claude_md";
        /// `.claude/rules/`.
        Rules = "rules";
        /// `.claude/agents/`.
        Subagents = "subagents";
        /// `.claude/settings.json`.
        Settings = "settings";
        /// `.mcp.json`.
        Mcp = "mcp";
    }
}

wire_enum! {
    /// What a submission can bring.
    InputName {
        /// The issue to resolve.
        IssueNumber = "issue_number";
        /// What to do; counts when it is more than white space.
        TaskDescription = "task_description";
        /// The pull request to work on.
        PrNumber = "pr_number";
    }
}

wire_enum! {
    /// What a step does.
    StepKind {
        /// Clones the repository and takes the baseline of build, test and lint.
        CloneRepo = "clone_repo";
        /// Assembles the context.
        HydrateContext = "hydrate_context";
        /// Runs the agent.
        RunAgent = "run_agent";
        /// Builds and tests.
        VerifyBuild = "verify_build";
        /// Lints.
        VerifyLint = "verify_lint";
        /// Pushes and opens or updates the pull request.
        EnsurePr = "ensure_pr";
        /// Posts a review.
        PostReview = "post_review";
        /// Delivers an artifact or a comment.
        DeliverArtifact = "deliver_artifact";
    }
}

impl StepKind {
    /// Whether it works on a repository.
    pub const fn needs_repo(self) -> bool {
        match self {
            Self::CloneRepo | Self::VerifyBuild | Self::VerifyLint | Self::EnsurePr | Self::PostReview => true,
            Self::HydrateContext | Self::RunAgent | Self::DeliverArtifact => false,
        }
    }

    /// Whether the world outside sees what it does.
    pub const fn is_side_effecting(self) -> bool {
        match self {
            Self::EnsurePr | Self::PostReview | Self::DeliverArtifact => true,
            Self::CloneRepo | Self::HydrateContext | Self::RunAgent | Self::VerifyBuild | Self::VerifyLint => false,
        }
    }
}

wire_enum! {
    /// What follows a failed step.
    #[derive(Default)]
    OnFailure {
        /// The task fails.
        #[default]
        Fail = "fail";
        /// The next step runs.
        Continue = "continue";
        /// The remaining steps are left out.
        SkipRemaining = "skip_remaining";
    }
}

wire_enum! {
    /// What `ensure_pr` does.
    #[derive(Default)]
    PrStrategy {
        /// Pushes a branch and opens a pull request.
        #[default]
        Create = "create";
        /// Pushes to the branch of the pull request that is there.
        PushResolve = "push_resolve";
        /// Only finds the pull request.
        Resolve = "resolve";
    }
}

wire_enum! {
    /// How a verification gates success.
    #[derive(Default)]
    GateMode {
        /// Not passing fails the task.
        Strict = "strict";
        /// Not passing fails the task unless it was broken before.
        #[default]
        RegressionOnly = "regression_only";
        /// Reported, never failing.
        Informational = "informational";
    }
}

wire_enum! {
    /// Where `deliver_artifact` delivers.
    #[derive(Default)]
    DeliverTarget {
        /// To the artifact store.
        #[default]
        S3 = "s3";
        /// As a comment.
        Comment = "comment";
        /// Both.
        S3AndComment = "s3_and_comment";
    }
}

impl DeliverTarget {
    /// Whether delivering there produces the outcome.
    pub const fn produces(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Artifact => matches!(self, Self::S3 | Self::S3AndComment),
            Outcome::Comment => matches!(self, Self::Comment | Self::S3AndComment),
            Outcome::PrUrl | Outcome::ReviewPosted => false,
        }
    }
}

wire_enum! {
    /// What a workflow is done for.
    Outcome {
        /// A pull request.
        PrUrl = "pr_url";
        /// A review.
        ReviewPosted = "review_posted";
        /// An artifact.
        Artifact = "artifact";
        /// A comment.
        Comment = "comment";
    }
}

wire_enum! {
    /// Where a version of a workflow stands.
    LifeCycle {
        /// Being written.
        Draft = "draft";
        /// Passed its gate.
        Validated = "validated";
        /// What a reference resolves to.
        Production = "production";
        /// Replaced.
        Deprecated = "deprecated";
    }
}
