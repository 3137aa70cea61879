//! Paths of a tree: bytes, split at slashes, never upwards.

use anyhow::{Result, ensure};

/// The longest name that Linux file systems hold, in bytes.
pub(super) const NAME_MAX: usize = 255;
/// The longest path that Linux takes, in bytes.
const PATH_MAX: usize = 4096;

/// Splits a path into its names. Empty names and `.` are left out; `..`, NUL
/// bytes and names or paths longer than Linux takes are errors.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let shown = || String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
    ensure!(path.len() <= PATH_MAX, "expected a path of at most {PATH_MAX} bytes: `{}`…", shown());
    ensure!(!path.contains(&0), "expected a path without NUL bytes, got `{}`", shown());
    let names: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    for name in &names {
        ensure!(*name != b"..", "expected a path without `..`, got `{}`", shown());
        ensure!(
            name.len() <= NAME_MAX,
            "expected names of at most {NAME_MAX} bytes in `{}`",
            shown()
        );
    }
    Ok(names)
}

/// Splits a path into its parents and its last name; the root has no name.
pub fn parent_and_name(path: &[u8]) -> Result<(Vec<&[u8]>, Option<&[u8]>)> {
    let mut names = components(path)?;
    let name = names.pop();
    Ok((names, name))
}

/// Joins two paths with one slash, or none where either is empty.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    if dir.is_empty() {
        return name.to_vec();
    }
    if name.is_empty() {
        return dir.to_vec();
    }
    [dir, b"/", name].concat()
}
