//! The disk that all formats of disks hold: laid out from a system, its
//! identifiers derived from what is in it.

use anyhow::{Result, bail};

use super::data::Data;
use super::identity::identity;
use super::machine::{firmware, on_disk, whole};
use super::root::Root;
use super::{Output, able};
use crate::boot::{self, DiskOptions, Firmware, Scheme, Start};
use crate::disk::{Guid, gpt};
use crate::fs::{Extents, too_large};
use crate::manifest;
use crate::system::System;
use crate::tree::Tree;

/// A disk laid out.
pub(super) struct Disk {
    /// Its bytes.
    pub(super) image: Extents,
    /// Its GUID.
    pub(super) id: Guid,
    /// Size of its sectors, in bytes.
    pub(super) sector: u32,
}

/// The sizes that a disk may have: multiples of `unit` bytes from `least` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The smallest, in bytes.
    pub(super) least: u64,
    /// What all are multiples of, in bytes.
    pub(super) unit: u64,
}

impl Sizes {
    /// Any size.
    pub(super) const ANY: Self = Self { least: 0, unit: 1 };
}

/// Lays out a disk of a format of moby's own: for either firmware, its root a
/// partition of its own.
pub(super) fn own(system: &System, output: &mut Output<'_>) -> Result<Disk> {
    plan(system, output, Firmware::Both, able::own_default(system)?)
}

/// Lays out a disk that a firmware starts; `default` is how it holds the root
/// where the manifest does not say, in the initrd where that is `None`.
pub(super) fn plan(
    system: &System,
    output: &mut Output<'_>,
    wanted: Firmware,
    default: Option<Root>,
) -> Result<Disk> {
    plan_in(system, output, wanted, default, Sizes::ANY)
}

/// Lays out a disk, as [`plan`] does, of one of some sizes.
pub(super) fn plan_in(
    system: &System,
    output: &mut Output<'_>,
    wanted: Firmware,
    default: Option<Root>,
    sizes: Sizes,
) -> Result<Disk> {
    let Contents { start, options } = contents(system, output, default, None)?;
    let id = options.id;
    let wanted = match firmware(wanted, start.machine)? {
        Firmware::Bios if options.sector != 512 => {
            bail!("expected sectors of 512 bytes for a BIOS, got {}", options.sector)
        }
        // Only UEFI starts anything from large sectors.
        Firmware::Both if options.sector != 512 => Firmware::Efi,
        wanted => wanted,
    };
    let sector = options.sector;
    let image = fit("the disk", &system.tree, options, sizes, &|options| {
        boot::disk(wanted, &output.options.loaders, &start, options)
    })?;
    Ok(Disk { image, id, sector })
}

/// Lays out by `plan` what is to have the size that `options` has, or as
/// little as holds all, rounded up to one of `sizes`. Refuses a tree that does
/// not fit; `what` names the medium.
pub(super) fn fit(
    what: &str,
    tree: &Tree,
    mut options: DiskOptions,
    sizes: Sizes,
    plan: &dyn Fn(&DiskOptions) -> Result<Extents>,
) -> Result<Extents> {
    let size = options.size.take();
    let image = plan(&options)?;
    let size = size.unwrap_or(image.len()).max(sizes.least).next_multiple_of(sizes.unit);
    if image.len() > size {
        return Err(too_large(what, tree, image.len(), size));
    }
    if image.len() == size {
        return Ok(image);
    }
    options.size = Some(size);
    plan(&options)
}

/// What is on a disk: what it starts, and the partitions behind the first.
pub(super) struct Contents {
    /// What the first partition starts.
    pub(super) start: Start,
    /// The disk, its other partitions among them.
    pub(super) options: DiskOptions,
}

/// Makes what is on a disk, divided by `scheme` if one is given.
pub(super) fn contents(
    system: &System,
    output: &mut Output<'_>,
    default: Option<Root>,
    scheme: Option<Scheme>,
) -> Result<Contents> {
    let id = Guid::derive(identity(&system.tree)?.bytes(), "disk");
    let root = able::root(system, default)?;
    let data = Data::of(system)?;
    let mut options = options(system, output, id);
    options.scheme = scheme.unwrap_or(options.scheme);
    let kept = data.as_ref().map_or(system, |data| &data.system);
    let mut start = match root {
        None => whole(kept, output)?,
        Some(root) => {
            let partition = root_partition(kept, output, root, id)?;
            let name = add(&mut options, partition);
            on_disk(kept, output, root, &name)?
        }
    };
    if let Some(data) = &data {
        let partition = data.partition(id, output.store)?;
        let name = add(&mut options, partition);
        let words = data.arguments(&name, options.scheme == Scheme::Gpt);
        start.cmdline = format!("{} {words}", start.cmdline.trim()).trim().to_owned();
    }
    Ok(Contents { start, options })
}

