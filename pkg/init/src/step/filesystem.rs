//! The kernel's file systems, `/dev`, control groups.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use moby_bundle::path;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use super::{Done, each, root, write};
use crate::cmdline::Cmdline;
use crate::error::{Error, Result};
use crate::mount;
use crate::world::World;

const VAR: &str = "/var";
const VAR_OPTIONS: &str = "nodev,nosuid,noexec,relatime,size=50%,mode=755";

/// (type, place, options) that every system needs, LinuxKit's own options.
const NEEDED: &[(&str, &str, &str)] = &[
    ("proc", "/proc", "nodev,nosuid,noexec,relatime"),
    ("sysfs", "/sys", "nodev,nosuid,noexec,relatime"),
    ("devtmpfs", "/dev", "nosuid,noexec,relatime,mode=755"),
    ("tmpfs", "/run", "nodev,nosuid,noexec,relatime,size=10%,mode=755"),
    ("tmpfs", "/tmp", "nodev,nosuid,noexec,relatime,size=10%,mode=1777"),
    ("tmpfs", VAR, VAR_OPTIONS),
    ("mqueue", "/dev/mqueue", "nodev,nosuid,noexec"),
    ("tmpfs", "/dev/shm", "nodev,nosuid,noexec,mode=1777"),
    ("devpts", "/dev/pts", "nosuid,noexec,gid=5,mode=0620,ptmxmode=0666"),
];

/// Those that a kernel may lack; their places are the kernel's to make.
const WELCOME: &[(&str, &str, &str)] = &[
    ("securityfs", "/sys/kernel/security", "nodev,nosuid,noexec"),
    ("debugfs", "/sys/kernel/debug", "nodev,nosuid,noexec"),
    ("configfs", "/sys/kernel/config", "nodev,nosuid,noexec"),
    ("fusectl", "/sys/fs/fuse/connections", "nodev,nosuid,noexec"),
    ("selinuxfs", "/sys/fs/selinux", "nosuid,noexec"),
    ("pstore", "/sys/fs/pstore", "nodev,nosuid,noexec"),
    ("bpf", "/sys/fs/bpf", "nodev,nosuid,noexec,mode=700"),
    ("efivarfs", "/sys/firmware/efi/efivars", "nodev,nosuid,noexec"),
    ("binfmt_misc", "/proc/sys/fs/binfmt_misc", "nodev,nosuid,noexec"),
];

/// Folders of a fresh `/var`, with their modes.
const VAR_FOLDERS: &[(&str, u32)] = &[
    ("cache", 0o755),
    ("empty", 0o555),
    ("lib", 0o755),
    ("local", 0o755),
    ("lock", 0o755),
    ("log", 0o755),
    ("opt", 0o755),
    ("spool", 0o755),
    ("tmp", 0o1777),
];

pub(super) fn mounts(world: &mut World) -> Result<Done> {
    let done = each(NEEDED, |(kind, place, options)| {
        // A /var that is a file system of its own already stays, and one on a partition comes.
        let own = || is_mounted(place) || Cmdline::load().value(path::ARG_DATA).is_some();
        if *place == VAR && own() {
            return Ok(());
        }
        mount::simple(kind, place, options)
    });
    for (kind, place, options) in WELCOME {
        if Path::new(place).is_dir() {
            // Kernels differ in which of them they have.
            let _absent = mount::simple(kind, place, options);
        }
    }
    world.args = Cmdline::load();
    fs::create_dir_all(path::RUN)
        .map_err(|error| Error::io("making the folder", path::RUN, &error))?;
    if world.args.value(path::ARG_DATA).is_none() {
        var()?;
    }
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|errno| Error::new("sharing", "/", errno))?;
    done
}

fn is_mounted(place: &str) -> bool {
    mount::mounted().iter().any(|mount| mount.target == place)
}

/// Gives a `/var` of its own, in memory.
pub(super) fn var_in_memory() -> Result<()> {
    mount::simple("tmpfs", VAR, VAR_OPTIONS)
}

