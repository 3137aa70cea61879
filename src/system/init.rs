//! The init images, unpacked one over the other into the root.
//!
//! Alpine's package database is the one file that they would overwrite for
//! each other: it is joined, as LinuxKit does.

use anyhow::Result;

use super::rootfs::{Resolver, prepare};
use super::{Assembly, regular};
use crate::tree::{Inode, Kind, Metadata};

const APK_DB: &[u8] = b"lib/apk/db/installed";
/// The largest package database that is joined, in bytes.
const APK_DB_MAX: u64 = 64 << 20;
/// LinuxKit's name for the source of the joined database.
const APK_SOURCE: &str = "LINUXKIT.apkinit";

impl Assembly<'_> {
    /// Unpacks the init images into the root.
    pub(super) fn add_init(&mut self) -> Result<()> {
        let (mut packages, mut databases) = (Vec::new(), 0);
        for (index, reference) in self.manifest.init.iter().enumerate() {
            let named = self.image(reference)?;
            let part = self.part(&named.name, format!("init[{index}]"));
            self.inventory.push((String::new(), named));
            self.tree.graft(b"", &prepare(&named.image.tree, Resolver::Host)?, part)?;
            if let Some((_, database)) = regular(&named.image.tree, APK_DB) {
                packages.extend(database.gather(APK_DB_MAX)?);
                packages.extend(b"\n\n");
                databases += 1;
            }
        }
        if databases > 1 {
            let part = self.part(APK_SOURCE, "init".to_owned());
            let meta = Metadata::root(0o644, 0);
            self.tree.insert(APK_DB, Inode { meta, kind: Kind::bytes(packages), part })?;
        }
        Ok(())
    }
}
