//! A nameless file into which a reader unpacks contents that do not stand in
//! their image in one piece.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write, sink};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::oci::Hasher;
use crate::tree::Content;

/// How much all contents together may come to, beyond a multiple of the
/// image: a small image can claim any amount of zeros.
const TOTAL_MAX: u64 = 16 << 30;
const TOTAL_RATIO: u64 = 1024;

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Scratch {
    shared: Arc<File>,
    writer: BufWriter<File>,
    written: u64,
    total: u64,
    limit: u64,
}

/// One file's contents while they are unpacked.
#[derive(Debug)]
pub(crate) struct Unpacking<'a> {
    scratch: &'a mut Scratch,
    hasher: Hasher<std::io::Sink>,
    begin: u64,
}

impl Scratch {
    /// Makes the file, for an image of `len` bytes.
    pub(crate) fn new(len: u64) -> Result<Self> {
        let file = tempfile::tempfile().context("making a file for what is unpacked")?;
        let shared = file.try_clone().context("opening the file for what is unpacked")?;
        Ok(Self {
            shared: Arc::new(shared),
            writer: BufWriter::with_capacity(1 << 20, file),
            written: 0,
            total: 0,
            limit: len.saturating_mul(TOTAL_RATIO).saturating_add(TOTAL_MAX),
        })
    }

    /// Begins a file's contents, which are `len` bytes long.
    pub(crate) fn begin(&mut self, len: u64) -> Result<Unpacking<'_>> {
        self.total = self.total.saturating_add(len);
        ensure!(self.total <= self.limit, "expected contents of up to {} bytes in all", self.limit);
        let begin = self.written;
        Ok(Unpacking { scratch: self, hasher: Hasher::new(sink()), begin })
    }

    /// Lets all contents unpacked so far be read.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer.flush().context("writing what is unpacked")?;
        // The last contents may end in a hole.
        self.shared.set_len(self.written).context("writing what is unpacked")
    }
}

impl Unpacking<'_> {
    /// Returns how much there is so far, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.hasher.written()
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.write_all(bytes)?;
        self.scratch.written += bytes.len() as u64;
        self.scratch.writer.write_all(bytes).context("writing what is unpacked")
    }

    /// Appends zeros, as a hole.
    pub(crate) fn skip(&mut self, mut len: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        self.scratch.written += len;
        while len > 0 {
            let n = len.min(ZEROS.len() as u64);
            self.hasher.write_all(&ZEROS[..n as usize])?;
            len -= n;
        }
        let to = SeekFrom::Start(self.scratch.written);
        self.scratch.writer.seek(to).context("skipping zeros")?;
        Ok(())
    }

    /// Takes account of bytes that need not be copied.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.hasher.write_all(bytes)?)
    }

    /// Ends the contents. Where they were passed only, `place` is where they
    /// stand.
    pub(crate) fn end(self, place: Option<(Arc<File>, u64)>) -> Content {
        let (_, digest, len) = self.hasher.finish();
        let copied = || (Arc::clone(&self.scratch.shared), self.begin);
        let (file, offset) = place.unwrap_or_else(copied);
        Content::Span { file, offset, len, digest }
    }
}
