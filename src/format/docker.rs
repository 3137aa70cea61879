//! `docker`: the root file system as a build context, with a Dockerfile.

use anyhow::Result;

use super::tar::archive;
use super::{Format, Output};
use crate::env::EPOCH;
use crate::system::System;
use crate::tree::{Inode, Kind, Metadata};

pub(super) const FORMAT: Format = Format {
    name: "docker",
    about: "a tar archive that `docker build -` takes",
    files: &[".docker"],
    single: true,
    loaders: &[],
    write,
};

const DOCKERFILE: &str = "\nFROM scratch\n\nCOPY . ./\n\nENTRYPOINT [\"/bin/rc.init\"]\n";

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let mut tree = system.tree.clone();
    let meta = Metadata::root(0o644, EPOCH);
    let kind = Kind::bytes(DOCKERFILE.as_bytes());
    tree.insert(b"Dockerfile", Inode { meta, kind, part: 0 })?;
    archive(system, &tree, output, ".docker")
}
