//! Extended attributes: those that many inodes have stand once in an area of
//! their own, the others in the inode.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::format::{NAMESPACES, XATTR_HEAD};
use crate::tree::Metadata;

/// From how many inodes on an attribute is shared.
const SHARED_FROM: u32 = 3;

type Pair<'a> = (&'a [u8], &'a [u8]);

/// The attributes that are shared, by their number: a fourth of their offset.
#[derive(Debug, Default)]
pub(super) struct Shared<'a> {
    known: BTreeMap<Pair<'a>, u32>,
    /// The area of shared attributes.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Shared<'a> {
    /// Finds what many inodes have, and returns it with the first inode that
    /// has what the format cannot hold, if any.
    pub(super) fn of(inodes: impl Iterator<Item = &'a Metadata>) -> Self {
        let mut uses: BTreeMap<Pair<'a>, u32> = BTreeMap::new();
        for (name, value) in inodes.flat_map(|meta| &meta.xattrs) {
            *uses.entry((name, value)).or_default() += 1;
        }
        let mut shared = Self::default();
        for (pair, _) in uses.into_iter().filter(|(_, uses)| *uses >= SHARED_FROM) {
            let number = (shared.bytes.len() / 4) as u32;
            // What cannot be encoded is told where its inode is encoded.
            if encode(pair, &mut shared.bytes).is_ok() {
                shared.known.insert(pair, number);
            }
        }
        shared
    }

    /// Encodes an inode's attributes: its head, the numbers of the shared
    /// ones, and the others.
    pub(super) fn encode(&self, meta: &Metadata) -> Result<Vec<u8>> {
        if meta.xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let mut numbers = Vec::new();
        let mut own = Vec::new();
        for (name, value) in &meta.xattrs {
            match self.known.get(&(&**name, &**value)) {
                Some(number) if numbers.len() < 255 => numbers.push(*number),
                _ => encode((name, value), &mut own)?,
            }
        }
        let mut bytes = vec![0; XATTR_HEAD];
        bytes[4] = numbers.len() as u8;
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(own);
        let most = XATTR_HEAD + 4 * (usize::from(u16::MAX) - 1);
        ensure!(
            bytes.len() <= most,
            "expected attributes of up to {most} bytes, got {}",
            bytes.len()
        );
        Ok(bytes)
    }
}

fn encode((name, value): Pair<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    let found = NAMESPACES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (rest.is_empty() != prefix.ends_with(b".")).then_some((*number, rest))
    });
    let (number, rest) = found.with_context(|| {
        format!(
            "expected an extended attribute of user, trusted or security, or an ACL, got `{}`",
            String::from_utf8_lossy(name)
        )
    })?;
    let name_len =
        u8::try_from(rest.len()).context("expected an attribute's name below 256 bytes")?;
    let len = u16::try_from(value.len()).context("expected an attribute's value below 64 KiB")?;
    bytes.extend([name_len, number]);
    bytes.extend(len.to_le_bytes());
    bytes.extend(rest);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(())
}
