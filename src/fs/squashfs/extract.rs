//! File contents out of an image: a span of the image itself where they stand
//! there in one piece, otherwise unpacked into a nameless file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write, sink};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::codec;
use super::format::DATA_PLAIN;
use super::image::Image;
use super::record::Blocks;
use crate::oci::Hasher;
use crate::tree::Content;

/// How much all contents together may come to, beyond a multiple of the
/// image: a small image can claim any amount of zeros.
const TOTAL_MAX: u64 = 16 << 30;
const TOTAL_RATIO: u64 = 1024;

/// Unpacks the contents of one image.
#[derive(Debug)]
pub(super) struct Extractor<'a> {
    image: &'a Image,
    scratch: Arc<File>,
    writer: BufWriter<File>,
    written: u64,
    total: u64,
    known: BTreeMap<Blocks, Content>,
    fragment: Option<(u32, Rc<[u8]>)>,
}

impl<'a> Extractor<'a> {
    /// Makes the nameless file.
    pub(super) fn new(image: &'a Image) -> Result<Self> {
        let file = tempfile::tempfile().context("making a file for what is unpacked")?;
        let scratch = file.try_clone().context("opening the file for what is unpacked")?;
        Ok(Self {
            image,
            scratch: Arc::new(scratch),
            writer: BufWriter::with_capacity(1 << 20, file),
            written: 0,
            total: 0,
            known: BTreeMap::new(),
            fragment: None,
        })
    }

    /// Returns a file's contents.
    pub(super) fn content(&mut self, blocks: &Blocks) -> Result<Content> {
        if blocks.len == 0 {
            return Ok(Content::Bytes(Arc::from([])));
        }
        if let Some(known) = self.known.get(blocks) {
            return Ok(known.clone());
        }
        let limit = self.image.window.len().saturating_mul(TOTAL_RATIO).saturating_add(TOTAL_MAX);
        self.total = self.total.saturating_add(blocks.len);
        ensure!(self.total <= limit, "expected contents of up to {limit} bytes in all");
        let content = self.unpack(blocks)?;
        self.known.insert(blocks.clone(), content.clone());
        Ok(content)
    }

    /// Lets all contents returned so far be read.
    pub(super) fn finish(mut self) -> Result<()> {
        self.writer.flush().context("writing what is unpacked")?;
        // The last contents may end in a hole.
        self.scratch.set_len(self.written).context("writing what is unpacked")
    }

    fn unpack(&mut self, blocks: &Blocks) -> Result<Content> {
        let begin = self.written;
        let whole = self.image.superblock.block_size as usize;
        let all_plain =
            blocks.fragment.is_none() && blocks.sizes.iter().all(|size| size & DATA_PLAIN != 0);
        let mut hasher = Hasher::new(sink());
        let mut at = blocks.start;
        for size in &blocks.sizes {
            let want = (blocks.len - hasher.written()).min(whole as u64) as usize;
            let bytes = self.block(at, *size, want)?;
            ensure!(bytes.len() == want, "expected a block of {want} bytes, got {}", bytes.len());
            at += u64::from(size & !DATA_PLAIN);
            hasher.write_all(&bytes)?;
            if !all_plain {
                self.append(&bytes, *size == 0)?;
            }
        }
        if let Some((number, offset)) = blocks.fragment {
            let want = (blocks.len - hasher.written()) as usize;
            let fragment = self.fragment(number)?;
            let from = offset as usize;
            let tail = from.checked_add(want).and_then(|to| fragment.get(from..to));
            let tail = tail.context("expected a file's end within its fragment")?;
            hasher.write_all(tail)?;
            self.append(tail, false)?;
        }
        let (_, digest, len) = hasher.finish();
        let (file, offset) = match all_plain {
            true => self.image.window.place(blocks.start),
            false => (Arc::clone(&self.scratch), begin),
        };
        Ok(Content::Span { file, offset, len, digest })
    }

    fn append(&mut self, bytes: &[u8], zeros: bool) -> Result<()> {
        self.written += bytes.len() as u64;
        if zeros {
            self.writer.seek(SeekFrom::Start(self.written)).context("skipping zeros")?;
            return Ok(());
        }
        self.writer.write_all(bytes).context("writing what is unpacked")
    }

    fn block(&self, at: u64, size: u32, want: usize) -> Result<Vec<u8>> {
        if size == 0 {
            return Ok(vec![0; want]);
        }
        let len = (size & !DATA_PLAIN) as usize;
        let whole = self.image.superblock.block_size as usize;
        ensure!(len <= whole, "expected a stored block of up to {whole} bytes, got {len}");
        let stored = self.image.window.read(at, len)?;
        match size & DATA_PLAIN {
            0 => codec::decompress(self.image.superblock.compressor, &stored, whole),
            _ => Ok(stored),
        }
    }

    fn fragment(&mut self, number: u32) -> Result<Rc<[u8]>> {
        if let Some((known, bytes)) = &self.fragment
            && *known == number
        {
            return Ok(Rc::clone(bytes));
        }
        let found = self.image.fragments.get(number as usize);
        let (at, size) = found.with_context(|| format!("expected a fragment, got {number}"))?;
        let bytes: Rc<[u8]> = self.block(*at, *size, 0)?.into();
        self.fragment = Some((number, Rc::clone(&bytes)));
        Ok(bytes)
    }
}
