//! What a command leaves behind: files, and what is printed.

use std::path::Path;

/// What remains to be printed.
pub struct Written {
    pub stdout: String,
    pub notes: Vec<String>,
    /// All records were acknowledged, and there were some.
    pub is_complete: bool,
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<String, String> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: cannot be written ({e}).", path.display()))?;
    Ok(format!("wrote {}", path.display()))
}
