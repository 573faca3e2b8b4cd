//! The reference's vectors, on Cedar itself: what they pin is the engine's own semantics, errors skipped included.

use std::path::Path;
use std::str::FromStr;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet, Request};
use serde_json::Value;

fn uid(value: &Value) -> EntityUid {
    let kind = EntityTypeName::from_str(value["type"].as_str().unwrap()).unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(value["id"].as_str().unwrap()))
}

#[test]
fn every_vector_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cedar-parity");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 9);
    for file in files {
        let vector: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let policies = PolicySet::from_str(vector["policies"].as_str().unwrap()).unwrap();
        let input = &vector["input"];
        let context = Context::from_json_value(input["context"].clone(), None).unwrap();
        let (principal, action, resource) = (uid(&input["principal"]), uid(&input["action"]), uid(&input["resource"]));
        let request = Request::new(principal, action, resource, context, None).unwrap();
        let answer = Authorizer::new().is_authorized(&request, &policies, &Entities::empty());
        let decision = match answer.decision() {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        };
        let rule = |id: &cedar_policy::PolicyId| policies.annotation(id, "rule_id").unwrap().to_owned();
        let mut ids: Vec<String> = answer.diagnostics().reason().map(rule).collect();
        ids.sort();
        let expected = &vector["expected"];
        assert_eq!(decision, expected["decision"].as_str().unwrap(), "{}", file.display());
        assert_eq!(serde_json::to_value(ids).unwrap(), expected["matching_rule_ids"], "{}", file.display());
    }
}
