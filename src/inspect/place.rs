//! What lies at an offset of an image, as far as it can be told.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Image, inspect};
use crate::tree::Kind;

/// Tells what lies at an offset of a file, from the outside inwards: the
/// partition, the file in it, the segment of an initrd. What is packed or
/// scattered is not told.
pub fn at(path: &Path, offset: u64) -> Result<Vec<String>> {
    let image = inspect(path)?;
    let mut found = Vec::new();
    found.extend(partition(&image, offset));
    let meta = File::open(path).and_then(|file| file.metadata());
    let meta = meta.with_context(|| format!("opening {}", path.display()))?;
    let file = file(&image, (meta.dev(), meta.ino()), offset);
    let inner = match &file {
        Some((_, path, inner)) => Some((path.as_str(), *inner)),
        None => Some(("initrd", offset)),
    };
    found.extend(file.as_ref().map(|(place, path, at)| format!("{place}: {path} at byte {at}")));
    found.extend(inner.and_then(|(place, at)| segment(&image, place, at)));
    Ok(found)
}

/// Names the partition, where the file is a disk byte for byte.
fn partition(image: &Image, offset: u64) -> Option<String> {
    let is_plain = |kind: &String| {
        matches!(kind.as_str(), "raw disk" | "fixed VHD" | "ISO 9660 disc" | "hybrid disk")
    };
    let disk = image.disk.as_ref().filter(|_| image.kinds.iter().all(is_plain))?;
    let within = |start: u64, size: u64| offset >= start && offset - start < size;
    let found = disk.partitions.iter().find(|found| within(found.start, found.size));
    if let Some(found) = found {
        return Some(format!("partition {} {}", found.number, found.name).trim().to_owned());
    }
    let first = disk.partitions.iter().map(|found| found.start).min()?;
    Some(if offset < first { "partition table" } else { "between partitions" }.to_owned())
}

/// Finds the file of a tree whose contents lie at an offset of a file on disk,
/// told by its device and inode: the place, the path, and the offset within.
fn file(image: &Image, on_disk: (u64, u64), offset: u64) -> Option<(String, String, u64)> {
    for volume in &image.volumes {
        for found in volume.tree.walk() {
            let Kind::File(content) = &volume.tree.get(found.id).kind else { continue };
            let Some((file, begin)) = content.place() else { continue };
            let within = offset >= begin && offset - begin < content.len();
            let same = || file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == on_disk);
            if within && same() {
                let path = format!("/{}", String::from_utf8_lossy(&found.path));
                return Some((volume.place.clone(), path, offset - begin));
            }
        }
    }
    None
}

fn segment(image: &Image, place: &str, offset: u64) -> Option<String> {
    let initrd = image.initrds.iter().find(|initrd| initrd.place == place)?;
    let index = initrd
        .segments
        .iter()
        .position(|segment| offset >= segment.offset && offset - segment.offset < segment.size)?;
    let with = initrd.segments[index].compression;
    Some(format!("segment {} of {} ({with})", index + 1, initrd.segments.len()))
}
