//! Which drivers a system's kernel has, as its modules and their lists tell.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::small::modules;
use crate::tree::{Kind, Tree};

/// What the kernel has built in, kbuild's list: a path on each line.
const BUILT_IN: &[u8] = b"modules.builtin";
/// The largest list that is read, in bytes.
const LIST_MAX: u64 = 4 << 20;

/// The drivers of a kernel by name, with `_` for `-`.
pub(super) struct Drivers(BTreeSet<String>);

impl Drivers {
    /// Finds the drivers; `None` where nothing tells what is built in.
    pub(super) fn of(tree: &Tree) -> Result<Option<Self>> {
        let (drivers, all) = Self::seen(tree)?;
        Ok(all.then_some(drivers))
    }

    /// Finds the drivers that can be seen, and says whether these are all:
    /// whether anything tells what is built in.
    pub(super) fn seen(tree: &Tree) -> Result<(Self, bool)> {
        let Some((base, version, folder)) = modules(tree) else {
            return Ok((Self(BTreeSet::new()), false));
        };
        let below = [base, b"/", version.as_slice(), b"/"].concat();
        let paths = tree.walk().filter(|found| found.path.starts_with(&below));
        let mut names: BTreeSet<String> =
            paths.filter_map(|found| name(&String::from_utf8_lossy(&found.path))).collect();
        let built_in = tree.child(folder, BUILT_IN).map(|id| &tree.get(id).kind);
        let Some(Kind::File(list)) = built_in else {
            return Ok((Self(names), false));
        };
        let list = list.gather(LIST_MAX).context("reading the list of what the kernel has")?;
        names.extend(String::from_utf8_lossy(&list).lines().filter_map(name));
        Ok((Self(names), true))
    }

    /// Says whether there is a driver.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// Returns the name of the module at a path, compressed or not.
fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    (ending.is_empty() || ending.starts_with('.')).then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    #[test]
    fn finds_modules_and_what_is_built_in() {
        let mut tree = Tree::new();
        assert!(Drivers::of(&tree).unwrap().is_none());
        let mut add = |path: &str, text: &str| {
            let kind = Kind::bytes(text.as_bytes());
            let inode = Inode { meta: Metadata::root(0o644, 0), kind, part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        };
        add("usr/lib/modules/6.1/kernel/net/virtio-net.ko.xz", "");
        add("usr/lib/modules/6.1/modules.builtin", "kernel/drivers/nvme/host/nvme.ko\n");
        let drivers = Drivers::of(&tree).unwrap().unwrap();
        assert!(drivers.has("virtio_net") && drivers.has("nvme") && !drivers.has("ahci"));
    }
}
