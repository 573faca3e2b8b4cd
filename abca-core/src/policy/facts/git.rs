//! What a git command asks for.

use std::collections::BTreeSet;

use crate::policy::shell::{Simple, Word};

/// What a git command asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// `push`, `commit`, …; empty when it is not known.
    pub operation: String,
    /// What is refused otherwise is to be done: `--force`, `+ref`, `--force-with-lease`, `-D`.
    pub force: bool,
    /// A ref on the other side goes away: `--delete`, `:branch`, `--prune`, `--mirror`.
    pub deletes: bool,
    /// Refs on the other side that are pushed, without `refs/heads/`. `HEAD` and no ref at all are the task's own branch.
    pub refs: BTreeSet<String>,
    /// Every ref: `--all`, `--mirror`.
    pub all_refs: bool,
    /// The remote's name or URL; empty when none is named.
    pub remote: String,
    /// Commits that were made are to be lost or made anew, of more than the last: `filter-branch`, `reflog expire`.
    pub rewrites: bool,
    /// Configuration that makes git run a program or send its data elsewhere, given or written: its keys.
    pub dangerous_config: BTreeSet<String>,
    /// An argument that decides is not known.
    pub unknown: bool,
    /// The folder of `-C`, as it is written.
    pub folder: Option<String>,
    /// What stands after the operation.
    pub rest: Vec<Word>,
}

impl GitFacts {
    pub(super) fn of(simple: &Simple, branch: &str) -> Self {
        let mut git = Self::default();
        let args = simple.arguments();
        let mut i = 0_usize;
        while let Some(word) = args.get(i) {
            let value = args.get(i.saturating_add(1));
            let Some(text) = word.get() else {
                git.unknown = true;
                return git;
            };
            let step = match text {
                "-c" | "--config-env" => {
                    match value.and_then(Word::get) {
                        Some(setting) => git.setting(setting.split('=').next().unwrap_or_default()),
                        None => git.unknown = true,
                    }
                    2
                }
                "-C" => {
                    match value.and_then(Word::get) {
                        Some(folder) => git.folder = Some(folder.to_owned()),
                        None => git.unknown = true,
                    }
                    2
                }
                "--git-dir" | "--work-tree" | "--namespace" | "--super-prefix" => {
                    git.unknown |= value.is_none_or(|v| !v.known);
                    2
                }
                "--exec-path" => 1,
                _ if text.starts_with("--exec-path=") => {
                    git.dangerous_config.insert("--exec-path".to_owned());
                    1
                }
                _ if text.starts_with("--config-env=") => {
                    let key = text.trim_start_matches("--config-env=");
                    git.setting(key.split('=').next().unwrap_or_default());
                    1
                }
                _ if text.starts_with('-') => 1,
                _ => break,
            };
            i = i.saturating_add(step);
        }
        for (name, _) in &simple.assignments {
            if name.starts_with("GIT_") && RUNS_BY_ENV.contains(&name.as_str()) {
                git.dangerous_config.insert(name.clone());
            }
        }
        let Some(operation) = args.get(i) else { return git };
        let Some(operation) = operation.get() else {
            git.unknown = true;
            return git;
        };
        operation.clone_into(&mut git.operation);
        git.rest = args.get(i.saturating_add(1)..).unwrap_or_default().to_vec();
        // An alias of the repository's configuration, or a program `git-x`: it may be anything.
        git.unknown |= !OPERATIONS.contains(&operation);
        match operation {
            "push" | "send-pack" => git.push(branch, simple.more_arguments),
            "config" => git.config(),
            _ => git.others(),
        }
        git
    }

