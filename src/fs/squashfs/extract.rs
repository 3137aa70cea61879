//! File contents out of an image: a span of the image itself where they stand
//! there in one piece, otherwise unpacked into a nameless file.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::codec;
use super::format::DATA_PLAIN;
use super::image::Image;
use super::record::Blocks;
use crate::fs::scratch::Scratch;
use crate::tree::Content;

/// Unpacks the contents of one image.
#[derive(Debug)]
pub(super) struct Extractor<'a> {
    image: &'a Image,
    scratch: Scratch,
    known: BTreeMap<Blocks, Content>,
    fragment: Option<(u32, Rc<[u8]>)>,
}

impl<'a> Extractor<'a> {
    /// Begins with nothing unpacked.
    pub(super) fn new(image: &'a Image) -> Result<Self> {
        let scratch = Scratch::new(image.window.len())?;
        Ok(Self { image, scratch, known: BTreeMap::new(), fragment: None })
    }

    /// Returns a file's contents.
    pub(super) fn content(&mut self, blocks: &Blocks) -> Result<Content> {
        if blocks.len == 0 {
            return Ok(Content::Bytes(Arc::from([])));
        }
        if let Some(known) = self.known.get(blocks) {
            return Ok(known.clone());
        }
        let content = self.unpack(blocks)?;
        self.known.insert(blocks.clone(), content.clone());
        Ok(content)
    }

    /// Lets all contents returned so far be read.
    pub(super) fn finish(self) -> Result<()> {
        self.scratch.finish()
    }

    fn unpack(&mut self, blocks: &Blocks) -> Result<Content> {
        let image = self.image;
        let whole = u64::from(image.superblock.block_size);
        let tail = match blocks.fragment {
            Some((number, offset)) => Some((self.fragment(number)?, offset as usize)),
            None => None,
        };
        let in_place = tail.is_none() && blocks.sizes.iter().all(|size| size & DATA_PLAIN != 0);
        let mut unpacking = self.scratch.begin(blocks.len)?;
        let mut at = blocks.start;
        for size in &blocks.sizes {
            let want = (blocks.len - unpacking.len()).min(whole);
            if *size == 0 {
                unpacking.skip(want)?;
                continue;
            }
            let bytes = block(image, at, *size)?;
            let len = bytes.len() as u64;
            ensure!(len == want, "expected a block of {want} bytes, got {len}");
            at += u64::from(size & !DATA_PLAIN);
            if in_place { unpacking.pass(&bytes)? } else { unpacking.append(&bytes)? }
        }
        if let Some((fragment, from)) = tail {
            let want = (blocks.len - unpacking.len()) as usize;
            let tail = from.checked_add(want).and_then(|to| fragment.get(from..to));
            unpacking.append(tail.context("expected a file's end within its fragment")?)?;
        }
        Ok(unpacking.end(in_place.then(|| image.window.place(blocks.start))))
    }

    fn fragment(&mut self, number: u32) -> Result<Rc<[u8]>> {
        if let Some((known, bytes)) = &self.fragment
            && *known == number
        {
            return Ok(Rc::clone(bytes));
        }
        let found = self.image.fragments.get(number as usize);
        let (at, size) = found.with_context(|| format!("expected a fragment, got {number}"))?;
        let bytes: Rc<[u8]> = block(self.image, *at, *size)?.into();
        self.fragment = Some((number, Rc::clone(&bytes)));
        Ok(bytes)
    }
}

fn block(image: &Image, at: u64, size: u32) -> Result<Vec<u8>> {
    let len = (size & !DATA_PLAIN) as usize;
    let whole = image.superblock.block_size as usize;
    ensure!(len <= whole, "expected a stored block of up to {whole} bytes, got {len}");
    let stored = image.window.read(at, len)?;
    match size & DATA_PLAIN {
        0 => codec::decompress(image.superblock.compressor, &stored, whole),
        _ => Ok(stored),
    }
}
