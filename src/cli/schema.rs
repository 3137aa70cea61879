//! `moby schema`: the JSON schema of manifests.

use anyhow::Result;

use super::{Global, ui};
use crate::manifest;

/// Print the JSON schema of manifests, for editors and checkers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: Args, _: &Global) -> Result<()> {
    ui::json(&manifest::schema())
}
