//! Layers, unpacked once: an uncompressed tar file and an index of it.
//!
//! Reads ustar, GNU and PAX tar (POSIX.1-2017, "pax Interchange Format"),
//! plain or under gzip, zstd or xz. GNU sparse entries are refused. Layers
//! are hostile: what leads out of the root is an error, and so is more data
//! or more entries than a layer of its size can honestly hold.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::index::{self, Entry, EntryKind};
use super::tar::{Member, Members};
use super::{Compression, Store, keep, lock};
use crate::error::{self, DigestMismatch};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::tree::{Content, components};

/// The most entries that a layer may have.
const ENTRIES_MAX: usize = 2_000_000;
/// How many bytes any layer may unpack to, however small.
const UNPACKED_FREE: u64 = 4 << 30;
/// How many times its own size a layer may unpack to beyond that.
const UNPACKED_RATIO: u64 = 200;

/// A layer, ready to be applied: its entries and the file that holds their
/// bytes.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The entries in order.
    pub entries: Vec<Entry>,
    /// The uncompressed tar file.
    pub tar: Arc<File>,
    /// The digest of all of it, where it is known: configs call it the diff id.
    pub diff_id: Option<Digest>,
}

impl Store {
    /// Returns a layer of the store, unpacked on first use. A blob that does
    /// not have its digest is removed and told as [`DigestMismatch`].
    pub fn layer(&self, blob: &Descriptor) -> Result<Layer> {
        if let Some(layer) = self.unpacked(&blob.digest)? {
            return Ok(layer);
        }
        let name = format!("layer-{}", blob.digest.hex());
        let _held = lock::exclusive(&self.root.join("locks").join(name))?;
        if let Some(layer) = self.unpacked(&blob.digest)? {
            return Ok(layer);
        }
        self.unpack(blob).with_context(|| format!("unpacking layer {}", blob.digest))
    }

    /// Returns the entries of a tar file that lies, uncompressed, within
    /// another layer. Its index is made once.
    pub fn inner_layer(&self, content: &Content) -> Result<Layer> {
        let Content::Span { file, offset: base, len, digest } = content else {
            bail!("expected a file of an image, got one made by hand");
        };
        let index = self.derived("tar-2", digest, |out| {
            let entries = read_entries(&mut content.reader())?;
            out.write_all(&index::encode(&entries, (*len, *digest))?).context("writing an index")
        })?;
        let (indexed, mut entries) = index::read(index)?;
        ensure!(indexed == (*len, *digest), "expected the index of {digest}, got {}", indexed.1);
        for entry in &mut entries {
            if let EntryKind::File { offset, .. } = &mut entry.kind {
                *offset += base;
            }
        }
        Ok(Layer { entries, tar: file.clone(), diff_id: Some(*digest) })
    }

    /// Says whether a layer is unpacked already.
    pub fn has_layer(&self, digest: &Digest) -> bool {
        self.layer_path(digest, "index").exists()
    }

    fn unpacked(&self, digest: &Digest) -> Result<Option<Layer>> {
        let path = self.layer_path(digest, "index");
        if !path.exists() {
            return Ok(None);
        }
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        // A damaged index or a cut tar file is made again from the blob.
        let Ok(((len, diff_id), entries)) = index::read(file) else {
            return Ok(None);
        };
        let path = self.layer_path(digest, "tar");
        match File::open(&path) {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.len() == len) => {
                Ok(Some(Layer { entries, tar: Arc::new(file), diff_id: Some(diff_id) }))
            }
            _ => Ok(None),
        }
    }

    fn unpack(&self, blob: &Descriptor) -> Result<Layer> {
        let file = self.open_blob(&blob.digest)?;
        let mut checked = Checked::new(file);
        let limit = UNPACKED_FREE.saturating_add(blob.size.saturating_mul(UNPACKED_RATIO));
        let out = BufWriter::with_capacity(1 << 20, self.temporary()?);
        let (read, out, len, diff_id) = split(&mut checked, out, limit);
        // A wrong digest explains any error in reading.
        let found = checked.digest()?;
        if found != blob.digest {
            return Err(self.damaged(&blob.digest, found));
        }
        let entries = read?;
        let diff_id = diff_id.unwrap_or(blob.digest);
        let out = out.into_inner().map_err(io::IntoInnerError::into_error);
        let out = out.context("writing the unpacked layer")?;
        let tar = keep(out, &self.layer_path(&blob.digest, "tar"))?;
        let bytes = index::encode(&entries, (len, diff_id))?;
        self.write_atomically(&self.layer_path(&blob.digest, "index"), &bytes)?;
        Ok(Layer { entries, tar: Arc::new(tar), diff_id: Some(diff_id) })
    }

    fn layer_path(&self, digest: &Digest, ending: &str) -> PathBuf {
        self.root.join("layers").join(format!("{}.{ending}", digest.hex()))
    }
}

