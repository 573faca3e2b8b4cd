//! The Cedar engine: policies over the structure of a call.
//!
//! Entities and annotations are the reference platform's (`behaviour.md` 6.2 to 6.5), so its policies load; the attributes
//! that they can test are in [`SCHEMA`]. A call is taken apart into questions (the call, each simple command, each file,
//! host and ref), and every question is put to Cedar. What any policy forbids counts.
//!
//! * Policies are checked against the schema when they are loaded; one that does not fit is refused with its place.
//! * Cedar leaves out a policy whose evaluation fails. Here that is an error, and whoever asked treats it as a denial.
//! * A rule observes, warns or enforces: its own `@mode`, or what the operator says of it.

mod ask;
mod load;
mod mcp;

use std::collections::BTreeMap;
use std::str::FromStr;

use async_trait::async_trait;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};

pub use ask::{Attribute, Question, Questions};
pub use load::{BUILTIN, POLICY_BYTES, Rule, SCHEMA};

use super::{
    Because, Judgement, PathResolver, PolicyEngine, PolicyError, PolicyErrorKind, PolicyRequest, PolicySettings,
    RuleMatch,
};

/// Most parts of a call that are told for one rule.
const PARTS: usize = 8;

/// Decides by Cedar policies. Built once, used by every session of a process.
#[derive(Debug)]
pub struct CedarPolicy {
    loaded: load::Loaded,
    authorizer: Authorizer,
    entities: Entities,
    actions: BTreeMap<&'static str, EntityUid>,
    types: BTreeMap<&'static str, EntityTypeName>,
}

/// A call judged, with what was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What follows.
    pub judgement: Judgement,
    /// What Cedar was asked, and what of the command line is not understood.
    pub questions: Questions,
}

impl CedarPolicy {
    /// The built-in policies alone.
    ///
    /// # Errors
    /// Never, as long as the built-in policies fit their schema, which a test holds.
    pub fn builtin() -> Result<Self, PolicyError> {
        Self::load(&PolicySettings::default())
    }

