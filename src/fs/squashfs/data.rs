//! File contents: full blocks, compressed in parallel, and fragments, blocks
//! into which the ends of files are packed together.

use std::io::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Options;
use super::format::DATA_PLAIN;
use crate::fs::contents::Group;
use crate::fs::ordered::Ordered;
use crate::tree::Content;

/// Where one file's contents ended up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Where its first block stands, counted from the pack's beginning.
    pub(super) start: u64,
    /// Length in bytes.
    pub(super) len: u64,
    /// How many of the bytes are in blocks of zeros, which are not stored.
    pub(super) sparse: u64,
    /// The stored size of each block, with [`DATA_PLAIN`].
    pub(super) blocks: Vec<u32>,
    /// The fragment that holds the end, and the offset in it.
    pub(super) fragment: Option<(u32, u32)>,
}

/// Where a group's contents ended up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pack {
    /// One for each of the group's contents.
    pub(super) files: Vec<Stored>,
    /// Offset from the pack's beginning and stored size of each fragment.
    pub(super) fragments: Vec<(u64, u32)>,
    /// Length of the pack in bytes.
    pub(super) len: u64,
}

enum Body {
    Zeros(usize),
    Bytes { bytes: Vec<u8>, plain: bool },
}

enum For {
    File(usize),
    Fragment,
}

struct Packer<'a> {
    options: &'a Options,
    out: &'a mut dyn Write,
    jobs: Ordered<(For, Result<Body>)>,
    pack: Pack,
    // The fragment being filled, and its number.
    tails: Vec<u8>,
    fragment: u32,
}

/// Compresses a group's contents and writes them to `out`.
pub(super) fn pack(group: &Group, options: &Options, out: &mut dyn Write) -> Result<Pack> {
    let pack = Pack { files: vec![Stored::default(); group.contents.len()], ..Pack::default() };
    // A job holds a block, what it is compressed to, and the compressor's own tables.
    let jobs = Ordered::new(options.block_size as usize * 3);
    let mut packer = Packer { options, out, jobs, pack, tails: Vec::new(), fragment: 0 };
    for (index, content) in group.contents.iter().enumerate() {
        packer.file(index, content)?;
    }
    packer.end_fragment()?;
    while let Some(done) = packer.jobs.next() {
        packer.store(done)?;
    }
    Ok(packer.pack)
}

impl Packer<'_> {
    fn file(&mut self, index: usize, content: &Content) -> Result<()> {
        let block = u64::from(self.options.block_size);
        let len = content.len();
        self.pack.files[index].len = len;
        let tail = len % block;
        let packed_tail = tail > 0 && (len < block || self.options.pack_tails);
        let end = if packed_tail { len - tail } else { len };
        let mut at = 0;
        while at < end {
            let size = (end - at).min(block) as usize;
            self.block(index, content.clone(), at, size)?;
            at += size as u64;
        }
        if packed_tail { self.tail(index, content, end, tail as usize) } else { Ok(()) }
    }

    fn block(&mut self, index: usize, content: Content, at: u64, size: usize) -> Result<()> {
        let options = self.options.clone();
        let done = self.jobs.push(move || {
            let mut bytes = vec![0; size];
            let body = content.read_exact_at(&mut bytes, at).and_then(|()| {
                if is_zero(&bytes) { Ok(Body::Zeros(size)) } else { compress(bytes, &options) }
            });
            (For::File(index), body)
        });
        done.map_or(Ok(()), |done| self.store(done))
    }

    fn tail(&mut self, index: usize, content: &Content, at: u64, size: usize) -> Result<()> {
        if self.tails.len() + size > self.options.block_size as usize {
            self.end_fragment()?;
        }
        let offset = self.tails.len();
        self.tails.resize(offset + size, 0);
        content.read_exact_at(&mut self.tails[offset..], at)?;
        self.pack.files[index].fragment = Some((self.fragment, offset as u32));
        Ok(())
    }

    fn end_fragment(&mut self) -> Result<()> {
        if self.tails.is_empty() {
            return Ok(());
        }
        let room = Vec::with_capacity(self.options.block_size as usize);
        let bytes = std::mem::replace(&mut self.tails, room);
        self.fragment += 1;
        let options = self.options.clone();
        let done = self.jobs.push(move || (For::Fragment, compress(bytes, &options)));
        done.map_or(Ok(()), |done| self.store(done))
    }

    fn store(&mut self, (whose, body): (For, Result<Body>)) -> Result<()> {
        let start = self.pack.len;
        let size = match body? {
            Body::Zeros(size) => {
                if let For::File(index) = whose {
                    self.pack.files[index].sparse += size as u64;
                }
                0
            }
            Body::Bytes { bytes, plain } => {
                self.out.write_all(&bytes).context("writing file contents")?;
                self.pack.len += bytes.len() as u64;
                bytes.len() as u32 | if plain { DATA_PLAIN } else { 0 }
            }
        };
        match whose {
            For::File(index) => {
                let file = &mut self.pack.files[index];
                if file.blocks.is_empty() {
                    file.start = start;
                }
                file.blocks.push(size);
            }
            For::Fragment => self.pack.fragments.push((start, size)),
        }
        Ok(())
    }
}

fn compress(bytes: Vec<u8>, options: &Options) -> Result<Body> {
    Ok(match options.compression.compress(&bytes, options.block_size)? {
        Some(bytes) => Body::Bytes { bytes, plain: false },
        None => Body::Bytes { bytes, plain: true },
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
