//! What a command leaves behind: files, and what is printed.

use std::path::Path;

use serde_json::Value;

/// What remains to be printed.
pub(crate) struct Written {
    pub(crate) stdout: String,
    pub(crate) notes: Vec<String>,
    /// All records were acknowledged, and there were some.
    pub(crate) is_complete: bool,
}

impl Written {
    /// A result as text, or as JSON in its place (-) or beside it.
    pub(crate) fn result(
        text: String,
        value: &Value,
        json: Option<&Path>,
        is_complete: bool,
    ) -> Result<Written, String> {
        let mut written = Written { stdout: text, notes: Vec::new(), is_complete };
        match json {
            Some(path) if path.as_os_str() == "-" => written.stdout = format!("{value:#}\n"),
            Some(path) => written.notes.push(write(path, format!("{value:#}\n").as_bytes())?),
            None => {}
        }
        Ok(written)
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<String, String> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: cannot be written ({e}).", path.display()))?;
    Ok(format!("wrote {}", path.display()))
}