    /// The built-in policies and others.
    ///
    /// # Errors
    /// [`PolicyErrorKind::Policies`] for the first policy that cannot be used: the message says which, where and why.
    pub fn load(settings: &PolicySettings) -> Result<Self, PolicyError> {
        let loaded = load::load(settings)?;
        let internal = |e: &dyn std::fmt::Display| load::refused("schema", e);
        let mut types = BTreeMap::new();
        for name in ["TaskAgent", "Tool", "File", "BashCommand", "Host", "Ref", "McpTool", "Action"] {
            let full = EntityTypeName::from_str(&format!("Agent::{name}")).map_err(|e| internal(&e))?;
            types.insert(name, full);
        }
        let mut actions = BTreeMap::new();
        if let Some(kind) = types.get("Action") {
            for action in load::ACTIONS {
                actions.insert(action, EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(action)));
            }
        }
        Ok(Self { loaded, authorizer: Authorizer::new(), entities: Entities::empty(), actions, types })
    }

    /// Every rule, ordered by id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.loaded.rules.values()
    }

    /// Judges a call, and says what was looked at.
    ///
    /// # Errors
    /// When a policy's evaluation fails, or nobody can say where a path leads. The call is then to be denied.
    pub async fn explain(&self, request: &PolicyRequest, paths: &dyn PathResolver) -> Result<Explained, PolicyError> {
        let questions = ask::questions(request, paths).await?;
        let base = BTreeMap::from([
            ("task_type", Attribute::Text(role(&request.workflow))),
            ("repo", Attribute::Text(request.repo.clone())),
            ("read_only", Attribute::Bool(request.read_only)),
            ("tainted", Attribute::Bool(request.tainted)),
            ("branch", Attribute::Text(request.branch.clone())),
            ("base_branch", Attribute::Text(request.base_branch.clone())),
        ]);
        let principal = self.uid("TaskAgent", &role(&request.workflow))?;
        let mut matched: BTreeMap<String, Vec<Because>> = BTreeMap::new();
        for question in &questions.asked {
            for rule in self.put(&principal, &base, question)? {
                let because = self.because(&rule, question, &base);
                let parts = matched.entry(rule).or_default();
                if parts.len() < PARTS && !parts.contains(&because) {
                    parts.push(because);
                }
            }
        }
        let rules = matched.into_iter().filter_map(|(id, because)| {
            let rule = self.loaded.rules.get(&id)?;
            Some(RuleMatch {
                mode: rule.mode,
                severity: rule.severity,
                category: rule.category.clone(),
                approval_timeout_ms: rule.approval_timeout_ms,
                because,
                ..RuleMatch::new(rule.tier, id, rule.summary.clone())
            })
        });
        Ok(Explained { judgement: Judgement::of(rules.collect()), questions })
    }

    fn uid(&self, kind: &'static str, id: &str) -> Result<EntityUid, PolicyError> {
        let name = self.types.get(kind).cloned();
        let name = name.ok_or_else(|| failed(format!("there is no entity `{kind}`")))?;
        Ok(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
    }

    /// Puts one question; answers the rules that forbid.
    fn put(
        &self,
        principal: &EntityUid,
        base: &BTreeMap<&'static str, Attribute>,
        question: &Question,
    ) -> Result<Vec<String>, PolicyError> {
        let (Some(action), Some(set)) = (self.actions.get(question.action), self.loaded.sets.get(question.action))
        else {
            return Err(failed(format!("there is no action `{}`", question.action)));
        };
        let pairs = base.iter().chain(&question.attributes).filter(|(name, _)| set.tests(name));
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), expression(value)));
        let context = Context::from_pairs(pairs).map_err(|e| failed(e.to_string()))?;
        let resource = self.uid(question.resource.0, &question.resource.1)?;
        let asked = Request::new(principal.clone(), action.clone(), resource, context, None);
        let asked = asked.map_err(|e| failed(e.to_string()))?;
        let flag = |name: &str| match question.attributes.get(name).or_else(|| base.get(name)) {
            Some(Attribute::Bool(yes)) => Some(*yes),
            Some(Attribute::Text(_) | Attribute::Set(_)) | None => None,
        };
        let answer = self.authorizer.is_authorized(&asked, set.policies(flag), &self.entities);
        if let Some(error) = answer.diagnostics().errors().next() {
            return Err(failed(error.to_string()));
        }
        match answer.decision() {
            Decision::Allow => Ok(Vec::new()),
            Decision::Deny => {
                let rules: Vec<String> =
                    answer.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
                if rules.is_empty() { Err(failed("nothing permits it".to_owned())) } else { Ok(rules) }
            }
        }
    }

    fn because(&self, rule: &str, question: &Question, base: &BTreeMap<&'static str, Attribute>) -> Because {
        let tested = self.loaded.rules.get(rule).map(|r| r.attributes.as_slice()).unwrap_or_default();
        let value = |name: &str| base.get(name).or_else(|| question.attributes.get(name)).map(ToString::to_string);
        let attributes = tested.iter().filter_map(|name| Some((name.clone(), value(name)?))).collect();
        Because { part: question.part.clone(), path: question.path.clone(), attributes }
    }
}

fn failed(what: String) -> PolicyError {
    PolicyError::new(PolicyErrorKind::Evaluation, "judge", what)
}

fn expression(value: &Attribute) -> RestrictedExpression {
    match value {
        Attribute::Bool(yes) => RestrictedExpression::new_bool(*yes),
        Attribute::Text(text) => RestrictedExpression::new_string(text.clone()),
        Attribute::Set(set) => RestrictedExpression::new_set(set.iter().cloned().map(RestrictedExpression::new_string)),
    }
}

/// The reference's name for a kind of task: `new_task` of `coding/new-task-v1`.
fn role(workflow: &str) -> String {
    let name = workflow.rsplit('/').next().unwrap_or(workflow);
    let name = match name.rsplit_once("-v") {
        Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => name,
    };
    name.replace('-', "_")
}

#[async_trait]
impl PolicyEngine for CedarPolicy {
    fn name(&self) -> &'static str {
        "cedar"
    }

    async fn judge(&self, request: &PolicyRequest, paths: &dyn PathResolver) -> Result<Judgement, PolicyError> {
        Ok(self.explain(request, paths).await?.judgement)
    }
}
