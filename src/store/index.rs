//! The entries of a layer, in order, as its index holds them, and the digest
//! of the tar file that they are in.
//!
//! On disk: `MAGIC`, the digest of the rest, then postcard. A version of the
//! format or of the reader that made it stands in the magic.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::oci::Digest;

const MAGIC: &[u8; 8] = b"mobyidx3";

/// An entry of a layer, as the tar stream has it: whiteouts are plain files
/// here, and the last entry of a path wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path from the root, without `.`, `..` or slashes at the ends.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 12 of them.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A file: where its bytes lie in the unpacked layer.
    File {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Digest of the bytes.
        digest: Digest,
    },
    /// A symbolic link to a target.
    Symlink(Vec<u8>),
    /// Another name of an entry before it: that one's path as it is written,
    /// which leads nowhere out.
    HardLink(Vec<u8>),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

pub(super) fn encode(entries: &[Entry], tar: (u64, Digest)) -> Result<Vec<u8>> {
    let body = postcard::to_stdvec(&(tar, entries)).context("encoding a layer's index")?;
    let mut bytes = Vec::with_capacity(body.len() + 40);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(Digest::of(&body).bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads an index: length and digest of the unpacked layer, and its entries.
pub(super) fn read(mut file: File) -> Result<((u64, Digest), Vec<Entry>)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context("reading a layer index")?;
    let body = bytes.strip_prefix(MAGIC).filter(|rest| rest.len() >= 32);
    let (sum, body) = body.context("expected a layer index")?.split_at(32);
    ensure!(Digest::of(body).bytes() == sum, "expected a whole layer index, got a damaged one");
    decode_index(body)
}

/// Reads what stands behind the digest of an index. All contents lie within
/// the layer.
///
/// This is what a fuzzer should call, which finds no digest by chance.
pub fn decode_index(body: &[u8]) -> Result<((u64, Digest), Vec<Entry>)> {
    let (tar, entries): ((u64, Digest), Vec<Entry>) =
        postcard::from_bytes(body).context("reading a layer index")?;
    let all = tar.0;
    for entry in &entries {
        if let EntryKind::File { offset, len, .. } = entry.kind {
            let end = offset.checked_add(len).filter(|end| *end <= all);
            ensure!(end.is_some(), "expected file contents within {all} bytes of a layer");
        }
    }
    Ok((tar, entries))
}
