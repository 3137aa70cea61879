//! Digests of what is written, made beside the writing by a thread of its own,
//! and kept under a key that names the bytes, so that what was written before
//! is not digested again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use anyhow::{Context, Result};

use crate::fs::{Extents, Piece};
use crate::oci::{Digest, Hasher};
use crate::store::Store;

/// Names the kept digests, with a version.
const KIND: &str = "digest-1";
/// How much is written and digested at once, in bytes.
const BLOCK: usize = 1 << 20;
/// How many blocks the digest may fall behind.
const BEHIND: usize = 8;

/// A digest, and how many bytes it is of.
pub(super) type Digested = (Digest, u64);

/// Returns the digest that is kept under a key.
pub(super) fn known(store: &Store, key: &Digest) -> Option<Digested> {
    let mut bytes = Vec::new();
    store.known(KIND, key)?.read_to_end(&mut bytes).ok()?;
    postcard::from_bytes(&bytes).ok()
}

/// Keeps a digest under a key.
pub(super) fn keep(store: &Store, key: &Digest, found: &Digested) -> Result<()> {
    let bytes = postcard::to_stdvec(found).context("encoding a digest")?;
    store.keep_derived(KIND, key, &bytes).context("keeping a digest")
}

/// Digests a file from its beginning, whatever position it is at.
pub(super) fn file(file: &File) -> Result<Digested> {
    let mut hasher = Hasher::new(io::sink());
    let mut buf = vec![0; BLOCK / 4];
    loop {
        let n = file.read_at(&mut buf, hasher.written()).context("digesting what was written")?;
        if n == 0 {
            break;
        }
        hasher.write_all(&buf[..n]).context("digesting what was written")?;
    }
    let (_, digest, len) = hasher.finish();
    Ok((digest, len))
}

/// Writes an image to an empty file and digests it.
pub(super) fn image(file: &File, image: &Extents) -> Result<Digested> {
    thread::scope(|scope| {
        let digest = scope.spawn(|| image.digest());
        image.write_file(file)?;
        let digest = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((digest?, image.len()))
    })
}

/// Names the bytes of an image by what it is made of: bytes at hand, and spans
/// of files in the store, which nobody changes. Reads none of them. `form` is
/// what becomes of the image, nothing where it is written as it is.
pub(super) fn key(image: &Extents, form: &str) -> Result<Digest> {
    let mut hasher = Hasher::new(io::sink());
    hasher.write_all(form.as_bytes()).context("hashing")?;
    let mut add = |fields: &[u64]| {
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        hasher.write_all(&bytes)
    };
    add(&[image.len()]).context("hashing")?;
    for (at, len, piece) in image.runs() {
        match piece {
            Piece::Bytes { bytes, from } => {
                let from = *from as usize;
                let digest = Digest::of(&bytes[from..from + len as usize]);
                add(&[0, at, len]).context("hashing")?;
                add(&words(&digest)).context("hashing")?;
            }
            Piece::Span { file, from } => {
                let meta = file.metadata().context("finding what an image is made of")?;
                let changed = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
                add(&[1, at, len, *from, meta.dev(), meta.ino(), meta.len()]).context("hashing")?;
                add(&changed.map(i64::cast_unsigned)).context("hashing")?;
            }
            Piece::Held { content, from } => {
                add(&[2, at, len, *from]).context("hashing")?;
                add(&words(&content.digest()?)).context("hashing")?;
            }
        }
    }
    Ok(hasher.finish().1)
}

fn words(digest: &Digest) -> Vec<u64> {
    let word = |part: &[u8]| u64::from_le_bytes(part.try_into().expect("a digest has 32 bytes"));
    digest.bytes().chunks(8).map(word).collect()
}