/// Makes the folders that every `/var` has.
pub(super) fn var() -> Result<()> {
    for (name, mode) in VAR_FOLDERS {
        let dir = Path::new(VAR).join(name);
        if dir.exists() {
            continue;
        }
        let fail = |error: std::io::Error| Error::io("making the folder", dir.display(), &error);
        fs::create_dir(&dir).map_err(fail)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(*mode);
        fs::set_permissions(&dir, mode).map_err(fail)?;
    }
    link("/run", "/var/run")
}

pub(super) fn devices(_: &mut World) -> Result<Done> {
    const LINKS: &[(&str, &str)] = &[
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/kcore"),
    ];
    /// (name, mode, major, minor) for kernels without devtmpfs: devices.txt.
    const NODES: &[(&str, u32, u32, u32)] = &[
        ("/dev/console", 0o600, 5, 1),
        ("/dev/tty", 0o666, 5, 0),
        ("/dev/tty1", 0o620, 4, 1),
        ("/dev/null", 0o666, 1, 3),
        ("/dev/zero", 0o666, 1, 5),
        ("/dev/full", 0o666, 1, 7),
        ("/dev/random", 0o666, 1, 8),
        ("/dev/urandom", 0o666, 1, 9),
        ("/dev/kmsg", 0o660, 1, 11),
    ];
    for (target, name) in LINKS {
        link(target, name)?;
    }
    each(NODES, |(name, mode, major, minor)| {
        let mode = Mode::from_bits_truncate(*mode);
        match mknodat(CWD, *name, FileType::CharacterDevice, mode, makedev(*major, *minor)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::new("making the device", name, errno)),
        }
    })
}

fn link(target: &str, name: &str) -> Result<()> {
    match symlink(target, name) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("linking", name, &error)),
    }
}

/// LinuxKit's layouts of both versions.
pub(super) fn cgroups(world: &mut World) -> Result<Done> {
    if world.args.value(path::ARG_CGROUP) == Some("0") {
        return cgroups_v1();
    }
    let root = "/sys/fs/cgroup";
    mount::simple("cgroup2", root, "nodev,nosuid,noexec")?;
    let file = format!("{root}/cgroup.controllers");
    let controllers =
        fs::read_to_string(&file).map_err(|error| Error::io("reading", file, &error))?;
    each(controllers.split_whitespace(), |name| {
        write(&format!("{root}/cgroup.subtree_control"), &format!("+{name}"))
    })
}

fn cgroups_v1() -> Result<Done> {
    mount::simple("tmpfs", "/sys/fs/cgroup", "nodev,nosuid,noexec,mode=755,size=10m")?;
    let text = fs::read_to_string("/proc/cgroups")
        .map_err(|error| Error::io("reading", "/proc/cgroups", &error))?;
    let done = each(enabled(&text), |name| {
        mount::simple(
            "cgroup",
            &format!("/sys/fs/cgroup/{name}"),
            &format!("nodev,nosuid,noexec,{name}"),
        )
    });
    // Many programs look for systemd's.
    mount::simple("cgroup", "/sys/fs/cgroup/systemd", "none,name=systemd")?;
    done
}

/// Reads `/proc/cgroups`: name, hierarchy, number, enabled.
fn enabled(text: &str) -> Vec<&str> {
    let fields = |line: &str| line.split_whitespace().nth(3) == Some("1");
    text.lines()
        .filter(|line| fields(line))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// The mount becomes read-only, not the file system below it: an initramfs is shared with
/// what the kernel sees below our root, and a disk is remounted as a whole.
pub(super) fn read_only(world: &mut World) -> Result<Done> {
    if world.args.has("rw") {
        return Ok(Done::Nothing);
    }
    let bind = if root::in_memory()? { MountFlags::BIND } else { MountFlags::empty() };
    match mount_remount("/", MountFlags::RDONLY | bind, c"") {
        Ok(()) => Ok(Done::Yes),
        Err(errno) => Err(Error::new("making read-only", "/", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc_cgroups() {
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t1\t1\nmemory\t0\t1\t0\n";
        assert_eq!(enabled(text), ["cpu"]);
    }
}
