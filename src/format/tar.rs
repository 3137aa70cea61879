//! `tar`: the root file system, the kernel below `boot`.
//!
//! Records in the archive tell which image each entry came from, by
//! LinuxKit's keys.

use anyhow::Result;

use super::{Format, Output};
use crate::fs::tar;
use crate::system::System;
use crate::tree::Tree;

pub(super) const FORMAT: Format = Format {
    name: "tar",
    about: "the root file system as a tar archive",
    files: &[".tar"],
    single: true,
    loaders: &[],
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    archive(system, &system.tree, output, ".tar")
}

/// Writes a tree as an archive.
pub(super) fn archive(
    system: &System,
    tree: &Tree,
    output: &mut Output<'_>,
    ending: &str,
) -> Result<()> {
    let records = |part| records(system, part);
    let key = tar::key(tree, &records)?;
    output.stream(ending, Some(key), |out| tar::write(tree, &records, out))
}

/// Returns the records of an entry of a part; the first part stands for none.
fn records(system: &System, part: u32) -> Vec<(&'static str, String)> {
    match system.parts.get(part as usize) {
        Some(known) if part > 0 => vec![
            ("LINUXKIT.source", known.source.clone()),
            ("LINUXKIT.location", known.location.clone()),
        ],
        _ => Vec::new(),
    }
}
