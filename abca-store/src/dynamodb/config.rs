//! Where the table is and how it is reached.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

/// Fixed credentials of AWS.
#[derive(Clone)]
#[non_exhaustive]
pub struct DynamoDbKeys {
    /// The access key's id; it is no secret.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: SecretString,
    /// For temporary credentials.
    pub session_token: Option<SecretString>,
}

impl DynamoDbKeys {
    /// Long-lived keys.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<SecretString>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into(), session_token: None }
    }
}

impl fmt::Debug for DynamoDbKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbKeys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// How a [`super::DynamoDb`] reaches its table.
///
/// What is left open comes from the usual chain of AWS: environment (also `AWS_ENDPOINT_URL` and
/// `AWS_ENDPOINT_URL_DYNAMODB`), profile, web identity, instance. With a region and keys given nothing of that is read.
/// This build of the SDK knows neither SSO nor credential processes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DynamoDbConfig {
    /// The table's name: 3 to 255 letters, digits, `_`, `-` and `.`.
    pub table: String,
    /// The region.
    pub region: Option<String>,
    /// Another endpoint, e.g. a VPC endpoint or an emulator.
    pub endpoint_url: Option<String>,
    /// The profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// Fixed credentials.
    pub keys: Option<DynamoDbKeys>,
    /// How often a request is sent at most while the service is busy or does not answer. Default 4.
    pub attempts: u32,
    /// Longest wait for a connection. Default 3 s.
    pub connect_timeout: Duration,
    /// Longest wait for one answer. Default 5 s.
    pub timeout: Duration,
    /// Into how many partitions the index of due tasks is spread: each takes some 1 000 index writes a second, and each is
    /// asked at every look for work. Read by [`super::DynamoDb::init`] only, which writes it down in the table; from 1 to
    /// 256, default 4.
    pub shards: u32,
    /// A scope without an order (system, repository, backend) is cut into parts once it is asked for under a cap of so many:
    /// parts are items of their own, which take admissions side by side, while a scope of one item takes some 500 a second.
    /// Default 100; `u32::MAX` for never. What is cut stays so, for every process.
    pub cut_from: u32,
    /// About how many slots a part has, from 1 on; there are at most [`super::MOST_PARTS`] parts. Default 32: what fits into
    /// one write unit.
    pub slots_a_part: u32,
}

impl DynamoDbConfig {
    /// A table, reached with what the surroundings say.
    pub fn table(name: impl Into<String>) -> Self {
        Self {
            table: name.into(),
            region: None,
            endpoint_url: None,
            profile: None,
            keys: None,
            attempts: 4,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            shards: 4,
            cut_from: 100,
            slots_a_part: 32,
        }
    }

    /// In this region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// At this endpoint.
    #[must_use]
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// With these credentials.
    #[must_use]
    pub fn keys(mut self, keys: DynamoDbKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Why the configuration cannot be used, if so.
    pub(super) fn fault(&self) -> Option<String> {
        let name = &self.table;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if !(3..=255).contains(&name.len()) || !name.bytes().all(fits) {
            let shown: String = name.chars().take(64).collect();
            return Some(format!("`{shown}` is no table name: use 3 to 255 letters, digits, `_`, `-` and `.`"));
        }
        if !(1..=256).contains(&self.shards) {
            return Some(format!("`shards` is {}: set it from 1 to 256", self.shards));
        }
        if self.slots_a_part == 0 {
            return Some("`slots_a_part` is 0: set it from 1 on".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let keys = DynamoDbKeys::new("AKIDEXAMPLE", "hush-hush".to_owned());
        let shown = format!("{:?}", DynamoDbConfig::table("abca").keys(keys));
        assert!(shown.contains("AKIDEXAMPLE") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        assert_eq!(DynamoDbConfig::table("abca-tasks_1.x").fault(), None);
        for name in ["", "ab", "a b c", "tasks/1", &"x".repeat(256)] {
            assert!(DynamoDbConfig::table(name).fault().is_some(), "{name}");
        }
    }
}