/// Decompresses a layer into `out` and reads its entries on the way. Returns
/// the writer and the unpacked length whatever became of the reading, and the
/// digest of what was written, unless that is the layer's own.
fn split<W: Write>(
    from: impl Read,
    out: W,
    limit: u64,
) -> (Result<Vec<Entry>>, W, u64, Option<Digest>) {
    let mut from = BufReader::with_capacity(1 << 18, from);
    let packed = from.fill_buf().is_ok_and(is_packed);
    let plain = match decompress(from) {
        Ok(plain) => plain,
        Err(error) => return (Err(error), out, 0, None),
    };
    let hasher = packed.then(|| Hasher::new(io::sink()));
    let mut tee = Tee { from: plain, to: out, hasher, left: limit, limit };
    let read = read_entries(&mut tee).and_then(|entries| {
        io::copy(&mut tee, &mut io::sink()).context("reading the layer's end")?;
        Ok(entries)
    });
    let len = limit - tee.left;
    (read, tee.to, len, tee.hasher.map(|hasher| hasher.finish().1))
}

/// Says whether [`decompress`] does anything to what begins so.
fn is_packed(head: &[u8]) -> bool {
    matches!(
        head,
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
            | [0xfd, b'7', b'z', b'X', b'Z', ..]
    )
}

/// Removes the compression that the first bytes tell of.
pub fn decompress<'a>(mut from: impl io::BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let head = from.fill_buf().context("reading the layer's first bytes")?;
    match Compression::of(head) {
        // Nobody makes layers of several streams, and what one was read as stays.
        Some(xz @ Compression::Xz) => xz.first(from),
        Some(compression) => compression.all(from),
        None => Ok(Box::new(from)),
    }
}

