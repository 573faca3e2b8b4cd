//! Policies read, checked and given their meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{ActionConstraint, Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use serde::Serialize;
use serde_json::Value;

use crate::policy::{
    PolicyError, PolicyErrorKind, PolicyOrigin, PolicySettings, PolicySource, RuleMode, Severity, Tier,
};
use crate::task::limits;
use crate::time::Millis;

/// Longest text of all policies of one source, in bytes (`behaviour.md` 6.5).
pub const POLICY_BYTES: usize = 64 * 1024;

/// The id of the rule that permits what nothing forbids.
pub(super) const BASE_PERMIT: &str = "base_permit";

/// The schema that policies are checked against.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The built-in policies, by name.
pub const BUILTIN: [(&str, &str); 2] = [
    ("builtin/hard_deny", include_str!("builtin/hard.cedar")),
    ("builtin/soft_deny", include_str!("builtin/soft.cedar")),
];

/// A rule: a policy that forbids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// How absolute it is.
    pub tier: Tier,
    /// What it does when it matches.
    pub mode: RuleMode,
    /// How bad it would be. Default medium.
    pub severity: Severity,
    /// The kind of harm.
    pub category: Option<String>,
    /// How long a human may take. Default: the task's own.
    pub approval_timeout_ms: Option<Millis>,
    /// What it is for, in words.
    pub summary: String,
    /// Where it was read from.
    pub source: String,
    /// The attributes that it tests.
    pub attributes: Vec<String>,
    /// The policy's text.
    #[serde(skip)]
    pub text: String,
}

/// Policies ready to decide, by action.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rules: BTreeMap<String, Rule>,
    pub(super) sets: BTreeMap<String, ActionSet>,
}

/// The policies that can apply to one action.
#[derive(Debug)]
pub(super) struct ActionSet {
    all: PolicySet,
    /// Those of `all` that no flag turns off.
    always: PolicySet,
    /// What turns on the others: each begins with `when { context.FLAG …`, and says nothing while its flag is false.
    flags: BTreeSet<String>,
    tested: Tested,
}

impl ActionSet {
    /// The policies that can say something, given the values of flags. Most calls have none set, and Cedar takes the longer
    /// the more policies it is given.
    pub(super) fn policies(&self, flag: impl Fn(&str) -> Option<bool>) -> &PolicySet {
        if self.flags.iter().all(|name| flag(name) == Some(false)) { &self.always } else { &self.all }
    }

    /// Whether a policy can look at an attribute. Those that none looks at need not be made for Cedar: making the context
    /// costs more than evaluating the policies.
    pub(super) fn tests(&self, attribute: &str) -> bool {
        self.tested.whole || self.tested.names.contains(attribute)
    }
}

/// What of the context a policy looks at.
#[derive(Debug, Clone, Default)]
struct Tested {
    names: BTreeSet<String>,
    /// It uses the context as a value, e.g. `context == {…}`.
    whole: bool,
}

pub(super) fn refused(name: &str, what: impl std::fmt::Display) -> PolicyError {
    PolicyError::new(PolicyErrorKind::Policies, "load", format!("`{name}`: {what}"))
}

/// The line and column, from 1, of a byte.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

/// An error of Cedar's with its place in the text.
fn with_place(name: &str, text: &str, error: &DetailedError) -> PolicyError {
    let whole = error.related.first().filter(|_| error.source_locations.is_empty()).unwrap_or(error);
    let at = whole.source_locations.first().map(|l| place(text, l.loc.start));
    let mut message = crate::text::preview(&whole.message, 400);
    if let Some(help) = &whole.help {
        message = format!("{message} ({})", crate::text::preview(help, 200));
    }
    match at {
        Some((line, column)) => refused(name, format!("line {line}, column {column}: {message}")),
        None => refused(name, message),
    }
}

