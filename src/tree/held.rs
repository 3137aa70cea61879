//! Contents of an image that was read: they stay in it, in whatever form they
//! have there, and are unpacked and digested when somebody asks.
//!
//! So that listing an image reads none of them, and takes no room for them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

use super::Content;
use crate::oci::{Digest, Hasher};

/// How an image holds the contents of one file.
pub trait Hold: fmt::Debug + Send + Sync {
    /// Fills `buf` from `offset` on, all of which lies within the contents.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Returns where they stand byte for byte in one piece of a file, if so.
    fn place(&self) -> Option<(&Arc<File>, u64)> {
        None
    }
}

/// Contents that an image holds. Clones share what was found out of them.
#[derive(Clone, Debug)]
pub struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    len: u64,
    hold: Box<dyn Hold>,
    digest: OnceLock<Digest>,
}

impl Held {
    /// Describes `len` bytes of contents.
    pub(super) fn new(len: u64, hold: Box<dyn Hold>) -> Self {
        Self(Arc::new(Inner { len, hold, digest: OnceLock::new() }))
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.0.len
    }

    /// Returns where they stand in one piece, if so.
    pub(super) fn place(&self) -> Option<(&Arc<File>, u64)> {
        self.0.hold.place()
    }

    /// Reads what was checked to lie within.
    pub(super) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.hold.read_exact_at(buf, offset)
    }

    /// Returns the digest, if somebody asked before.
    pub(super) fn known_digest(&self) -> Option<Digest> {
        self.0.digest.get().copied()
    }

    /// Returns the digest; the first time all is read for it.
    pub(super) fn digest(&self) -> Result<Digest> {
        if let Some(known) = self.known_digest() {
            return Ok(known);
        }
        let mut hasher = Hasher::new(io::sink());
        Content::Held(self.clone()).copy_to(&mut hasher).context("reading a file to digest it")?;
        Ok(*self.0.digest.get_or_init(|| hasher.finish().1))
    }

    /// Says whether two are one and the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Contents that stand in a file byte for byte.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
}

impl Hold for Part {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let at = self.offset.checked_add(offset).context("expected an offset within a file")?;
        self.file.read_exact_at(buf, at).context("reading file contents from an image")
    }

    fn place(&self) -> Option<(&Arc<File>, u64)> {
        Some((&self.file, self.offset))
    }
}