    fn setting(&mut self, key: &str) {
        let key = key.to_ascii_lowercase();
        let runs = RUNS.iter().any(|r| match r.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == *r,
        });
        let last = key.rsplit('.').next().unwrap_or_default();
        let in_part = match key.split('.').next().unwrap_or_default() {
            "filter" => matches!(last, "clean" | "smudge" | "process"),
            "diff" => matches!(last, "command" | "textconv" | "external"),
            "merge" => last == "driver",
            "url" => matches!(last, "insteadof" | "pushinsteadof"),
            "remote" => matches!(last, "url" | "pushurl" | "uploadpack" | "receivepack" | "vcs" | "proxy"),
            "difftool" | "mergetool" | "browser" | "man" => matches!(last, "cmd" | "path"),
            "submodule" => last == "update",
            _ => false,
        };
        if runs || in_part {
            self.dangerous_config.insert(key);
        }
    }

    fn has(&self, long: &str, short: Option<char>) -> bool {
        self.rest.iter().take_while(|w| w.text != "--").any(|w| {
            let text = w.text.as_str();
            match text.strip_prefix("--") {
                // git takes any beginning of an option that is not ambiguous.
                Some(given) => {
                    let given = given.split('=').next().unwrap_or_default();
                    given == long || (given.len() > 3 && long.starts_with(given))
                }
                None => short.is_some_and(|s| {
                    text.strip_prefix('-').is_some_and(|cluster| cluster.split('=').next().unwrap_or("").contains(s))
                }),
            }
        })
    }

    fn push(&mut self, branch: &str, more: bool) {
        const VALUES: [&str; 6] = ["-o", "--push-option", "--repo", "--receive-pack", "--exec", "--signed"];
        self.unknown |= more || self.rest.iter().any(|w| !w.known);
        self.force = self.has("force", Some('f')) || self.has("force-with-lease", None);
        self.deletes = self.has("delete", Some('d')) || self.has("prune", None);
        self.all_refs = self.has("all", None) || self.has("branches", None);
        if self.has("mirror", None) {
            (self.force, self.deletes, self.all_refs) = (true, true, true);
        }
        if self.has("receive-pack", None) || self.has("exec", None) {
            self.dangerous_config.insert("--receive-pack".to_owned());
        }
        let mut words = self.rest.clone().into_iter();
        let mut plain = Vec::new();
        let mut only_plain = false;
        while let Some(word) = words.next() {
            let text = word.text;
            if only_plain || !text.starts_with('-') {
                plain.push(text);
            } else if text == "--" {
                only_plain = true;
            } else if VALUES.contains(&text.as_str()) {
                words.next();
            } else if let Some(repo) = text.strip_prefix("--repo=") {
                repo.clone_into(&mut self.remote);
            }
        }
        let mut plain = plain.into_iter();
        if let Some(remote) = plain.next() {
            self.remote = remote;
        }
        let mut named = false;
        for spec in plain {
            named = true;
            let (spec, forced) = spec.strip_prefix('+').map_or((spec.as_str(), false), |s| (s, true));
            self.force |= forced;
            let target = match spec.split_once(':') {
                None => spec,
                Some(("", "")) => {
                    self.all_refs = true;
                    continue;
                }
                Some(("", target)) => {
                    self.deletes = true;
                    target
                }
                Some((_, target)) => target,
            };
            let target = target.strip_prefix("refs/heads/").or_else(|| target.strip_prefix("heads/")).unwrap_or(target);
            // `refs/heads/*` names all of them.
            self.all_refs |= target.contains('*');
            let target = if matches!(target, "HEAD" | "@") { branch } else { target };
            self.refs.insert(target.to_owned());
        }
        if !named && !self.all_refs {
            self.refs.insert(branch.to_owned());
        }
    }

    fn config(&mut self) {
        let reads = ["get", "get-all", "get-regexp", "list", "get-urlmatch", "get-color", "get-colorbool"];
        if reads.iter().any(|r| self.rest.iter().any(|w| w.text == *r || w.text.strip_prefix("--") == Some(r)))
            || self.has("list", Some('l'))
        {
            return;
        }
        self.unknown |= self.rest.iter().any(|w| !w.known && !w.text.contains('@'))
            && self.rest.iter().find(|w| !w.text.starts_with('-')).is_none_or(|w| !w.known);
        let mut keys: Vec<String> = self
            .rest
            .iter()
            .filter(|w| !w.text.starts_with('-') && w.text.contains('.'))
            .map(|w| w.text.clone())
            .collect();
        // Only the first is a key; but an option's value may stand before it.
        keys.truncate(3);
        let values = self.rest.iter().filter(|w| !w.text.starts_with('-')).count();
        let unsets = self.rest.iter().any(|w| w.text.contains("unset") || w.text == "--remove-section");
        if values >= 2 || unsets || self.has("edit", Some('e')) {
            for key in keys {
                self.setting(&key);
            }
        }
        if self.has("edit", Some('e')) {
            self.unknown = true;
        }
    }

    fn others(&mut self) {
        let sub = self.rest.iter().find(|w| !w.text.starts_with('-')).map(|w| w.text.clone()).unwrap_or_default();
        match self.operation.as_str() {
            "filter-branch" | "filter-repo" | "replace" | "fast-import" => self.rewrites = true,
            "reflog" => self.rewrites = matches!(sub.as_str(), "expire" | "delete" | "drop"),
            "gc" => self.rewrites = self.has("prune", None),
            "prune" => self.rewrites = true,
            "update-ref" => self.rewrites = self.has("delete", Some('d')) || self.has("stdin", None),
            "branch" => {
                self.force = self.has("force", Some('f')) || self.rest.iter().any(|w| w.text == "-D" || w.text == "-M");
                self.deletes = self.has("delete", Some('d')) || self.rest.iter().any(|w| w.text == "-D");
            }
            "tag" => {
                self.force = self.has("force", Some('f'));
                self.deletes = self.has("delete", Some('d'));
            }
            "remote" => {
                if matches!(sub.as_str(), "add" | "set-url" | "rename") {
                    self.dangerous_config.insert(format!("remote {sub}"));
                }
            }
            "fetch" | "pull" | "clone" | "ls-remote" => {
                if self.has("upload-pack", None) || self.rest.iter().any(|w| w.text.starts_with("ext::")) {
                    self.dangerous_config.insert("--upload-pack".to_owned());
                }
                if self.operation == "clone" {
                    let configs = self.rest.clone();
                    for pair in configs.windows(2) {
                        if let [flag, value] = pair
                            && matches!(flag.text.as_str(), "-c" | "--config")
                        {
                            self.setting(value.text.split('=').next().unwrap_or_default());
                        }
                    }
                }
            }
            "difftool" | "mergetool" if self.has("extcmd", Some('x')) => {
                self.dangerous_config.insert("--extcmd".to_owned());
            }
            "grep" if self.has("open-files-in-pager", Some('O')) => {
                self.dangerous_config.insert("--open-files-in-pager".to_owned());
            }
            _ => {}
        }
    }
}

