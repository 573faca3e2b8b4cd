//! A change of one item, as the service's expressions.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Item, Key};

/// What changes, and when it may.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) key: Key,
    set: BTreeMap<String, AttributeValue>,
    remove: Vec<String>,
    add: BTreeMap<String, AttributeValue>,
    delete: BTreeMap<String, AttributeValue>,
    conditions: Vec<String>,
    operands: BTreeMap<String, AttributeValue>,
}

/// The expressions of an [`Edit`]; maps that would be empty are `None`, which the service insists on.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) update: String,
    pub(super) condition: Option<String>,
    pub(super) names: Option<HashMap<String, String>>,
    pub(super) values: Option<HashMap<String, AttributeValue>>,
}

impl Edit {
    pub(super) const fn new(key: Key) -> Self {
        Self {
            key,
            set: BTreeMap::new(),
            remove: Vec::new(),
            add: BTreeMap::new(),
            delete: BTreeMap::new(),
            conditions: Vec::new(),
            operands: BTreeMap::new(),
        }
    }

    /// What makes the one item the other.
    pub(super) fn between(key: Key, before: &Item, after: &Item) -> Self {
        let mut edit = Self::new(key);
        for (name, value) in after {
            if before.get(name) != Some(value) {
                edit.set.insert(name.clone(), value.clone());
            }
        }
        edit.remove = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
        edit.remove.sort();
        edit
    }

    pub(super) fn set(mut self, name: &str, value: AttributeValue) -> Self {
        self.set.insert(name.to_owned(), value);
        self
    }

    pub(super) fn remove(mut self, name: &str) -> Self {
        self.remove.push(name.to_owned());
        self
    }

    /// Adds to a number or a set.
    pub(super) fn add(mut self, name: &str, value: AttributeValue) -> Self {
        self.add.insert(name.to_owned(), value);
        self
    }

    /// Deletes from a set.
    pub(super) fn delete(mut self, name: &str, value: AttributeValue) -> Self {
        self.delete.insert(name.to_owned(), value);
        self
    }

    /// Only when this holds too: attributes are written `#name`, operands `:name`.
    pub(super) fn when(mut self, condition: &str, operands: &[(&str, AttributeValue)]) -> Self {
        self.conditions.push(condition.to_owned());
        self.operands.extend(operands.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self
    }

    /// Only while an attribute is what it was read as.
    pub(super) fn unchanged(self, name: &str, before: &Item) -> Self {
        match before.get(name) {
            Some(value) => self.when(&format!("#{name} = :was_{name}"), &[(&format!(":was_{name}"), value.clone())]),
            None => self.when(&format!("attribute_not_exists(#{name})"), &[]),
        }
    }

    /// Whether it changes this attribute.
    pub(super) fn touches(&self, name: &str) -> bool {
        self.set.contains_key(name) || self.remove.iter().any(|r| r == name)
    }

    pub(super) fn built(&self) -> Built {
        let mut names = HashMap::new();
        let mut values: HashMap<String, AttributeValue> =
            self.operands.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        let mut update = String::new();
        let mut clause = |verb: &str, entries: Vec<String>| {
            if !entries.is_empty() {
                update.push_str(&format!("{verb} {} ", entries.join(", ")));
            }
        };
        let mut name = |name: &str| {
            names.insert(format!("#{name}"), name.to_owned());
            format!("#{name}")
        };
        let mut value = |verb: &str, name: &str, v: &AttributeValue| {
            let place = format!(":{verb}_{name}");
            values.insert(place.clone(), v.clone());
            place
        };
        clause("SET", self.set.iter().map(|(n, v)| format!("{} = {}", name(n), value("set", n, v))).collect());
        clause("REMOVE", self.remove.iter().map(|n| name(n)).collect());
        clause("ADD", self.add.iter().map(|(n, v)| format!("{} {}", name(n), value("add", n, v))).collect());
        clause("DELETE", self.delete.iter().map(|(n, v)| format!("{} {}", name(n), value("del", n, v))).collect());
        for condition in &self.conditions {
            let mut rest = condition.as_str();
            while let Some((_, after)) = rest.split_once('#') {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
                let (attribute, left) = after.split_at(end);
                name(attribute);
                rest = left;
            }
        }
        let conditions: Vec<String> = self.conditions.iter().map(|c| format!("({c})")).collect();
        Built {
            update: update.trim_end().to_owned(),
            condition: (!conditions.is_empty()).then(|| conditions.join(" AND ")),
            names: (!names.is_empty()).then_some(names),
            values: (!values.is_empty()).then_some(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{n, s};
    use super::*;

    #[test]
    fn a_difference_is_set_and_removed_under_its_conditions() {
        let before = Item::from([("a".to_owned(), s("1")), ("b".to_owned(), s("2")), ("c".to_owned(), s("3"))]);
        let after = Item::from([("a".to_owned(), s("1")), ("b".to_owned(), s("9"))]);
        let edit = Edit::between(Key::new("p", "s"), &before, &after).add("n", n(1)).unchanged("v", &before);
        let built = edit.built();
        assert_eq!(built.update, "SET #b = :set_b REMOVE #c ADD #n :add_n");
        assert_eq!(built.condition.as_deref(), Some("(attribute_not_exists(#v))"));
        let mut names: Vec<String> = built.names.unwrap().into_values().collect();
        names.sort();
        assert_eq!(names, ["b", "c", "n", "v"]);
        assert_eq!(built.values.unwrap().len(), 2);
        assert!(edit.touches("c") && !edit.touches("a"));
    }
}
