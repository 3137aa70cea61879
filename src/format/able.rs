//! Whether a system can have its root, or its data, on a disk: what its
//! kernel mounts, and what its PID 1 knows to do. Told before anything is
//! written, for a machine that stops in the middle of its boot tells nobody.

use anyhow::{Context, Result, anyhow};
use moby_bundle::path;

use super::root::Root;
use super::small;
use crate::error::WithHint;
use crate::system::System;
use crate::tree::{Kind, holds};

/// Where PID 1 lies.
const INIT: &[u8] = b"init";

/// Decides how a disk or disc of a format that is moby's own holds the root:
/// as the manifest says, else as erofs. A PID 1 that is not moby's, such as
/// LinuxKit's, would not find it there, so that such a system stays in the
/// initrd.
pub(super) fn own_default(system: &System) -> Result<Option<Root>> {
    Ok(knows(system, path::ARG_ONFAILURE)?.then_some(Root::Erofs))
}

/// Returns how a system's root is held: as the manifest says, else `default`.
/// Refuses what would not boot.
pub(super) fn root(system: &System, default: Option<Root>) -> Result<Option<Root>> {
    let written = system.disk.as_ref().and_then(|disk| disk.root.as_ref());
    let root = written.map_or(default, |root| Root::of_manifest(root.value));
    let Some(root) = root else {
        return Ok(None);
    };
    let kind = root.name();
    match mounts(system, kind)? {
        Some(true) => {}
        // Whoever writes it down may know more than can be seen.
        None if written.is_some() => {}
        None => {
            return Err(anyhow!("expected to see whether the kernel mounts {kind}")).hint(|| {
                format!("say `disk: {{root: {kind}}}` if it does, `disk: {{root: initrd}}` if not")
            });
        }
        Some(false) => return Err(no_driver(kind)).hint(|| way_out(kind)),
    }
    if small::has_modules(&system.tree) {
        knows_root(system)?;
    }
    Ok(Some(root))
}

fn knows_root(system: &System) -> Result<()> {
    if knows(system, path::ARG_ONFAILURE)? {
        return Ok(());
    }
    Err(anyhow!("expected moby's init as /init, which finds the root on a disk"))
        .hint(|| "take `@pkg:pkg/init`, or say `disk: {root: initrd}`".into())
}

/// Refuses a system that could not find its root on a disc.
pub(super) fn loop_device(system: &System) -> Result<()> {
    if !small::has_module(&system.tree, "loop")?
        && mentions(system, b"loop-control")? == Some(false)
    {
        return Err(anyhow!("expected a kernel with loop devices, for a root on a disc"))
            .hint(|| "say `disk: {root: initrd}`".into());
    }
    knows_root(system)
}

/// Refuses a system that could not mount its data.
pub(super) fn data(system: &System) -> Result<()> {
    if mounts(system, "ext4")? == Some(false) {
        return Err(no_driver("ext4")).hint(|| "leave `data` out, or take another kernel".into());
    }
    if !knows(system, path::ARG_DATA)? {
        return Err(anyhow!("expected moby's init as /init, which mounts the data"))
            .hint(|| "take `@pkg:pkg/init`, or leave `data` out".into());
    }
    Ok(())
}

fn no_driver(kind: &str) -> anyhow::Error {
    anyhow!("expected a kernel that mounts {kind}: it has no such driver")
}

fn way_out(kind: &str) -> String {
    let others = ["erofs", "squashfs", "ext4"].into_iter().filter(|other| *other != kind);
    let others: Vec<&str> = others.collect();
    format!("say `disk: {{root: initrd}}`, or one of {}", others.join(", "))
}

/// Tells whether a system's kernel mounts a file system, `None` where that
/// cannot be seen.
fn mounts(system: &System, kind: &str) -> Result<Option<bool>> {
    if small::has_module(&system.tree, kind)? {
        return Ok(Some(true));
    }
    // What is built in leaves its name there and, it may be, nowhere else.
    mentions(system, &[kind.as_bytes(), b"\0"].concat())
}

fn mentions(system: &System, word: &[u8]) -> Result<Option<bool>> {
    let kernel = system.kernel.as_ref().context("expected a kernel in the manifest, got none")?;
    Ok(kernel.mentions(word))
}

/// Tells whether PID 1 knows a kernel argument of moby's own: its name stands
/// in the program.
fn knows(system: &System, argument: &str) -> Result<bool> {
    let init = system.tree.lookup(INIT).map(|id| &system.tree.get(id).kind);
    match init {
        Some(Kind::File(program)) => {
            holds(&mut program.reader(), argument.as_bytes()).context("reading /init")
        }
        _ => Ok(false),
    }
}
