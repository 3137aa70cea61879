//! What `runtime.json` asks to be made around a container: before it (mounts, folders,
//! control groups) and between its creation and its start (interfaces, name spaces).

use std::fs;
use std::path::{Path, PathBuf};

use moby_bundle::{Interface, Runtime, path};

use crate::error::{Error, Result};
use crate::{mount, netlink};

/// Reads a bundle's `runtime.json`; a missing one is the default.
pub fn runtime(bundle: &Path) -> Result<Runtime> {
    let file = bundle.join(path::RUNTIME_JSON);
    match fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Runtime::default()),
        Err(error) => Err(Error::io("reading", file.display(), &error)),
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| Error::text("parsing", file.display(), error)),
    }
}

/// Makes mounts, folders and control groups. With `again` (a restart) mounts outside of the
/// bundle are left as they are.
pub fn files(bundle: &Path, runtime: &Runtime, again: bool) -> Result<()> {
    for wanted in &runtime.mounts {
        let target = inside(bundle, &wanted.destination);
        if again && !target.starts_with(bundle) {
            continue;
        }
        folder(&target)?;
        // An overlay's upper and work folders are its own, on the tmpfs mounted before.
        for option in &wanted.options {
            if let Some(("upperdir" | "workdir", dir)) = option.split_once('=') {
                folder(Path::new(dir))?;
            }
        }
        mount::make(wanted, &target)?;
    }
    for dir in &runtime.mkdir {
        folder(&inside(bundle, dir))?;
    }
    runtime.cgroups.iter().try_for_each(|name| cgroup(name))
}

/// A relative path is below the container's rootfs.
fn inside(bundle: &Path, dir: &str) -> PathBuf {
    bundle.join(path::ROOTFS).join(dir)
}

fn folder(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| Error::io("making the folder", dir.display(), &error))
}

/// Makes a control group: one folder on v2, one below each controller on v1.
fn cgroup(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let name = name.trim_start_matches('/');
    if root.join("cgroup.controllers").exists() {
        return folder(&root.join(name));
    }
    let controllers =
        fs::read_dir(root).map_err(|error| Error::io("reading", root.display(), &error))?;
    for controller in controllers.filter_map(std::result::Result::ok) {
        if controller.path().is_dir() && !controller.path().is_symlink() {
            folder(&controller.path().join(name))?;
        }
    }
    Ok(())
}

/// Tells whether [`process`] has anything to do.
pub fn has_process(runtime: &Runtime) -> bool {
    !runtime.interfaces.is_empty() || runtime.bind_ns.bound().next().is_some()
}

/// Makes interfaces and binds name spaces of the created container whose process is `pid`.
pub fn process(pid: u32, runtime: &Runtime) -> Result<()> {
    runtime.interfaces.iter().try_for_each(|interface| self::interface(pid, interface))?;
    runtime
        .bind_ns
        .bound()
        .try_for_each(|(kind, target)| bind_namespace(pid, kind, Path::new(target)))
}

/// LinuxKit's rules: a peer makes it a veth; a veth and what is made in the root name space
/// move afterwards; nothing to make means that an existing one moves.
fn interface(pid: u32, interface: &Interface) -> Result<()> {
    let Interface { name, add, peer, create_in_root } = interface;
    if name.is_empty() {
        return Err(Error::text("making an interface", "", "it has no name"));
    }
    let kind = if add.is_empty() && !peer.is_empty() { "veth" } else { add.as_str() };
    match kind {
        "" => netlink::shift(name, pid),
        "veth" if peer.is_empty() => {
            Err(Error::text("making the interface", name, "a veth needs a peer"))
        }
        "veth" => {
            netlink::add(name, kind, Some(peer), None)?;
            netlink::shift(name, pid)
        }
        _ if *create_in_root => {
            netlink::add(name, kind, None, None)?;
            netlink::shift(name, pid)
        }
        _ => netlink::add(name, kind, None, Some(pid)),
    }
}

fn bind_namespace(pid: u32, kind: &str, target: &Path) -> Result<()> {
    if let Some(parent) = target.parent() {
        folder(parent)?;
    }
    // Of a container that ran before.
    let _gone = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
    fs::File::create(target).map_err(|error| Error::io("making", target.display(), &error))?;
    rustix::mount::mount_bind(format!("/proc/{pid}/ns/{kind}"), target)
        .map_err(|errno| Error::new("binding a name space at", target.display(), errno))
}

/// Takes away what [`files`] mounted inside the bundle.
pub fn clean(bundle: &Path) {
    mount::clear(bundle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_is_in_the_rootfs() {
        let bundle = Path::new("/containers/services/a");
        assert_eq!(inside(bundle, "tmp/x"), bundle.join("rootfs/tmp/x"));
        assert_eq!(inside(bundle, "/var/x"), Path::new("/var/x"));
    }

    #[test]
    fn missing_and_broken_runtime() {
        assert_eq!(runtime(Path::new("/nonexistent")).unwrap(), Runtime::default());
    }

    #[test]
    fn interfaces_without_sense() {
        for interface in [
            Interface::default(),
            Interface { name: "a".into(), add: "veth".into(), ..Interface::default() },
        ] {
            assert!(super::interface(1, &interface).is_err());
        }
    }
}