/// Reads everything.
pub(super) fn load(settings: &PolicySettings) -> Result<Loaded, PolicyError> {
    let schema = Schema::from_str(SCHEMA).map_err(|e| refused("schema", e))?;
    let validator = Validator::new(schema);
    let mut policies: Vec<Policy> = Vec::new();
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for (name, text) in BUILTIN {
        let source = PolicySource { name: name.to_owned(), text: text.to_owned(), origin: PolicyOrigin::Operator };
        read(&source, &validator, &mut policies, &mut rules)?;
    }
    let total: usize = settings.sources.iter().map(|s| s.text.len()).fold(0, usize::saturating_add);
    if total > POLICY_BYTES {
        let what = format!("the policies have {total} bytes together, more than {POLICY_BYTES}");
        return Err(PolicyError::new(PolicyErrorKind::Policies, "load", what));
    }
    for source in &settings.sources {
        read(source, &validator, &mut policies, &mut rules)?;
    }
    for rule in rules.values_mut() {
        if let Some(mode) = settings.modes.get(&rule.id).copied().or(settings.mode) {
            rule.mode = mode;
        }
    }
    if let Some(unknown) = settings.modes.keys().find(|id| !rules.contains_key(*id)) {
        let near: Vec<&str> = rules.keys().map(String::as_str).collect();
        let what = format!("there is no rule `{unknown}` to set a mode for; there are: {}", near.join(", "));
        return Err(PolicyError::new(PolicyErrorKind::Policies, "load", what));
    }
    Ok(Loaded { sets: by_action(&policies)?, rules })
}

fn read(
    source: &PolicySource,
    validator: &Validator,
    policies: &mut Vec<Policy>,
    rules: &mut BTreeMap<String, Rule>,
) -> Result<(), PolicyError> {
    let name = source.name.as_str();
    let set =
        PolicySet::from_str(&source.text).map_err(|e| with_place(name, &source.text, &DetailedError::from(&e)))?;
    if set.num_of_templates() > 0 {
        return Err(refused(name, "templates (`?principal`, `?resource`) are not used here: write policies"));
    }
    let checked = validator.validate(&set, ValidationMode::Strict);
    if let Some(error) = checked.validation_errors().next() {
        return Err(with_place(name, &source.text, &DetailedError::from(error)));
    }
    let mut found: Vec<&Policy> = set.policies().collect();
    found.sort_by_key(|p| policy_number(p.id()));
    for policy in found {
        let at = policy_number(policy.id());
        let here = |what: String| refused(name, format!("policy {}: {what}", at.saturating_add(1)));
        let Some(rule) = rule_of(source, policy, rules, &here)? else {
            // The permit that every set has; the built-in one stands for all.
            if rules.is_empty() && !policies.iter().any(|p| p.effect() == Effect::Permit) {
                policies.push(policy.new_id(PolicyId::new(BASE_PERMIT)));
            }
            continue;
        };
        policies.push(policy.new_id(PolicyId::new(&rule.id)));
        rules.insert(rule.id.clone(), rule);
    }
    Ok(())
}

/// Cedar numbers policies `policy0`, `policy1`, … as they stand in the text.
fn policy_number(id: &PolicyId) -> usize {
    id.to_string().trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

fn rule_of(
    source: &PolicySource,
    policy: &Policy,
    rules: &BTreeMap<String, Rule>,
    here: &impl Fn(String) -> PolicyError,
) -> Result<Option<Rule>, PolicyError> {
    let annotation = |key: &str| policy.annotation(key).map(str::to_owned);
    if policy.effect() == Effect::Permit {
        let plain = annotation("tier").is_none() && annotation("rule_id").is_some_and(|id| id == BASE_PERMIT);
        if plain && source.origin == PolicyOrigin::Operator {
            return Ok(None);
        }
        let what = "a `permit` changes nothing, since everything is permitted that no rule forbids: write a `forbid`, or \
                    call it `base_permit` without a tier";
        return Err(here(what.to_owned()));
    }
    let (id, tier) = match source.origin {
        PolicyOrigin::Repository => {
            if let Some((key, _)) = policy.annotations().next() {
                let what = format!("a repository's policy has no annotations, and this one has `@{key}`");
                return Err(here(what));
            }
            let number = rules.keys().filter(|id| id.starts_with("legacy_extra_")).count();
            (format!("legacy_extra_{}", number.saturating_add(1)), Tier::Soft)
        }
        PolicyOrigin::Operator => {
            let id = annotation("rule_id").ok_or_else(|| here("it has no `@rule_id(\"…\")`".to_owned()))?;
            if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
                return Err(here(format!("`{id}` is no rule's id: use letters, digits, `_` and `-`, at most 64")));
            }
            let tier = annotation("tier")
                .ok_or_else(|| here(format!("`{id}` has no `@tier(\"hard\")` or `@tier(\"soft\")`")))?;
            let tier = Tier::from_word(&tier)
                .ok_or_else(|| here(format!("the tier of `{id}` is `{tier}`: use hard or soft")))?;
            (id, tier)
        }
    };
    if id == BASE_PERMIT || rules.contains_key(&id) {
        return Err(here(format!("there is a rule `{id}` already: give it another id")));
    }
    let mode = match annotation("mode") {
        None => RuleMode::Enforce,
        Some(mode) => RuleMode::from_word(&mode)
            .ok_or_else(|| here(format!("the mode of `{id}` is `{mode}`: use observe, warn or enforce")))?,
    };
    let severity = match annotation("severity") {
        None => Severity::Medium,
        Some(word) => Severity::from_word(&word)
            .ok_or_else(|| here(format!("the severity of `{id}` is `{word}`: use low, medium or high")))?,
    };
    let range = limits::APPROVAL_TIMEOUT_SECS;
    let approval_timeout_ms = match annotation("approval_timeout_s") {
        None => None,
        Some(text) => match text.parse::<u32>() {
            Ok(seconds) if range.contains(&seconds) => Some(Millis::secs(u64::from(seconds))),
            Ok(_) | Err(_) => {
                let what = format!(
                    "the approval timeout of `{id}` is `{text}`: give seconds from {} to {}",
                    range.start(),
                    range.end()
                );
                return Err(here(what));
            }
        },
    };
    let summary = annotation("summary").unwrap_or_else(|| format!("the rule `{id}` of `{}` forbids it", source.name));
    Ok(Some(Rule {
        tier,
        mode,
        severity,
        category: annotation("category").filter(|c| !c.is_empty()),
        approval_timeout_ms,
        summary,
        source: source.name.clone(),
        attributes: tested(policy).names.into_iter().collect(),
        text: policy.to_string(),
        id,
    }))
}

