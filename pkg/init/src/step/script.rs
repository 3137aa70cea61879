//! LinuxKit's `/etc/init.d`: programs that packages bring for the boot.
//!
//! LinuxKit's own links to `service` (005-volumes, 010-onboot, 020-containerd) stand for
//! steps of ours and are passed over, as is 000-issue, which needs a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Done, each};
use crate::error::{Error, Result};
use crate::order;
use crate::output::Output;
use crate::world::World;

/// The scripts at boot.
const BOOT: &str = "/etc/init.d";
/// The scripts on the way down.
const DOWN: &str = "/etc/shutdown.d";
/// LinuxKit's name of the onboot containers, between early and late scripts.
const ONBOOT: &str = "010-onboot";

pub(super) fn early(world: &mut World) -> Result<Done> {
    run(world, scripts(BOOT, |name| name < ONBOOT))
}

pub(super) fn late(world: &mut World) -> Result<Done> {
    run(world, scripts(BOOT, |name| name >= ONBOOT))
}

/// Runs the scripts for the way down.
pub(super) fn down(world: &mut World) -> Result<Done> {
    run(world, scripts(DOWN, |_| true))
}

fn scripts(dir: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = order::files(Path::new(dir));
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_file() && wanted(name) && !is_ours(name, fs::read_link(path).ok().as_deref())
    });
    found
}

fn is_ours(name: &str, target: Option<&Path>) -> bool {
    let service = target.and_then(Path::file_name).is_some_and(|file| file == "service");
    service || name == "000-issue"
}

fn run(world: &mut World, scripts: Vec<PathBuf>) -> Result<Done> {
    if scripts.is_empty() {
        return Ok(Done::Nothing);
    }
    each(scripts, |path| match world.run(&mut Command::new(&path), &Output::Console)? {
        (0, _) => Ok(()),
        (code, _) => Err(Error::text("running", path.display(), format_args!("exit code {code}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_are_passed_over() {
        assert!(is_ours("010-onboot", Some(Path::new("/usr/bin/service"))));
        assert!(is_ours("000-issue", None));
        assert!(!is_ours("002-memlogd", None));
        assert!(!is_ours("002-x", Some(Path::new("/usr/bin/other"))));
    }
}
