//! The folders of bundles, in the order of their names.

use std::fs;
use std::path::{Path, PathBuf};

/// Lists (name, path) of the folders in `dir`, sorted; none where it does not exist.
pub fn bundles(dir: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    found.sort();
    found
}

/// Lists the paths in `dir`, sorted by name; none where it does not exist.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    found.sort();
    found
}
