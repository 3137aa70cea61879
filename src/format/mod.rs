//! What a system is written as: one file and one row in [`FORMATS`] each.
//!
//! Help, validation, the README's table, and the tests for reproducibility,
//! foreign judges and boots iterate the table.

mod compression;
mod docker;
mod initrd;
mod kernel_initrd;
mod output;
mod pending;
mod tar;
mod tar_kernel_initrd;

use anyhow::Result;

use crate::system::System;

pub use compression::Compression;
pub use output::{Options, Output, Target, Written, write_with};
pub use pending::abandon;

/// A form that a system can be written in.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name on the command line; LinuxKit's where it has one.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The endings of the files that it writes, behind the build's name.
    pub files: &'static [&'static str],
    /// Whether it is one file that can go to standard output. LinuxKit writes
    /// such a format only alone.
    pub single: bool,
    /// Writes a system.
    pub write: fn(&System, &mut Output<'_>) -> Result<()>,
}

/// All formats, in the order in which people are shown them.
pub const FORMATS: &[Format] =
    &[kernel_initrd::FORMAT, tar_kernel_initrd::FORMAT, tar::FORMAT, docker::FORMAT];

/// What is written where nothing is asked for.
pub const DEFAULT: &str = kernel_initrd::FORMAT.name;

/// Finds a format by its name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
