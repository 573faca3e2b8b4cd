//! The table as data: keys, indexes, and the permissions that its users need.

use abca_core::store::{StoreError, StoreErrorKind};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
};

use super::error::{Request, invalid, of};

/// The layout that this program writes.
pub(super) const VERSION: u32 = 2;

/// Name, partition key and sort key of each index; all project keys only.
pub(super) const INDEXES: [(&str, &str, &str); 5] =
    [("due", "dk", "da"), ("user", "u", "pk"), ("repo", "r", "pk"), ("all", "ak", "pk"), ("feed", "fk", "pk")];

/// Key attributes with their types; all but `da` are strings.
const NUMBER: &str = "da";

fn attributes() -> Vec<&'static str> {
    let mut names = vec!["pk", "sk"];
    for name in INDEXES.iter().flat_map(|(_, hash, range)| [*hash, *range]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What `CreateTable` is given for a table, as JSON: for the AWS CLI (`aws dynamodb create-table --cli-input-json`), for
/// Terraform and the like. On-demand; point-in-time recovery is switched on apart from it, and should be.
pub fn definition(table: &str) -> String {
    let key = |hash: &str, range: &str| {
        serde_json::json!([
            {"AttributeName": hash, "KeyType": "HASH"},
            {"AttributeName": range, "KeyType": "RANGE"}
        ])
    };
    let attributes = attributes().into_iter().map(|name| {
        let kind = if name == NUMBER { "N" } else { "S" };
        serde_json::json!({"AttributeName": name, "AttributeType": kind})
    });
    let indexes = INDEXES.iter().map(|(name, hash, range)| {
        serde_json::json!({
            "IndexName": name,
            "KeySchema": key(hash, range),
            "Projection": {"ProjectionType": "KEYS_ONLY"}
        })
    });
    let table = serde_json::json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": attributes.collect::<Vec<_>>(),
        "KeySchema": key("pk", "sk"),
        "GlobalSecondaryIndexes": indexes.collect::<Vec<_>>()
    });
    format!("{table:#}")
}

/// The least that a worker needs, as an IAM policy in JSON. `table_arn` is e.g.
/// `arn:aws:dynamodb:eu-central-1:123456789012:table/abca`.
///
/// [`super::DynamoDb::init`] needs `dynamodb:CreateTable` and `dynamodb:DescribeTable` besides, once; and
/// [`super::DynamoDb::verify`] the latter. Sessions need nothing of it: they never see database credentials.
pub fn policy(table_arn: &str) -> String {
    let actions = ["BatchGetItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"];
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AbcaTable",
                "Effect": "Allow",
                "Action": actions.map(|a| format!("dynamodb:{a}")),
                "Resource": table_arn
            },
            {
                "Sid": "AbcaIndexes",
                "Effect": "Allow",
                "Action": ["dynamodb:Query"],
                "Resource": format!("{table_arn}/index/*")
            }
        ]
    });
    format!("{policy:#}")
}

fn schema(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, StoreError> {
    let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let both = [element(hash, KeyType::Hash), element(range, KeyType::Range)];
    both.into_iter().map(|e| e.map_err(|e| invalid("init", e.to_string()))).collect()
}

/// Makes the table; `false` when there is one of that name.
pub(super) async fn create(client: &Client, table: &str) -> Result<bool, StoreError> {
    let built = |e: aws_sdk_dynamodb::error::BuildError| invalid("init", e.to_string());
    let mut call = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    for name in attributes() {
        let kind = if name == NUMBER { ScalarAttributeType::N } else { ScalarAttributeType::S };
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
        call = call.attribute_definitions(attribute.map_err(built)?);
    }
    for (name, hash, range) in INDEXES {
        let projection = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        let index = GlobalSecondaryIndex::builder()
            .index_name(name)
            .set_key_schema(Some(schema(hash, range)?))
            .projection(projection)
            .build();
        call = call.global_secondary_indexes(index.map_err(built)?);
    }
    match call.set_key_schema(Some(schema("pk", "sk")?)).send().await {
        Ok(_) => Ok(true),
        Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) => Ok(false),
        Err(e) => Err(of(Request { op: "init", action: "CreateTable", writes: true, table }, &e)),
    }
}

/// Whether table and indexes are there and can be used. `None`: not yet.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] when they are others than this program's.
pub(super) async fn check(client: &Client, table: &str, op: &'static str) -> Result<Option<()>, StoreError> {
    let described = client.describe_table().table_name(table).send().await;
    let request = Request { op, action: "DescribeTable", writes: false, table };
    let described = described.map_err(|e| of(request, &e))?.table;
    let Some(described) = described else {
        return Err(StoreError::new(StoreErrorKind::Unavailable, op, format!("table `{table}` is not described")));
    };
    let faults = faults(&described);
    if !faults.is_empty() {
        let message = format!(
            "table `{table}` is not as this program makes it: {}; use another table, or make what is missing",
            faults.join("; ")
        );
        return Err(StoreError::new(StoreErrorKind::Incompatible, op, message));
    }
    let busy = |status: &IndexStatus| !matches!(status, IndexStatus::Active | IndexStatus::Updating);
    let indexes = described.global_secondary_indexes();
    let waits = !matches!(described.table_status(), Some(TableStatus::Active | TableStatus::Updating))
        || indexes.iter().any(|i| i.index_status().is_some_and(busy));
    Ok((!waits).then_some(()))
}

fn faults(table: &TableDescription) -> Vec<String> {
    let named =
        |schema: &[KeySchemaElement]| -> Vec<String> { schema.iter().map(|k| k.attribute_name().to_owned()).collect() };
    let mut faults = Vec::new();
    if named(table.key_schema()) != ["pk", "sk"] {
        faults.push("its key is not `pk`, `sk`".to_owned());
    }
    for (name, hash, range) in INDEXES {
        let found = table.global_secondary_indexes().iter().find(|i| i.index_name() == Some(name));
        match found {
            None => faults.push(format!("index `{name}` on `{hash}`, `{range}` is missing")),
            Some(index) if named(index.key_schema()) != [hash, range] => {
                faults.push(format!("index `{name}` is not on `{hash}`, `{range}`"));
            }
            Some(_) => {}
        }
    }
    for attribute in table.attribute_definitions() {
        let want = if attribute.attribute_name() == NUMBER { ScalarAttributeType::N } else { ScalarAttributeType::S };
        if *attribute.attribute_type() != want {
            faults.push(format!("attribute `{}` is not of type {want}", attribute.attribute_name()));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_names_every_key_attribute_once() {
        let definition: serde_json::Value = serde_json::from_str(&definition("tasks")).unwrap();
        let names: Vec<&str> = definition["AttributeDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["AttributeName"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["pk", "sk", "dk", "da", "u", "r", "ak", "fk"]);
        assert_eq!(definition["GlobalSecondaryIndexes"].as_array().unwrap().len(), INDEXES.len());
    }

    #[test]
    fn the_policy_grants_no_table_management() {
        let policy = policy("arn:aws:dynamodb:eu-central-1:123456789012:table/abca");
        for too_much in ["CreateTable", "DeleteTable", "UpdateTable", "Scan", "dynamodb:*"] {
            assert!(!policy.contains(too_much), "{too_much}");
        }
        assert!(policy.contains("table/abca/index/*"));
    }
}
