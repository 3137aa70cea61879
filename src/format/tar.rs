//! `tar`: the root file system, the kernel below `boot`.
//!
//! Records in the archive tell which image each entry came from, by
//! LinuxKit's keys.

use anyhow::Result;

use super::{Format, Output};
use crate::fs::tar;
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "tar",
    about: "the root file system as a tar archive",
    files: &[".tar"],
    single: true,
    loaders: &[],
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    output.file_with_key(".tar", |out| tar::write(&system.tree, &|part| records(system, part), out))
}

/// Returns the records of an entry of a part; the first part stands for none.
pub(super) fn records(system: &System, part: u32) -> Vec<(&'static str, String)> {
    match system.parts.get(part as usize) {
        Some(known) if part > 0 => vec![
            ("LINUXKIT.source", known.source.clone()),
            ("LINUXKIT.location", known.location.clone()),
        ],
        _ => Vec::new(),
    }
}