fn options(system: &System, output: &Output<'_>, id: Guid) -> DiskOptions {
    let mut options = DiskOptions::new(id);
    if let Some(disk) = &system.disk {
        options.size = disk.size.as_ref().map(|size| size.value.0);
        options.sector = disk.sector.as_ref().map_or(512, |sector| sector.value.0);
        if disk.table.as_ref().is_some_and(|table| table.value == manifest::Table::Mbr) {
            options.scheme = Scheme::Mbr;
        }
    }
    options.size = output.options.size.or(options.size);
    options
}

/// Adds a partition; returns what the kernel calls it behind `PARTUUID=`.
fn add(options: &mut DiskOptions, partition: gpt::Partition) -> String {
    let id = partition.id;
    options.partitions.push(partition);
    match options.scheme {
        Scheme::Gpt => id.unwrap_or_default().to_string(),
        // The first one is that to boot from.
        Scheme::Mbr => format!("{:08x}-{:02x}", options.id.number(), options.partitions.len() + 1),
    }
}

/// Makes the partition that holds the root.
pub(super) fn root_partition(
    system: &System,
    output: &mut Output<'_>,
    root: Root,
    disk: Guid,
) -> Result<gpt::Partition> {
    let kind = match system.platform.architecture.as_str() {
        "arm64" => gpt::ROOT_ARM64,
        _ => gpt::ROOT_AMD64,
    };
    let written = system.disk.as_ref().and_then(|disk| disk.compression.as_ref());
    let asked = output.options.root_compression.or(written.map(|written| written.value));
    let image = root.image(system, disk, asked, output)?;
    let mut partition = gpt::Partition::new(kind, "root", image);
    partition.id = Some(Guid::derive(&disk.bytes(), "root"));
    partition.attributes = gpt::READ_ONLY;
    Ok(partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Options;
    use crate::store::Store;
    use crate::system::Kernel;
    use crate::tree::{Content, Inode, Kind, Metadata, Tree};

    /// A system whose PID 1 knows all and whose kernel has all.
    fn system(disk: &str) -> System {
        let mut tree = Tree::new();
        for (path, bytes) in [
            ("init", "moby.onfailure moby.data"),
            ("lib/modules/6.12/kernel/erofs.ko", ""),
            ("lib/modules/6.12/kernel/ext4.ko", ""),
            ("var/lib/x", "x"),
        ] {
            let meta = Metadata::root(0o644, 0);
            let inode = Inode { meta, kind: Kind::bytes(bytes.as_bytes()), part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        }
        let image = Content::Bytes(b"kernel"[..].into());
        let manifest = crate::manifest::parse(&format!("disk: {disk}\n"), "test").unwrap();
        System {
            tree,
            parts: Vec::new(),
            kernel: Some(Kernel { image, cmdline: "quiet\n".into(), ucode: None }),
            platform: crate::oci::Platform::linux("amd64"),
            disk: manifest.disk,
        }
    }

    /// Returns the command line, and the partitions' names and sizes in MiB.
    fn laid(disk: &str, default: Option<Root>) -> (String, Vec<(String, u64)>) {
        let folder = tempfile::tempdir().unwrap();
        let (store, options) = (Store::open(folder.path()).unwrap(), Options::default());
        let target = |ending: &str| folder.path().join(ending);
        let mut output = Output::new("raw", &target, &store, &options);
        let found = contents(&system(disk), &mut output, default, None);
        let Contents { start, options } = found.unwrap();
        let size = |part: &gpt::Partition| part.image.len().div_ceil(1 << 20);
        let parts = options.partitions.iter().map(|part| (part.name.clone(), size(part)));
        (start.cmdline.trim().to_owned(), parts.collect())
    }

    #[test]
    fn names_the_partitions_to_the_kernel() {
        let parts = |names: &[(&str, u64)]| -> Vec<(String, u64)> {
            names.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
        };
        let key = identity(&system("{}").tree).unwrap();
        let id = Guid::derive(key.bytes(), "disk").bytes();
        let [root, data] = ["root", "data"].map(|name| Guid::derive(&id, name).to_string());
        assert_eq!(laid("{}", None), ("quiet".to_owned(), Vec::new()));
        let (words, found) = laid("{data: {size: 64M}}", Some(Root::Erofs));
        let wanted =
            format!("quiet root=PARTUUID={root} rootfstype=erofs moby.data=PARTUUID={data}");
        assert_eq!(words, format!("{wanted} moby.grow gpt"));
        assert_eq!(found, parts(&[("root", 1), ("data", 64)]));
        let number = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        let (words, found) = laid("{table: mbr, root: ext4, data: {size: 8M}}", None);
        let wanted = format!("quiet root=PARTUUID={number:08x}-02 rootfstype=ext4");
        assert_eq!(words, format!("{wanted} moby.data=PARTUUID={number:08x}-03 moby.grow"));
        assert_eq!(found.len(), 2);
        let (words, found) = laid("{table: mbr, data: {size: 8M, grow: false}}", None);
        assert_eq!(words, format!("quiet moby.data=PARTUUID={number:08x}-02"));
        assert_eq!(found, parts(&[("data", 8)]));
    }
}