/// The names of `context.x` in a policy.
fn tested(policy: &Policy) -> Tested {
    fn collect(value: &Value, found: &mut Tested) {
        match value {
            Value::Object(map) => {
                if let Some(access) = map.get(".").or_else(|| map.get("has"))
                    && access.pointer("/left/Var").and_then(Value::as_str) == Some("context")
                    && let Some(attr) = access.get("attr").and_then(Value::as_str)
                {
                    found.names.insert(attr.to_owned());
                    return;
                }
                found.whole |= map.get("Var").and_then(Value::as_str) == Some("context");
                map.values().for_each(|v| collect(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| collect(v, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    match policy.to_json() {
        Ok(json) => {
            let mut found = Tested::default();
            collect(&json, &mut found);
            found
        }
        Err(_) => Tested { whole: true, ..Tested::default() },
    }
}

/// The flag that has to be true for a policy to be evaluated any further: the leftmost term of its first condition, where
/// that is an attribute alone. A later term would not do: what stands before it can fail, and a failure denies.
fn flag(policy: &Policy) -> Option<String> {
    let json = policy.to_json().ok()?;
    let first = json.pointer("/conditions/0").filter(|c| c.get("kind").and_then(Value::as_str) == Some("when"))?;
    let mut term = first.get("body")?;
    while let Some(left) = term.pointer("/&&/left") {
        term = left;
    }
    let of_context = term.pointer("/./left/Var").and_then(Value::as_str) == Some("context");
    term.pointer("/./attr").and_then(Value::as_str).filter(|_| of_context).map(str::to_owned)
}

/// Actions of the schema.
pub(super) const ACTIONS: [&str; 8] =
    ["invoke_tool", "call_mcp", "read_file", "write_file", "delete_file", "execute_bash", "connect", "push_ref"];

/// A set for each action, of the policies that can apply to it: the others would only take time.
fn by_action(policies: &[Policy]) -> Result<BTreeMap<String, ActionSet>, PolicyError> {
    let mut sets = BTreeMap::new();
    for action in ACTIONS {
        let applies = |policy: &&Policy| match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => uid.id().unescaped() == action,
            ActionConstraint::In(uids) => uids.iter().any(|uid| uid.id().unescaped() == action),
        };
        let mut looks = Tested::default();
        let mut flags = BTreeSet::new();
        for policy in policies.iter().filter(applies) {
            let one = tested(policy);
            looks.names.extend(one.names);
            looks.whole |= one.whole;
            flags.extend(flag(policy));
        }
        let of = |policies: Vec<Policy>| PolicySet::from_policies(policies).map_err(|e| refused("policies", e));
        let set = ActionSet {
            all: of(policies.iter().filter(applies).cloned().collect())?,
            always: of(policies.iter().filter(applies).filter(|p| flag(p).is_none()).cloned().collect())?,
            flags,
            tested: looks,
        };
        sets.insert(action.to_owned(), set);
    }
    Ok(sets)
}
