//! Whether what a human approved covers what a policy asks.

use super::{Ask, Because, RuleMatch};
use crate::policy::PolicyRequest;
use crate::task::InitialScope;

/// Most of a text that a pattern is tried on: longer texts are matched by no pattern.
const SUBJECT_BYTES: usize = 64 * 1024;

impl Ask {
    /// What is still to be asked after what was approved; `None` when nothing is.
    ///
    /// `rule:`, `tool_type:`, `tool_group:` and `all_session` cover rules. `bash_pattern:` and `write_path:` cover the parts
    /// of the call that made a rule match, each for itself: an approved `git push origin *` does not carry a `rm -rf` that
    /// follows in the same line. What an approval covers is only ever the soft rules: a hard one never asks.
    pub fn left(&self, request: &PolicyRequest, granted: &[InitialScope]) -> Option<Self> {
        let covers = |rule: &RuleMatch| {
            granted.iter().any(|scope| covers_rule(scope, rule, request))
                || (!rule.because.is_empty()
                    && rule.because.iter().all(|part| granted.iter().any(|scope| covers_part(scope, part))))
        };
        let rules: Vec<RuleMatch> = self.rules.iter().filter(|r| !covers(r)).cloned().collect();
        (!rules.is_empty()).then_some(Self { rules })
    }

    /// Scopes that a human may choose from beside "this call": from the narrowest to the widest.
    pub fn scopes(&self, request: &PolicyRequest) -> Vec<InitialScope> {
        let mut scopes: Vec<InitialScope> = Vec::new();
        let mut add = |scope: InitialScope| {
            // What a submission would not take is not offered here.
            if scope.to_string().parse::<InitialScope>().as_ref() == Ok(&scope) && !scopes.contains(&scope) {
                scopes.push(scope);
            }
        };
        for part in self.rules.iter().flat_map(|r| &r.because) {
            match (&part.path, part.part.is_empty()) {
                (Some(path), _) => add(InitialScope::WritePath(path.clone())),
                (None, false) => add(InitialScope::BashPattern(part.part.clone())),
                (None, true) => {}
            }
        }
        for rule in &self.rules {
            add(InitialScope::Rule(rule.rule.clone()));
        }
        if matches!(request.tool.as_str(), "Write" | "Edit") {
            add(InitialScope::FileWrite);
        }
        add(InitialScope::ToolType(request.tool.clone()));
        add(InitialScope::AllSession);
        scopes
    }
}

fn covers_rule(scope: &InitialScope, rule: &RuleMatch, request: &PolicyRequest) -> bool {
    match scope {
        InitialScope::AllSession => true,
        InitialScope::ToolType(tool) => *tool == request.tool,
        InitialScope::FileWrite => matches!(request.tool.as_str(), "Write" | "Edit"),
        InitialScope::Rule(id) => *id == rule.rule,
        InitialScope::BashPattern(_) | InitialScope::WritePath(_) => false,
    }
}

fn covers_part(scope: &InitialScope, part: &Because) -> bool {
    match scope {
        InitialScope::BashPattern(glob) => !part.part.is_empty() && matches(glob, &part.part),
        InitialScope::WritePath(glob) => part.path.as_deref().is_some_and(|path| matches(glob, path)),
        InitialScope::AllSession | InitialScope::ToolType(_) | InitialScope::FileWrite | InitialScope::Rule(_) => false,
    }
}

