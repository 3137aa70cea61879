//! The way down: services, onshutdown containers, containerd, everything else, mounts, off.

use std::fs;

use moby_bundle::path;
use rustix::fs::sync;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::Signal;
use rustix::system::{RebootCommand, reboot};

use crate::console::say;
use crate::record::now;
use crate::world::{Action, STOP, World, kill};
use crate::{container, mount, port, step, sys};

/// How long the service manager may take for all services, in milliseconds.
const SERVICES: u64 = 30_000;

/// Takes the system down. Never comes back, but where the kernel refuses the last step.
pub fn run(world: &mut World, action: Action) {
    world.leaving = true;
    world.record.finish();
    say("stopping services");
    stop(world, "service", SERVICES);
    container::all(world, container::ONSHUTDOWN, |_| true);
    if let Err(error) = step::scripts_down(world) {
        say(error);
    }
    world.record.save();
    stop(world, "containerd", STOP);
    end_all(world);
    // The file is on a tmpfs that stays; it is read before anything is taken away.
    let exit = world.record.exit();
    if !world.contained {
        unmount_all();
    }
    sync();
    say(format_args!("{}, exit code {}", action.name(), exit.exit));
    let line = serde_json::to_string(&exit).expect("a number is JSON") + "\n";
    port::send(path::EXIT_PORT, &line).unwrap_or_else(say);
    if world.contained {
        std::process::exit(exit.exit);
    }
    let command = match action {
        Action::Poweroff => RebootCommand::PowerOff,
        Action::Halt => RebootCommand::Halt,
        Action::Reboot => RebootCommand::Restart,
    };
    if let Err(errno) = reboot(command) {
        say(format_args!("{}: {errno}", action.name()));
    }
}

/// Ends a daemon: SIGTERM, and SIGKILL when its time is over.
fn stop(world: &mut World, name: &str, patience: u64) {
    let pid = |world: &World| world.daemons.iter().find(|daemon| daemon.name == name)?.pid();
    for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, STOP)] {
        let Some(pid) = pid(world) else { return };
        // One that is gone is about to be reaped.
        let _gone = kill(pid, signal);
        let deadline = now() + patience;
        while self::still(world, pid) && now() < deadline {
            world.turn(Some(deadline.saturating_sub(now())));
        }
    }
}

fn still(world: &World, pid: u32) -> bool {
    world.daemons.iter().any(|daemon| daemon.pid() == Some(pid))
}

/// Ends every process: SIGTERM, two seconds, SIGKILL.
fn end_all(world: &mut World) {
    sys::kill_all(libc::SIGTERM);
    let deadline = now() + 2000;
    while others() && now() < deadline {
        // Orphans come to init and wake it; a look now and then finds the others gone.
        world.turn(Some(100));
    }
    sys::kill_all(libc::SIGKILL);
    let deadline = now() + 1000;
    while others() && now() < deadline {
        world.turn(Some(50));
    }
}

/// Tells whether any process but init has a program: kernel threads have an empty command line.
fn others() -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pids =
        names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()) && name != "1");
    pids.any(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()))
}

/// File systems that live in memory or in the kernel: nothing is lost with them.
const PASSING: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "configfs",
    "fusectl",
    "selinuxfs",
    "pstore",
    "bpf",
    "efivarfs",
    "binfmt_misc",
    "rootfs",
    "ramfs",
    "nsfs",
    "tracefs",
];

/// Takes away all that holds data, the last first, and makes the root read-only.
fn unmount_all() {
    for mounted in mount::mounted().iter().rev() {
        if mounted.target == "/" || PASSING.contains(&mounted.kind.as_str()) {
            continue;
        }
        let network = matches!(mounted.kind.as_str(), "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs");
        // A server that is gone must not hold us up.
        let flags = if network { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let memory = matches!(mounted.kind.as_str(), "tmpfs" | "overlay");
        if let Err(errno) = unmount(&*mounted.target, flags)
            && !memory
        {
            say(format_args!("unmounting {}: {errno}, making it read-only", mounted.target));
            let _told = mount_remount(&*mounted.target, MountFlags::RDONLY, c"");
        }
    }
    // A root in memory refuses while open files write to it, and has nothing to lose.
    let _refused = mount_remount("/", MountFlags::RDONLY, c"");
}
