//! A root that can be pivoted away from.
//!
//! runc's pivot_root(2) fails on the kernel's own rootfs. LinuxKit copies every file into a
//! new tmpfs; here the same files are bound to a mount point and that mount is moved onto `/`,
//! which copies nothing and costs no memory. Running on as the same process is enough: init
//! is static and holds no file of the old root but the console.

use std::fs;

use rustix::fs::statfs;
use rustix::mount::{mount_bind, mount_move};
use rustix::process::{chdir, chroot};

use super::Done;
use crate::error::{Error, Result};
use crate::world::World;

/// ramfs, linux/magic.h.
const RAMFS: i64 = 0x8584_58f6;
/// tmpfs, linux/magic.h.
const TMPFS: i64 = 0x0102_1994;

/// A folder that a tmpfs will cover soon.
const POINT: &str = "/run";

/// Tells whether the root is the kernel's own, in memory.
pub(super) fn in_memory() -> Result<bool> {
    let kind = statfs("/").map_err(|errno| Error::new("looking at", "/", errno))?.f_type;
    Ok(kind == RAMFS || kind == TMPFS)
}

pub(super) fn run(_: &mut World) -> Result<Done> {
    if !in_memory()? {
        return Ok(Done::Nothing);
    }
    fs::create_dir_all(POINT).map_err(|error| Error::io("making the folder", POINT, &error))?;
    mount_bind("/", POINT).map_err(|errno| Error::new("binding / at", POINT, errno))?;
    let fail = |doing| move |errno| Error::new(doing, POINT, errno);
    chdir(POINT).map_err(fail("entering"))?;
    mount_move(".", "/").map_err(fail("moving to / the mount"))?;
    chroot(".").map_err(fail("making the root"))?;
    chdir("/").map_err(fail("entering the new root at"))?;
    Ok(Done::Yes)
}
