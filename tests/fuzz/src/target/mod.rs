//! The targets: one file for each reader of bytes that others wrote.

mod cpio;
mod deb;
mod disk;
mod erofs;
mod ext4;
mod fat;
mod inspect;
mod iso;
mod manifest;
mod oci;
mod squashfs;
mod store;
mod tar;

/// Gives an input to a reader.
pub(crate) type Run = fn(&[u8]);

/// All targets by name.
const TARGETS: [(&str, Run); 13] = [
    ("cpio", cpio::run),
    ("deb", deb::run),
    ("disk", disk::run),
    ("erofs", erofs::run),
    ("ext4", ext4::run),
    ("fat", fat::run),
    ("inspect", inspect::run),
    ("iso", iso::run),
    ("manifest", manifest::run),
    ("oci", oci::run),
    ("squashfs", squashfs::run),
    ("store", store::run),
    ("tar", tar::run),
];

/// Finds a target.
pub(crate) fn find(name: &str) -> Option<Run> {
    TARGETS.iter().find(|target| target.0 == name).map(|target| target.1)
}
