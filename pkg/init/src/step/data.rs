//! The data partition: what `moby.data=` names becomes `/var`. With `moby.grow` it first
//! grows to the end of its disk, and its file system with it.
//!
//! Whatever fails, there is a `/var`: in memory if need be.

use std::fs::File;
use std::path::{Path, PathBuf};

use moby_bundle::{Mount, path};

use super::{Done, disk, filesystem};
use crate::error::{Error, Result};
use crate::partition::Place;
use crate::world::World;
use crate::{grow, mount, sys};

const VAR: &str = "/var";
/// Size of a block of the file systems that moby makes, in bytes.
const BLOCK: u64 = 4096;

pub(super) fn run(world: &mut World) -> Result<Done> {
    let Some(wanted) = world.args.value(path::ARG_DATA).map(str::to_owned) else {
        return Ok(Done::Nothing);
    };
    let found = attach(world, &wanted);
    if found.is_err() {
        filesystem::var_in_memory()?;
    }
    filesystem::var()?;
    let size = found?;
    if world.args.has(path::ARG_GROW) {
        fill(size?)?;
    }
    Ok(Done::Yes)
}

/// Mounts the partition; gives its size in bytes, or why it did not grow.
fn attach(world: &mut World, wanted: &str) -> Result<Result<u64>> {
    let device = match disk::wait(world, "the data", wanted)? {
        Place::Device(device) => device,
        Place::Part(disc, ..) => {
            let cause = "it is on a disc, which cannot be written to";
            return Err(Error::text("mounting the data", disc.display(), cause));
        }
    };
    let size = block(&device).and_then(|block| match world.args.has(path::ARG_GROW) {
        true => grow::partition(&block),
        false => Ok(0),
    });
    // One that is built in has no module.
    world.modules.load("fs-ext4")?;
    let mount = Mount {
        source: device.display().to_string(),
        kind: "ext4".to_owned(),
        options: ["nodev", "nosuid", "relatime"].map(str::to_owned).to_vec(),
        ..Mount::default()
    };
    mount::make(&mount, Path::new(VAR)).map(|()| size)
}

/// Gives the device's folder in `/sys`.
fn block(device: &Path) -> Result<PathBuf> {
    let name = device.file_name().unwrap_or_default();
    let folder = Path::new("/sys/class/block").join(name);
    std::fs::canonicalize(&folder).map_err(|error| Error::io("finding", folder.display(), &error))
}

/// Lets the file system fill its partition, should it not do so already.
fn fill(size: u64) -> Result<()> {
    let fail = |error| Error::io("growing the file system of", VAR, &error);
    let folder = File::open(VAR).map_err(fail)?;
    sys::resize_ext4(&folder, size / BLOCK).map_err(fail)
}
