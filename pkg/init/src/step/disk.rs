//! The root on a disk: what a small initrd does where the kernel's drivers are modules.
//!
//! With `root=` on the kernel's command line, an initramfs that holds `/init` and modules
//! finds the device, mounts it and hands over to the init there. Nothing of the initramfs
//! stays in the way. `rootfstype=`, `rootflags=`, `rw` and `init=` mean what they mean to the
//! kernel.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use moby_bundle::Mount;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_move, unmount};
use rustix::process::{chdir, chroot};

use super::{Done, network, root};
use crate::cmdline::Cmdline;
use crate::error::{Error, Result};
use crate::module::Modules;
use crate::partition::Place;
use crate::record::now;
use crate::world::World;
use crate::{mount, partition};

/// How long the device may take to come, in milliseconds.
const PATIENCE: u64 = 20_000;

/// File systems that are tried without `rootfstype=`.
const KINDS: &[&str] = &["erofs", "squashfs", "ext4", "iso9660", "btrfs", "xfs"];

/// What every whole image has and a small initrd has not.
const IMAGE: &str = "/containers";

/// Where the new root is mounted before it becomes `/`.
const POINT: &str = "/mnt";

pub(super) fn run(world: &mut World) -> Result<Done> {
    // A whole image in memory is the root, whatever the command line says.
    if !root::in_memory()? || Path::new(IMAGE).exists() {
        return Ok(Done::Nothing);
    }
    mount::simple("proc", "/proc", "")?;
    let args = Cmdline::load();
    let Some(wanted) = args.value("root").filter(|wanted| partition::is_known(wanted)) else {
        unmount("/proc", UnmountFlags::DETACH)
            .map_err(|errno| Error::new("unmounting", "/proc", errno))?;
        return Ok(Done::Nothing);
    };
    mount::simple("sysfs", "/sys", "")?;
    mount::simple("devtmpfs", "/dev", "")?;
    world.modules = Modules::open()?;
    world.modules.survey();
    world.reactor.listen(network::device_events()?);
    world.modules.devices();
    let device = wait(world, "the root", wanted)?.device(&mut world.modules)?;
    attach(world, &device, &args)?;
    Err(enter(&args))
}

/// Waits for the device; its events wake us, and drivers load as they come.
pub(super) fn wait(world: &mut World, what: &str, wanted: &str) -> Result<Place> {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(place) = partition::find(wanted) {
            return Ok(place);
        }
        let left = deadline.saturating_sub(now());
        if left == 0 {
            let seconds = PATIENCE / 1000;
            let cause = format!("it did not come within {seconds} s");
            return Err(Error::text("waiting for", format_args!("{what} {wanted}"), cause));
        }
        // A device is there some moments after its event.
        world.turn(Some(left.min(100)));
    }
}

fn attach(world: &mut World, device: &Path, args: &Cmdline) -> Result<()> {
    let chosen = args.value("rootfstype").map(|kinds| kinds.split(',').collect::<Vec<_>>());
    let kinds = chosen.unwrap_or_else(|| KINDS.to_vec());
    let mut options: Vec<String> = args
        .value("rootflags")
        .into_iter()
        .flat_map(|flags| flags.split(','))
        .map(str::to_owned)
        .collect();
    options.push(if args.has("rw") { "rw" } else { "ro" }.to_owned());
    fs::create_dir_all(POINT).map_err(|error| Error::io("making the folder", POINT, &error))?;
    for kind in &kinds {
        // One that is built in has no module, and one that is neither fails to mount.
        world.modules.load(&format!("fs-{kind}"))?;
        let mount = Mount {
            source: device.display().to_string(),
            kind: (*kind).to_owned(),
            options: options.clone(),
            ..Mount::default()
        };
        match mount::make(&mount, Path::new(POINT)) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::NODEV)) => {}
            Err(error) => return Err(error),
        }
    }
    let cause = format!("it is none of {}", kinds.join(", "));
    Err(Error::text("mounting the root", device.display(), cause))
}

/// Makes the new root `/` and becomes its init; comes back only with an error.
fn enter(args: &Cmdline) -> Error {
    let moved = || -> rustix::io::Result<()> {
        // The init there takes a mounted /proc for the sign of a container.
        for place in ["/proc", "/sys", "/dev"] {
            unmount(place, UnmountFlags::DETACH)?;
        }
        chdir(POINT)?;
        mount_move(".", "/")?;
        chroot(".")?;
        chdir("/")
    };
    if let Err(errno) = moved() {
        return Error::new("entering", "the root", errno);
    }
    let places = args.value("init").into_iter().chain(["/init", "/sbin/init"]);
    let Some(init) = places.into_iter().find(|place| Path::new(place).exists()) else {
        return Error::text("starting", "init", "the root has neither /init nor /sbin/init");
    };
    Error::io("starting", init, &Command::new(init).exec())
}