/// Whether a text matches as a whole: `*` for any text, `?` for one character. Linear in text times pattern at worst.
fn matches(glob: &str, text: &str) -> bool {
    if text.len() > SUBJECT_BYTES {
        return false;
    }
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0_usize, 0_usize);
    // Where the last star stands, and how far it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g = g.saturating_add(1);
            }
            Some(p) if *p == '?' || p == c => {
                g = g.saturating_add(1);
                t = t.saturating_add(1);
            }
            Some(_) | None => match star {
                Some((at, reach)) => {
                    let reach = reach.saturating_add(1);
                    star = Some((at, reach));
                    g = at.saturating_add(1);
                    t = reach;
                }
                None => return false,
            },
        }
    }
    glob.iter().skip(g).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Tier;
    use crate::{TaskId, Timestamp};

    fn request(tool: &str) -> PolicyRequest {
        PolicyRequest {
            task: TaskId::from_parts(Timestamp::from_millis(0), 0),
            workflow: "coding/new-task-v1".to_owned(),
            repo: "o/r".to_owned(),
            branch: "bgagent/1/x".to_owned(),
            base_branch: "main".to_owned(),
            tool: tool.to_owned(),
            input: json!({}),
            read_only: false,
            tainted: false,
        }
    }

    fn asked(rule: &str, parts: &[(&str, Option<&str>)]) -> RuleMatch {
        let because = parts
            .iter()
            .map(|(part, path)| Because {
                part: (*part).to_owned(),
                path: path.map(str::to_owned),
                attributes: Vec::new(),
            })
            .collect();
        RuleMatch { because, ..RuleMatch::new(Tier::Soft, rule, "r") }
    }

    fn left(ask: &Ask, tool: &str, scopes: &[&str]) -> Vec<String> {
        let scopes: Vec<InitialScope> = scopes.iter().map(|s| s.parse().unwrap()).collect();
        let left = ask.left(&request(tool), &scopes);
        left.map(|a| a.rules.into_iter().map(|r| r.rule).collect()).unwrap_or_default()
    }

    #[test]
    fn a_scope_covers_what_it_says_and_nothing_beside_it() {
        let ask = Ask {
            rules: vec![
                asked("force_push", &[("git push -f origin x", None)]),
                asked("env_files", &[("tee .env", Some(".env"))]),
            ],
        };
        let both = ["force_push", "env_files"];
        assert_eq!(left(&ask, "Bash", &[]), both);
        assert_eq!(left(&ask, "Bash", &["tool_type:Write", "tool_group:file_write", "rule:other"]), both);
        assert_eq!(left(&ask, "Bash", &["rule:force_push"]), ["env_files"]);
        assert_eq!(left(&ask, "Bash", &["bash_pattern:git push *"]), ["env_files"]);
        assert_eq!(left(&ask, "Bash", &["write_path:*.env"]), ["force_push"]);
        assert_eq!(left(&ask, "Bash", &["rule:force_push", "write_path:.env"]), [""; 0]);
        assert_eq!(left(&ask, "Bash", &["all_session"]), [""; 0]);
        assert_eq!(left(&ask, "Bash", &["tool_type:Bash"]), [""; 0]);
        assert_eq!(left(&ask, "Write", &["tool_group:file_write"]), [""; 0]);
    }

    #[test]
    fn a_pattern_does_not_carry_what_stands_beside_the_approved_command() {
        let ask = Ask { rules: vec![asked("unknown", &[("git push origin x", None), ("rm -rf $x", None)])] };
        assert_eq!(left(&ask, "Bash", &["bash_pattern:git push *"]), ["unknown"]);
        assert_eq!(left(&ask, "Bash", &["bash_pattern:git push *", "bash_pattern:rm -rf *"]), [""; 0]);
        // A rule that gives no part is covered by no pattern.
        let ask = Ask { rules: vec![asked("own", &[])] };
        assert_eq!(left(&ask, "Bash", &["bash_pattern:git push *"]), ["own"]);
    }

    #[test]
    fn what_is_offered_can_be_granted_and_covers() {
        let ask = Ask {
            rules: vec![
                asked("force_push", &[("git push -f origin x", None)]),
                asked("env_files", &[("tee .env", Some(".env"))]),
            ],
        };
        let offered = ask.scopes(&request("Bash"));
        let words: Vec<String> = offered.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "bash_pattern:git push -f origin x",
                "write_path:.env",
                "rule:force_push",
                "rule:env_files",
                "tool_type:Bash",
                "all_session"
            ]
        );
        let first_two: Vec<InitialScope> = offered.into_iter().take(2).collect();
        assert_eq!(ask.left(&request("Bash"), &first_two), None);
    }

    #[test]
    fn globs_match_whole_texts() {
        for (glob, text) in
            [("a*c", "abbc"), ("a*c", "ac"), ("*b*", "abc"), ("a?c", "abc"), ("abc", "abc"), ("a**", "a")]
        {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("a*c", "acb"), ("a?c", "ac"), ("abc", "abcd"), ("b", "abc"), ("", "a")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
        assert!(!matches("a*", &"a".repeat(SUBJECT_BYTES + 1)));
    }
}
