//! POSIX access control lists: the form that programs see, and the shorter
//! one that ext4 keeps on disk.
//!
//! Follows the Linux kernel's `posix_acl_xattr.h` for the former (version 2,
//! entries of tag, permissions, id) and fs/ext4/acl.h for the latter
//! (version 1, where only named users and groups have an id).

use anyhow::{Result, ensure};

use super::field::{get16, get32};

const SEEN_VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
/// Owner, owning group, mask, others.
const NAMELESS: [u16; 4] = [0x01, 0x04, 0x10, 0x20];
/// The id of entries that need none.
const NO_ID: u32 = u32::MAX;

/// Turns the form of programs into that of the disk.
pub(super) fn to_disk(seen: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        seen.len() >= 4 && (seen.len() - 4).is_multiple_of(8) && get32(seen, 0) == SEEN_VERSION,
        "expected an access control list of version {SEEN_VERSION}, got {} other bytes",
        seen.len()
    );
    let mut disk = DISK_VERSION.to_le_bytes().to_vec();
    for entry in seen[4..].chunks_exact(8) {
        let tag = get16(entry, 0);
        let named = tag == USER || tag == GROUP;
        ensure!(
            named || NAMELESS.contains(&tag),
            "expected an access control entry of a known kind, got {tag:#x}"
        );
        disk.extend_from_slice(&entry[..if named { 8 } else { 4 }]);
    }
    Ok(disk)
}

/// Turns the form of the disk into that of programs.
pub(super) fn to_seen(disk: &[u8]) -> Result<Vec<u8>> {
    let version = get32(disk, 0);
    ensure!(
        disk.len() >= 4 && version == DISK_VERSION,
        "expected an access control list of version {DISK_VERSION} on disk, got {version}"
    );
    let mut seen = SEEN_VERSION.to_le_bytes().to_vec();
    let mut rest = &disk[4..];
    while !rest.is_empty() {
        let tag = get16(rest, 0);
        let len = if tag == USER || tag == GROUP { 8 } else { 4 };
        ensure!(rest.len() >= len, "expected a whole access control entry, got {}", rest.len());
        seen.extend_from_slice(&rest[..len]);
        if len == 4 {
            seen.extend_from_slice(&NO_ID.to_le_bytes());
        }
        rest = &rest[len..];
    }
    Ok(seen)
}
