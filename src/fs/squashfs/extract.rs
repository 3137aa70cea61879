//! File contents out of an image: a span of the image itself where they stand
//! there in one piece, otherwise unpacked block by block when they are read.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};

use super::format::DATA_PLAIN;
use super::image::Image;
use super::record::Blocks;
use crate::tree::{Content, Hold};

/// Returns a file's contents.
pub(super) fn content(image: &Arc<Image>, blocks: &Blocks) -> Result<Content> {
    if blocks.len == 0 {
        return Ok(Content::Bytes(Arc::default()));
    }
    if let Some((number, _)) = blocks.fragment {
        ensure!((number as usize) < image.fragments.len(), "expected a fragment, got {number}");
    }
    let stored = blocks.sizes.iter().map(|size| u64::from(size & !DATA_PLAIN)).sum();
    image.window.check(blocks.start, stored).context("looking for contents")?;
    let is_plain = blocks.sizes.iter().all(|size| size & DATA_PLAIN != 0);
    if is_plain && blocks.fragment.is_none() && stored == blocks.len {
        let (file, at) = image.window.place(blocks.start);
        return Ok(Content::part(file, at, blocks.len));
    }
    let (image, len) = (Arc::clone(image), blocks.len);
    let packed = Packed { image, blocks: blocks.clone(), starts: OnceLock::new() };
    Ok(Content::held(len, Box::new(packed)))
}

/// Contents in blocks, the last of which may lie in a fragment.
#[derive(Debug)]
struct Packed {
    image: Arc<Image>,
    blocks: Blocks,
    /// Where each block begins in the image, once somebody reads.
    starts: OnceLock<Box<[u64]>>,
}

impl Hold for Packed {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let whole = u64::from(self.image.superblock.block_size);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (number, within) = (at / whole, (at % whole) as usize);
            let len = (self.blocks.len - number * whole).min(whole) as usize;
            let part = &mut buf[done..];
            let n = part.len().min(len - within);
            self.read_block(number as usize, len, within, &mut part[..n])
                .with_context(|| format!("unpacking block {number} of a file"))?;
            done += n;
        }
        Ok(())
    }
}

impl Packed {
    /// Fills `buf` from `within` on of a block that comes to `len` bytes.
    fn read_block(&self, number: usize, len: usize, within: usize, buf: &mut [u8]) -> Result<()> {
        let range = |from: usize| from + within..from + within + buf.len();
        let Some(size) = self.blocks.sizes.get(number) else {
            let fragment = self.blocks.fragment.context("expected as many blocks as bytes")?;
            let (at, size) = self.image.fragments[fragment.0 as usize];
            let bytes = self.image.data(at, size)?;
            let tail = bytes.get(range(fragment.1 as usize));
            buf.copy_from_slice(tail.context("expected a file's end within its fragment")?);
            return Ok(());
        };
        if *size == 0 {
            buf.fill(0);
            return Ok(());
        }
        let bytes = self.image.data(self.starts()[number], *size)?;
        ensure!(bytes.len() == len, "expected a block of {len} bytes, got {}", bytes.len());
        buf.copy_from_slice(&bytes[range(0)]);
        Ok(())
    }

    fn starts(&self) -> &[u64] {
        self.starts.get_or_init(|| {
            let next = |at: &mut u64, size: &u32| {
                let begin = *at;
                *at += u64::from(size & !DATA_PLAIN);
                Some(begin)
            };
            self.blocks.sizes.iter().scan(self.blocks.start, next).collect()
        })
    }
}