/// Reads all entries of a tar stream.
///
/// This is what a fuzzer should call; [`Store::layer`] is its user here.
pub fn read_entries(stream: &mut dyn Read) -> Result<Vec<Entry>> {
    let mut members = Members::new(stream);
    let mut entries = Vec::new();
    while let Some(member) = members.next().context("reading the layer as tar")? {
        ensure!(entries.len() < ENTRIES_MAX, "expected at most {ENTRIES_MAX} entries, got more");
        let entry = read_entry(&member, &mut members).with_context(|| {
            format!("reading entry `{}`", String::from_utf8_lossy(&member.path))
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

fn read_entry(member: &Member, bytes: &mut dyn Read) -> Result<Entry> {
    let header = &member.header;
    let id = |key, field| u32::try_from(member.number(key, field)).unwrap_or(u32::MAX);
    let mtime = member.record("mtime").and_then(|value| std::str::from_utf8(value).ok());
    Ok(Entry {
        path: components(&member.path)?.join(&b'/'),
        kind: read_kind(member, bytes)?,
        mode: (header.mode().unwrap_or(0) & 0o7777) as u16,
        uid: id("uid", header.uid()),
        gid: id("gid", header.gid()),
        mtime: mtime.and_then(seconds).unwrap_or_else(|| raw_mtime(header)),
        xattrs: xattrs(member)?,
    })
}

fn xattrs(member: &Member) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for (key, value) in &member.records {
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        ensure!((1..=255).contains(&name.len()), "expected an xattr name of 1 to 255 bytes");
        ensure!(value.len() <= 65536, "expected an xattr of at most 64 KiB");
        all.push((name.to_vec(), value.clone()));
    }
    Ok(all)
}

fn read_kind(member: &Member, bytes: &mut dyn Read) -> Result<EntryKind> {
    use ::tar::EntryType as T;
    let header = &member.header;
    let device = || -> Result<(u32, u32)> {
        let number = |n: io::Result<Option<u32>>| Ok::<_, io::Error>(n?.unwrap_or(0));
        Ok((number(header.device_major())?, number(header.device_minor())?))
    };
    Ok(match header.entry_type() {
        T::Regular | T::Continuous => {
            // Old tars mark folders by a slash alone.
            if member.path.ends_with(b"/") && member.size == 0 {
                return Ok(EntryKind::Directory);
            }
            let mut hasher = Hasher::new(io::sink());
            let len = io::copy(bytes, &mut hasher).context("reading its bytes")?;
            ensure!(len == member.size, "expected {} bytes, got {len}", member.size);
            EntryKind::File { offset: member.offset, len, digest: hasher.finish().1 }
        }
        T::Directory => EntryKind::Directory,
        T::Symlink => EntryKind::Symlink(target(member)?.to_vec()),
        T::Link => {
            components(target(member)?)?;
            EntryKind::HardLink(target(member)?.to_vec())
        }
        T::Char => device().map(|(major, minor)| EntryKind::Char(major, minor))?,
        T::Block => device().map(|(major, minor)| EntryKind::Block(major, minor))?,
        T::Fifo => EntryKind::Fifo,
        T::GNUSparse => bail!("expected a plain file, got a GNU sparse entry"),
        other => bail!("expected a known kind of entry, got type {:?}", other.as_byte() as char),
    })
}

fn target(member: &Member) -> Result<&[u8]> {
    let target = &member.target;
    ensure!((1..=4096).contains(&target.len()), "expected a link target of 1 to 4096 bytes");
    ensure!(!target.contains(&0), "expected a link target without NUL bytes");
    Ok(target)
}

/// Whole seconds of a PAX time, rounded down.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|b| b != b'0');
    Some(if below { seconds.saturating_sub(1) } else { seconds })
}

// GNU's base-256 form may be negative; the tar crate reads it as unsigned.
fn raw_mtime(header: &::tar::Header) -> i64 {
    let field = &header.as_old().mtime;
    if field[0] & 0x80 != 0 {
        return i64::from_be_bytes(field[4..12].try_into().expect("8 bytes of 12"));
    }
    header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0)
}

/// Copies what is read to a file, up to a limit.
struct Tee<R, W> {
    from: R,
    to: W,
    /// Of what was read, where that is wanted.
    hasher: Option<Hasher<io::Sink>>,
    left: u64,
    limit: u64,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        let Some(left) = self.left.checked_sub(n as u64) else {
            let text = format!(
                "expected a layer that unpacks to at most {} bytes, got more: is it a bomb?",
                self.limit
            );
            return Err(io::Error::other(text));
        };
        self.to.write_all(&buf[..n])?;
        if let Some(hasher) = &mut self.hasher {
            hasher.write_all(&buf[..n])?;
        }
        self.left = left;
        Ok(n)
    }
}

/// Hashes a file while it is read.
struct Checked {
    file: File,
    hasher: Hasher<io::Sink>,
}

impl Checked {
    fn new(file: File) -> Self {
        Self { file, hasher: Hasher::new(io::sink()) }
    }

    /// Reads on to the end and returns the digest of all.
    fn digest(mut self) -> Result<Digest> {
        io::copy(&mut self.file, &mut self.hasher).context("reading the blob's end")?;
        Ok(self.hasher.finish().1)
    }
}

impl Read for Checked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.hasher.write_all(&buf[..n])?;
        Ok(n)
    }
}

/// Says whether an error means that content has the wrong digest.
pub fn is_damage(error: &anyhow::Error) -> bool {
    error::find::<DigestMismatch>(error).is_some()
}
