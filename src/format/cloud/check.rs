//! What a cloud would refuse, or where it would leave a system in the dark:
//! told while building, for over there nobody is told. What stops a system is
//! an error, what leaves it without something a warning.

use anyhow::{Result, anyhow, ensure};

use super::{Cloud, Container};
use crate::disk::qcow2::Compression;
use crate::error::WithHint;
use crate::format::disk::Disk;
use crate::format::driver::Drivers;
use crate::format::{Output, able};
use crate::system::System;

impl Cloud {
    /// Checks what is asked for, the kernel, and what is in a system.
    pub(super) fn check_system(&self, system: &System, output: &mut Output<'_>) -> Result<()> {
        self.check_compression(output)?;
        if let Some(drivers) = Drivers::of(&system.tree)? {
            self.check_drivers(&drivers, system, output)?;
        }
        self.check_agents(system, output);
        Ok(())
    }

    /// Checks a disk's size and sectors.
    pub(super) fn check_disk(&self, disk: &Disk) -> Result<()> {
        ensure!(
            disk.sector == 512,
            "expected sectors of 512 bytes, which {}'s disks have, got {}",
            self.title,
            disk.sector
        );
        let len = disk.image.len();
        match self.most {
            Some((most, told)) if len > most => Err(anyhow!(
                "expected a disk of {told}, which {} takes, got {len} bytes",
                self.title
            ))
            .hint(|| "give a smaller size; data grows with the machine's disk".to_owned()),
            _ => Ok(()),
        }
    }

    fn check_compression(&self, output: &Output<'_>) -> Result<()> {
        let zstd = matches!(output.options.packing.0, Some(Compression::Zstd(_)));
        if zstd && matches!(self.container, Container::QcowPlain) {
            return Err(anyhow!(
                "expected a qcow2 without Zstandard, which {} refuses",
                self.title
            ))
            .hint(|| "say `--qcow2-compression zlib`".to_owned());
        }
        Ok(())
    }

    /// Checks what the kernel can drive where it will run.
    fn check_drivers(
        &self,
        drivers: &Drivers,
        system: &System,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let lacks = |names: &[&str]| !names.iter().any(|name| drivers.has(name));
        let told = |names: &[&str], what: &str| {
            let names = names.join("` and `");
            format!("the kernel lacks `{names}`, which {}'s {what} needs", self.title)
        };
        if lacks(self.disks) {
            // An initial root is read by the firmware.
            if able::root(system, None)?.is_some() {
                return Err(anyhow!(told(self.disks, "disk")))
                    .hint(|| "take another kernel, or `root: initrd`".to_owned());
            }
            output.warn(told(self.disks, "disk"));
        }
        if lacks(self.networks) {
            output.warn(told(self.networks, "network"));
        }
        for module in self.modules.iter().filter(|module| !drivers.has(module)) {
            output.warn(format!("the kernel lacks `{module}`, which {} asks for", self.title));
        }
        Ok(())
    }

    /// Checks that something takes the machine's name and keys from a cloud
    /// which demands that.
    fn check_agents(&self, system: &System, output: &mut Output<'_>) {
        let is_agent = |path: &[u8]| {
            let ends = |agent: &&str| {
                path.strip_suffix(agent.as_bytes())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
            };
            self.agents.iter().any(ends)
        };
        if !self.agents.is_empty() && !system.tree.walk().any(|found| is_agent(&found.path)) {
            output.warn(format!(
                "nothing in the system takes its name and keys from {} and tells it that it runs, \
                 as it asks for: let `@pkg:pkg/metadata` do so after dhcp",
                self.title
            ));
        }
    }
}
