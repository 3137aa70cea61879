//! Extended attributes: in the inode's own spare room as far as they fit,
//! then in one block that inodes of equal attributes share.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Extended
//! Attributes". Values in inodes of their own (`ea_inode`) are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::checksum::Seed;
use super::field::{get16, get32, put16, put32};
use super::{BLOCK, acl, inode};

const MAGIC: u32 = 0xea02_0000;
/// Header of a block: magic, references, blocks, hash, checksum, 12 spare.
const BLOCK_HEADER: usize = 32;
/// An entry without its name.
const ENTRY: usize = 16;
/// Room for entries and values in an inode, behind the magic.
const INLINE_ROOM: usize = inode::SIZE - inode::ATTRIBUTES - 4;
/// Where the block's checksum lies.
const CHECKSUM: usize = 16;
/// How many inodes may share a block.
pub(super) const SHARED_MAX: u32 = 1024;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// Name prefixes that are kept as a number; whole names first.
const PREFIXES: [(u8, &[u8]); 6] = [
    (2, ACL_ACCESS),
    (3, ACL_DEFAULT),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

type Attributes = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// An attribute in its form on disk.
struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

impl Attribute<'_> {
    fn entry_len(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4)
    }

    fn len(&self) -> usize {
        self.entry_len() + self.value.len().next_multiple_of(4)
    }

    fn hash(&self) -> u32 {
        let turn = |hash: u32, by: u32, with: u32| hash.rotate_left(by) ^ with;
        let hash = self.name.iter().fold(0, |hash, byte| turn(hash, 5, u32::from(*byte)));
        self.value.chunks(4).fold(hash, |hash, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            turn(hash, 16, u32::from_le_bytes(word))
        })
    }
}

/// Where the attributes of an inode go.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// The inode's spare room, from its magic on; empty without attributes.
    pub(super) inline: Box<[u8]>,
    /// The block's contents with references and checksum 0.
    pub(super) block: Option<Box<[u8]>>,
}

/// Lays out the attributes of an inode.
pub(super) fn split(attributes: &Attributes) -> Result<Split> {
    if attributes.is_empty() {
        return Ok(Split::default());
    }
    let mut all = attributes.iter().map(|(n, v)| parse(n, v)).collect::<Result<Vec<_>>>()?;
    // The order that the kernel searches blocks in.
    all.sort_by_key(|a| (a.index, a.name.len(), a.name));
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let mut room = INLINE_ROOM - 4;
    for attribute in all {
        if attribute.len() <= room {
            room -= attribute.len();
            inside.push(attribute);
        } else {
            outside.push(attribute);
        }
    }
    let mut split = Split::default();
    if !inside.is_empty() {
        let mut bytes = vec![0; INLINE_ROOM + 4];
        put32(&mut bytes, 0, MAGIC);
        encode(&inside, &mut bytes[4..], 0);
        split.inline = bytes.into();
    }
    if !outside.is_empty() {
        split.block = Some(encode_block(&outside)?);
    }
    Ok(split)
}

fn parse<'a>(name: &'a [u8], value: &'a [u8]) -> Result<Attribute<'a>> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    for (index, prefix) in PREFIXES {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        if index == 2 || index == 3 {
            ensure!(rest.is_empty(), "expected an attribute of a known name, got `{}`", shown());
            let value = acl::to_disk(value).with_context(|| format!("reading {}", shown()))?;
            return Ok(Attribute { index, name: rest, value: value.into() });
        }
        ensure!(
            !rest.is_empty() && rest.len() <= 255,
            "expected an attribute name of 1 to 255 bytes behind its prefix, got `{}`",
            shown()
        );
        return Ok(Attribute { index, name: rest, value: value.into() });
    }
    bail!("expected an attribute of user, trusted, security or system, got `{}`", shown())
}

fn encode_block(attributes: &[Attribute<'_>]) -> Result<Box<[u8]>> {
    let needed = BLOCK_HEADER + 4 + attributes.iter().map(Attribute::len).sum::<usize>();
    ensure!(
        needed <= BLOCK,
        "expected extended attributes that fit in a block of {BLOCK} bytes, got {needed}"
    );
    let mut block = vec![0; BLOCK];
    put32(&mut block, 0, MAGIC);
    put32(&mut block, 8, 1);
    encode(attributes, &mut block[BLOCK_HEADER..], BLOCK_HEADER);
    let hash = attributes.iter().fold(0u32, |hash, a| hash.rotate_left(16) ^ a.hash());
    // No entry may hash to 0 in a shared block: the kernel then does not share it.
    let none = attributes.iter().any(|a| a.hash() == 0);
    put32(&mut block, 12, if none { 0 } else { hash });
    Ok(block.into())
}

/// Writes entries from the front and values from the back of `room`, values
/// addressed from `base` bytes before it.
fn encode(attributes: &[Attribute<'_>], room: &mut [u8], base: usize) {
    let (mut at, mut end) = (0, room.len());
    for attribute in attributes {
        end -= attribute.value.len().next_multiple_of(4);
        let value = &attribute.value;
        room[end..end + value.len()].copy_from_slice(value);
        room[at] = attribute.name.len() as u8;
        room[at + 1] = attribute.index;
        let offset = if value.is_empty() { 0 } else { base + end };
        put16(room, at + 2, offset as u16);
        put32(room, at + 8, value.len() as u32);
        put32(room, at + 12, attribute.hash());
        room[at + ENTRY..][..attribute.name.len()].copy_from_slice(attribute.name);
        at += attribute.entry_len();
    }
}

/// Completes a block for its place and number of users.
pub(super) fn seal(block: &[u8], references: u32, place: u64, seed: Seed) -> Vec<u8> {
    let mut block = block.to_vec();
    put32(&mut block, 4, references);
    let sum = seed.sum(&[&place.to_le_bytes(), &block]);
    put32(&mut block, CHECKSUM, sum);
    block
}

/// Reads the attributes in an inode's spare room.
pub(super) fn read_inline(room: &[u8], into: &mut Attributes) -> Result<()> {
    if get32(room, 0) != MAGIC {
        return Ok(());
    }
    decode(&room[4..], 0, into)
}

/// Reads the attributes of a block.
pub(super) fn read_block(block: &[u8], into: &mut Attributes) -> Result<()> {
    let magic = get32(block, 0);
    ensure!(magic == MAGIC, "expected a block of attributes, got magic {magic:#x}");
    decode(block, BLOCK_HEADER, into)
}

fn decode(room: &[u8], mut at: usize, into: &mut Attributes) -> Result<()> {
    while get32(room, at) != 0 {
        let entry = room.get(at..at + ENTRY).context("expected a whole attribute entry")?;
        let name = room.get(at + ENTRY..at + ENTRY + usize::from(entry[0]));
        let name = name.context("expected an attribute name inside its room")?;
        ensure!(get32(entry, 4) == 0, "expected an attribute value here, got one in an inode");
        let (from, len) = (usize::from(get16(entry, 2)), get32(entry, 8) as usize);
        let value = from.checked_add(len).and_then(|end| room.get(from..end));
        let value = value.context("expected an attribute value inside its room")?;
        let prefix = PREFIXES.iter().find(|(index, _)| *index == entry[1]);
        let (index, prefix) = prefix.with_context(|| {
            format!("expected an attribute of a known kind, got number {}", entry[1])
        })?;
        let full: Box<[u8]> = [prefix, name].concat().into();
        let value = if matches!(index, 2 | 3) { acl::to_seen(value)? } else { value.to_vec() };
        into.insert(full, value.into());
        at += ENTRY + name.len().next_multiple_of(4);
    }
    Ok(())
}
