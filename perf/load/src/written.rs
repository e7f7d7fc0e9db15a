//! What a command leaves behind: files, and what is printed.

use std::path::Path;

/// What remains to be printed.
pub(crate) struct Written {
    pub(crate) stdout: String,
    pub(crate) notes: Vec<String>,
    /// All records were acknowledged, and there were some.
    pub(crate) is_complete: bool,
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<String, String> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: cannot be written ({e}).", path.display()))?;
    Ok(format!("wrote {}", path.display()))
}
