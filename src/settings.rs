//! What an operator sets, as one file: for every task, and for the tasks of single repositories.

use std::collections::BTreeMap;
use std::path::Path;

use abca_core::blueprint::{Blueprint, PlatformDefaults};
use abca_core::git::RepoRef;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Longest settings file, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// What an operator sets, as JSON: `{"platform": {…}, "repositories": {"/path/or/owner/name": {…}}}`. Every field is optional,
/// an unknown one is an error. For a task, what it says itself counts first, then its repository, then the platform; it is
/// frozen into the task when it is submitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// For every task: [`crate::Builder::platform`].
    pub platform: PlatformDefaults,
    /// For the tasks of single repositories: [`crate::Builder::repositories`].
    pub repositories: BTreeMap<RepoRef, Blueprint>,
}

impl Settings {
    /// Reads a file of at most 1 MiB. Whether the values are in their ranges is checked by [`crate::Builder::build`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the file, the line and the column.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let cannot = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Invalid, format!("the settings `{}` cannot be used: {why}", file.display()))
        };
        if std::fs::metadata(file).map_err(|e| cannot(&e))?.len() > MOST_BYTES {
            return Err(cannot(&"they are longer than 1 MiB"));
        }
        let text = std::fs::read_to_string(file).map_err(|e| cannot(&e))?;
        serde_json::from_str(&text).map_err(|e| cannot(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_book_is_understood() {
        let page = include_str!("../docs/src/operating.md");
        let json = page.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert_eq!(settings.repositories.len(), 2);
        settings.platform.check().unwrap();
        for blueprint in settings.repositories.values() {
            blueprint.check(&settings.platform).unwrap();
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.json");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Settings::read(&file)
        };
        let settings =
            read(r#"{"repositories": {"o/r": {"cedar_policies": ["forbid (principal, action, resource);"]}}}"#);
        let repo: RepoRef = "o/r".parse().unwrap();
        assert_eq!(settings.unwrap().repositories[&repo].cedar_policies.len(), 1);
        for (text, expected) in [
            ("{\n \"platfrom\": {}}", "unknown field `platfrom`, expected `platform` or `repositories` at line 2"),
            (r#"{"repositories": {"nowhere": {}}}"#, "`nowhere` is not a repository"),
            (r#"{"platform": {"screening": {"personal": ["mail"]}}}"#, "unknown variant `mail`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("settings.json"), "{error}");
        }
        assert!(Settings::read(&dir.path().join("none")).unwrap_err().to_string().contains("No such file"));
    }
}
