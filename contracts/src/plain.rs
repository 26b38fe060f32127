//! YAML files that are no contracts: the same strict reading (no anchors, no duplicate keys, no tags),
//! for settings that other crates decode.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Report};
use crate::yaml;

/// Reads a YAML (or JSON) file of one document; an empty one is null.
///
/// # Errors
///
/// What is no YAML of the plain kind, with line and column.
pub fn yaml_to_json(path: &Path, text: &str) -> Result<serde_json::Value, Vec<Diagnostic>> {
    let files: [PathBuf; 1] = [path.to_path_buf()];
    let mut report = Report::default();
    let documents = yaml::parse(0, text, &mut report);
    if let Some(second) = documents.get(1) {
        report.error(second.root.at, "a second document begins here", "remove the `---`");
    }
    if !report.is_empty() {
        return Err(report.into_diagnostics(&files));
    }
    Ok(documents.first().map_or(serde_json::Value::Null, |document| document.root.to_json()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<serde_json::Value, String> {
        yaml_to_json(Path::new("a.yaml"), text).map_err(|all| all[0].to_string())
    }

    #[test]
    fn settings_are_read_strictly() {
        let json = serde_json::json!({"a": [1, "1", true, null], "b": {"c": "x y"}});
        assert_eq!(read("a: [1, '1', true, null]\nb: {c: x y}\n"), Ok(json.clone()));
        assert_eq!(read(&json.to_string()), Ok(json));
        assert_eq!(read(""), Ok(serde_json::Value::Null));
        assert!(read("a: 1\na: 2\n").unwrap_err().contains("a.yaml:2"));
        assert!(read("a: [1").unwrap_err().contains("a.yaml:"));
        assert!(read("a: 1\n---\nb: 2\n").unwrap_err().contains("second document"));
    }
}