/// Writes a file from its beginning to its end by `write`; digests it unless
/// it is known.
pub(super) fn stream(
    file: &File,
    known: Option<Digested>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Digested> {
    if let Some(known) = known {
        let mut out = io::BufWriter::with_capacity(BLOCK, file);
        write(&mut out)?;
        out.flush().context("writing the last of a file")?;
        drop(out);
        let len = file.metadata().context("measuring what was written")?.len();
        return if len == known.1 { Ok(known) } else { self::file(file) };
    }
    let (full, blocks) = sync_channel::<Vec<u8>>(BEHIND);
    let (empty, used) = sync_channel(BEHIND);
    thread::scope(|scope| {
        let digest = scope.spawn(move || digest_blocks(&blocks, &empty));
        let mut out = Beside { file, block: Vec::with_capacity(BLOCK), full, used };
        write(&mut out)?;
        out.end_block().context("writing the last of a file")?;
        drop(out);
        digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn digest_blocks(blocks: &Receiver<Vec<u8>>, empty: &SyncSender<Vec<u8>>) -> Result<Digested> {
    let mut hasher = Hasher::new(io::sink());
    for block in blocks {
        hasher.write_all(&block).context("digesting what is written")?;
        // Where nobody wants the block again, it is freed.
        if let Err(TrySendError::Full(block) | TrySendError::Disconnected(block)) =
            empty.try_send(block)
        {
            drop(block);
        }
    }
    let (_, digest, len) = hasher.finish();
    Ok((digest, len))
}

/// Writes blocks to a file and hands them on to be digested.
struct Beside<'a> {
    file: &'a File,
    block: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    /// Blocks to be filled again.
    used: Receiver<Vec<u8>>,
}

impl Beside<'_> {
    fn end_block(&mut self) -> io::Result<()> {
        self.file.write_all(&self.block)?;
        let mut next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK));
        next.clear();
        let block = std::mem::replace(&mut self.block, next);
        self.full.send(block).map_err(io::Error::other)
    }
}

impl Write for Beside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn tells_the_digest_of_what_is_written() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 7] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let expected = (Digest::of(&bytes), len as u64);
            let target = tempfile::tempfile().unwrap();
            let write = |out: &mut dyn Write| Ok(out.write_all(&bytes)?);
            assert_eq!(stream(&target, None, write).unwrap(), expected);
            assert_eq!(file(&target).unwrap(), expected);
            let wrong = Some((Digest::of(b""), len as u64 + 1));
            let target = tempfile::tempfile().unwrap();
            assert_eq!(stream(&target, wrong, write).unwrap(), expected);
            let target = tempfile::tempfile().unwrap();
            assert_eq!(image(&target, &Extents::of_bytes(bytes.clone())).unwrap(), expected);
            assert_eq!(file(&target).unwrap(), expected);
        }
    }

    #[test]
    fn fails_as_the_writer_does() {
        let target = tempfile::tempfile().unwrap();
        let write = |out: &mut dyn Write| {
            out.write_all(&[1; 3 * BLOCK])?;
            anyhow::bail!("no more")
        };
        assert_eq!(stream(&target, None, write).unwrap_err().to_string(), "no more");
    }

    #[test]
    fn names_an_image_by_its_parts() {
        let kept = || {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&[1; 9000], 0).unwrap();
            Arc::new(file)
        };
        let (one, other) = (kept(), kept());
        let image = |file: &Arc<File>, from: u64| {
            let mut image = Extents::of_bytes(vec![7; 5000]);
            image.put_piece(6000, 100, &Piece::Span { file: Arc::clone(file), from });
            image
        };
        let known = key(&image(&one, 0), "").unwrap();
        assert_eq!(key(&image(&one, 0), "").unwrap(), known);
        assert_ne!(key(&image(&one, 0), "gzip").unwrap(), known);
        assert_ne!(key(&image(&one, 1), "").unwrap(), known);
        assert_ne!(key(&image(&other, 0), "").unwrap(), known);
    }

    #[test]
    fn keeps_digests() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (name, found) = (Digest::of(b"name"), (Digest::of(b"bytes"), 5));
        assert_eq!(known(&store, &name), None);
        keep(&store, &name, &found).unwrap();
        assert_eq!(known(&store, &name), Some(found));
    }
}
