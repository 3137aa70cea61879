//! The root file system of an image, made ready for a container or the host:
//! what Docker leaves behind taken out, what every container needs put in.

use anyhow::Result;

use super::generated;
use crate::env::EPOCH;
use crate::tree::{Kind, Tree};

/// What Docker makes appear in an image without anybody's asking.
const EXCLUDED: [&str; 4] = [".dockerenv", "Dockerfile", "dev/console", "etc/hostname"];
/// Where init keeps the resolver's configuration of the host.
const RESOLV: &str = "/run/resolvconf/resolv.conf";
const NO_RESOLV: &str = "\n# no resolv.conf configured\n";
const HOSTS: &str = "127.0.0.1       localhost\n\
    ::1     localhost ip6-localhost ip6-loopback\n\
    fe00::0 ip6-localnet\n\
    ff00::0 ip6-mcastprefix\n\
    ff02::1 ip6-allnodes\n\
    ff02::2 ip6-allrouters\n";

/// Whose resolver configuration a root file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// The host's own, which init writes.
    Host,
    /// None, until the container is given one.
    Nobody,
}

/// Makes an image's files ready to be a root file system.
pub(super) fn prepare(image: &Tree, resolver: Resolver) -> Result<Tree> {
    let mut tree = image.clone();
    for path in EXCLUDED {
        tree.remove(path.as_bytes())?;
    }
    for path in ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"] {
        tree.insert(path.as_bytes(), generated(0o755, Kind::directory(), 0))?;
    }
    tree.insert(b"etc/hosts", generated(0o644, Kind::bytes(HOSTS.as_bytes()), 0))?;
    let resolv = match resolver {
        Resolver::Host => Kind::Symlink(RESOLV.as_bytes().into()),
        Resolver::Nobody => Kind::bytes(NO_RESOLV.as_bytes()),
    };
    tree.insert(b"etc/resolv.conf", generated(0o644, resolv, 0))?;
    match tree.lookup(b"etc/mtab") {
        Some(mtab) => tree.get_mut(mtab).meta.mtime = EPOCH,
        None => {
            let mtab = Kind::Symlink(b"/proc/mounts"[..].into());
            tree.insert(b"etc/mtab", generated(0o755, mtab, 0))?;
        }
    }
    Ok(tree)
}