/// Keys of configuration that make git run something, or talk to somebody else; `*` for any ending.
const RUNS: &[&str] = &[
    "alias.*",
    "core.hookspath",
    "core.fsmonitor",
    "core.sshcommand",
    "core.gitproxy",
    "core.editor",
    "core.pager",
    "core.askpass",
    "core.alternaterefscommand",
    "core.attributesfile",
    "core.worktree",
    "credential.*",
    "diff.external",
    "include.path",
    "includeif.*",
    "init.templatedir",
    "interactive.difffilter",
    "gpg.*",
    "http.*",
    "https.*",
    "pager.*",
    "protocol.*",
    "sequence.editor",
    "ssh.variant",
    "uploadpack.packobjectshook",
    "web.browser",
];

/// Variables that do the same.
const RUNS_BY_ENV: &[&str] = &[
    "GIT_SSH_COMMAND",
    "GIT_SSH",
    "GIT_EXTERNAL_DIFF",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
    "GIT_DIR",
];

/// What git itself knows.
const OPERATIONS: &[&str] = &[
    "add",
    "am",
    "annotate",
    "apply",
    "archive",
    "bisect",
    "blame",
    "branch",
    "bundle",
    "cat-file",
    "check-attr",
    "check-ignore",
    "check-mailmap",
    "check-ref-format",
    "checkout",
    "checkout-index",
    "cherry",
    "cherry-pick",
    "citool",
    "clean",
    "clone",
    "column",
    "commit",
    "commit-graph",
    "commit-tree",
    "config",
    "count-objects",
    "credential",
    "describe",
    "diff",
    "diff-files",
    "diff-index",
    "diff-tree",
    "difftool",
    "fast-export",
    "fast-import",
    "fetch",
    "fetch-pack",
    "filter-branch",
    "filter-repo",
    "fmt-merge-msg",
    "for-each-ref",
    "format-patch",
    "fsck",
    "gc",
    "get-tar-commit-id",
    "grep",
    "hash-object",
    "help",
    "hook",
    "index-pack",
    "init",
    "interpret-trailers",
    "lfs",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "mailinfo",
    "mailsplit",
    "maintenance",
    "merge",
    "merge-base",
    "merge-file",
    "merge-index",
    "merge-tree",
    "mergetool",
    "mktag",
    "mktree",
    "multi-pack-index",
    "mv",
    "name-rev",
    "notes",
    "pack-objects",
    "pack-redundant",
    "pack-refs",
    "patch-id",
    "prune",
    "prune-packed",
    "pull",
    "push",
    "range-diff",
    "read-tree",
    "rebase",
    "reflog",
    "remote",
    "repack",
    "replace",
    "request-pull",
    "rerere",
    "reset",
    "restore",
    "rev-list",
    "rev-parse",
    "revert",
    "rm",
    "send-email",
    "send-pack",
    "shortlog",
    "show",
    "show-branch",
    "show-index",
    "show-ref",
    "sparse-checkout",
    "stage",
    "stash",
    "status",
    "stripspace",
    "submodule",
    "switch",
    "symbolic-ref",
    "tag",
    "unpack-file",
    "unpack-objects",
    "update-index",
    "update-ref",
    "update-server-info",
    "var",
    "verify-commit",
    "verify-pack",
    "verify-tag",
    "version",
    "whatchanged",
    "worktree",
    "write-tree",
];
