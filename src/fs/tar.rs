//! Tar archives: a tree to POSIX.1-2017 "pax Interchange Format".
//!
//! What fits the old ustar header stands there; PAX records hold the rest:
//! long names, large or negative numbers, extended attributes and records of
//! the caller's. Reading is the store's (`store::read_entries`).

use std::io::{self, Write};

use anyhow::{Context, Result, bail};

use super::Extents;
use crate::oci::{Digest, Hasher};
use crate::tree::{Content, Kind, LinkHeader, Metadata, Tree, components};

const BLOCK: usize = 512;
/// The longest name that the header's own field holds, in bytes.
const NAME_MAX: usize = 100;
/// The largest number of an 8-byte octal field.
const ID_MAX: u32 = 0o7_777_777;
/// The largest number of a 12-byte octal field.
const SIZE_MAX: u64 = 0o77_777_777_777;

/// PAX records by the part of an inode.
pub type Records<'a> = &'a dyn Fn(u32) -> Vec<(&'static str, String)>;

/// Writes all of a tree. A root folder that is as in a new tree is left out.
pub fn write(tree: &Tree, records: Records<'_>, out: &mut dyn Write) -> Result<()> {
    write_with(tree, records, out, &|content, out| content.copy_to(out))
}

/// Returns a key of a tree's archive, for which no contents are read: equal
/// keys mean equal archives.
pub fn key(tree: &Tree, records: Records<'_>) -> Result<Digest> {
    let mut key = Hasher::new(io::sink());
    write_with(tree, records, &mut key, &|content, key| {
        key.write_all(content.digest()?.bytes()).context("hashing")
    })?;
    Ok(key.finish().1)
}

/// Writes all of a tree, the contents by `put`.
fn write_with(
    tree: &Tree,
    records: Records<'_>,
    out: &mut dyn Write,
    put: &dyn Fn(&Content, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut first: Vec<Option<Vec<u8>>> = vec![None; tree.capacity()];
    for found in tree.walk() {
        let inode = tree.get(found.id);
        let new_root = found.path.is_empty() && inode.meta == Metadata::root(0o755, 0);
        // Folders that are only in some path are so in the archive, too.
        if new_root || tree.is_implied(found.id) {
            continue;
        }
        let known = first[found.id.index()].as_deref();
        let mut entry = Entry::new(&found.path, &inode.meta, &inode.kind, known)
            .with_context(|| format!("writing `{}`", String::from_utf8_lossy(&found.path)))?;
        if let (Some(known), Some(header)) = (known, tree.link_header(&found.path)) {
            entry.repeat(header, known);
        }
        let content = entry.content;
        entry.write(records(inode.part), out)?;
        if let Some(content) = content {
            put(content, out)?;
            pad(content.len(), out)?;
        }
        if known.is_none() && !matches!(inode.kind, Kind::Directory(_)) {
            first[found.id.index()] = Some(found.path);
        }
    }
    finish(out)
}

/// Writes one file of root's, for archives made by hand.
pub fn write_file(path: &str, mtime: i64, content: &Content, out: &mut dyn Write) -> Result<()> {
    write_header(path, mtime, content.len(), out)?;
    content.copy_to(out)?;
    pad(content.len(), out)
}

/// Adds one file of root's to an archive that is laid out.
pub fn push_file(path: &str, mtime: i64, file: &Extents, archive: &mut Extents) -> Result<()> {
    let mut header = Vec::new();
    write_header(path, mtime, file.len(), &mut header)?;
    archive.push_bytes(header);
    archive.push(file);
    archive.align(BLOCK as u64);
    Ok(())
}

/// Ends an archive that is laid out.
pub fn end(archive: &mut Extents) {
    archive.grow(archive.len() + 2 * BLOCK as u64);
}

fn write_header(path: &str, mtime: i64, len: u64, out: &mut dyn Write) -> Result<()> {
    let (meta, kind) = (Metadata::root(0o644, mtime), Kind::bytes(&b""[..]));
    let mut entry = Entry::new(path.as_bytes(), &meta, &kind, None)?;
    entry.set_size(len);
    entry.write(Vec::new(), out)
}

/// Writes the two empty blocks that end an archive.
pub fn finish(out: &mut dyn Write) -> Result<()> {
    out.write_all(&[0; 2 * BLOCK]).context("writing the archive's end")
}

/// One entry: its header, the records that do not fit there, its contents.
struct Entry<'a> {
    header: tar::Header,
    records: Vec<(&'static [u8], Vec<u8>)>,
    xattrs: Vec<(&'a [u8], &'a [u8])>,
    content: Option<&'a Content>,
}

impl<'a> Entry<'a> {
    fn new(path: &[u8], meta: &'a Metadata, kind: &'a Kind, link: Option<&[u8]>) -> Result<Self> {
        let xattrs = meta.xattrs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let header = tar::Header::new_ustar();
        let mut entry = Self { header, records: Vec::new(), xattrs, content: None };
        entry.set_kind(kind, link)?;
        entry.set_path(path, matches!(kind, Kind::Directory(_)));
        entry.header.set_mode(u32::from(meta.mode));
        entry.set_ids(meta.uid, meta.gid);
        entry.set_mtime(meta.mtime);
        Ok(entry)
    }

    fn set_path(&mut self, path: &[u8], folder: bool) {
        let path = match (path.is_empty(), folder) {
            (true, _) => b"./".to_vec(),
            (false, true) => [path, b"/"].concat(),
            (false, false) => path.to_vec(),
        };
        let name = &mut self.header.as_old_mut().name;
        let held = path.len().min(NAME_MAX);
        name[..held].copy_from_slice(&path[..held]);
        if held < path.len() || !path.is_ascii() {
            self.records.push((b"path", path));
        }
    }

    fn set_kind(&mut self, kind: &'a Kind, link: Option<&[u8]>) -> Result<()> {
        use tar::EntryType as T;
        self.header.set_size(0);
        if let Some(target) = link {
            self.header.set_entry_type(T::Link);
            self.set_target(target);
            return Ok(());
        }
        match kind {
            Kind::Directory(_) => self.header.set_entry_type(T::Directory),
            Kind::File(content) => {
                self.header.set_entry_type(T::Regular);
                self.set_size(content.len());
                self.content = Some(content);
            }
            Kind::Symlink(target) => {
                self.header.set_entry_type(T::Symlink);
                self.set_target(target);
            }
            Kind::Char(major, minor) => self.set_device(T::Char, *major, *minor)?,
            Kind::Block(major, minor) => self.set_device(T::Block, *major, *minor)?,
            Kind::Fifo => self.header.set_entry_type(T::Fifo),
            Kind::Socket => bail!("expected something that tar can hold, got a socket"),
        }
        Ok(())
    }

    fn set_target(&mut self, target: &[u8]) {
        let name = &mut self.header.as_old_mut().linkname;
        let held = target.len().min(NAME_MAX);
        name[..held].copy_from_slice(&target[..held]);
        if held < target.len() || !target.is_ascii() {
            self.records.push((b"linkpath", target.to_vec()));
        }
    }

    /// Writes a hard link as it was written, if it still names what it did.
    fn repeat(&mut self, header: &LinkHeader, known: &[u8]) {
        self.header.set_mode(u32::from(header.mode));
        if components(&header.target).is_ok_and(|names| names.join(&b'/') == known) {
            self.records.retain(|(key, _)| *key != b"linkpath");
            self.header.as_old_mut().linkname = [0; NAME_MAX];
            self.set_target(&header.target);
        }
    }

    fn set_device(&mut self, kind: tar::EntryType, major: u32, minor: u32) -> Result<()> {
        self.header.set_entry_type(kind);
        self.header.set_device_major(major).context("writing a device's major number")?;
        self.header.set_device_minor(minor).context("writing a device's minor number")
    }

    fn set_size(&mut self, size: u64) {
        self.header.set_size(size.min(SIZE_MAX));
        if size > SIZE_MAX {
            self.records.push((b"size", size.to_string().into_bytes()));
        }
    }

    fn set_ids(&mut self, uid: u32, gid: u32) {
        self.header.set_uid(u64::from(uid.min(ID_MAX)));
        self.header.set_gid(u64::from(gid.min(ID_MAX)));
        for (key, id) in [(&b"uid"[..], uid), (b"gid", gid)] {
            if id > ID_MAX {
                self.records.push((key, id.to_string().into_bytes()));
            }
        }
    }

    fn set_mtime(&mut self, mtime: i64) {
        let held = u64::try_from(mtime).ok().filter(|time| *time <= SIZE_MAX);
        self.header.set_mtime(held.unwrap_or(0));
        if held.is_none() {
            self.records.push((b"mtime", mtime.to_string().into_bytes()));
        }
    }

    /// Writes the header; contents are for the caller to write behind it.
    fn write(mut self, further: Vec<(&'static str, String)>, out: &mut dyn Write) -> Result<()> {
        let mut pax = Vec::new();
        for (key, value) in &self.records {
            record(&mut pax, key, value);
        }
        for (name, value) in &self.xattrs {
            record(&mut pax, &[b"SCHILY.xattr.", *name].concat(), value);
        }
        for (key, value) in further {
            record(&mut pax, key.as_bytes(), value.as_bytes());
        }
        if !pax.is_empty() {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::XHeader);
            header.as_old_mut().name[..b"PaxHeader".len()].copy_from_slice(b"PaxHeader");
            header.set_mode(0o644);
            header.set_size(pax.len() as u64);
            header.set_cksum();
            out.write_all(header.as_bytes()).context("writing a tar header")?;
            out.write_all(&pax).context("writing PAX records")?;
            pad(pax.len() as u64, out)?;
        }
        self.header.set_cksum();
        out.write_all(self.header.as_bytes()).context("writing a tar header")
    }
}

/// Writes one record, `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(len.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn pad(len: u64, out: &mut dyn Write) -> Result<()> {
    let over = (len % BLOCK as u64) as usize;
    let missing = if over == 0 { 0 } else { BLOCK - over };
    out.write_all(&[0; BLOCK][..missing]).context("padding a tar entry")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EntryKind, read_entries};
    use crate::tree::Inode;

    #[test]
    fn measures_records() {
        for (value, expected) in [(4, "9 k="), (5, "11 k="), (93, "99 k="), (94, "101 k=")] {
            let mut pax = Vec::new();
            record(&mut pax, b"k", &vec![b'v'; value]);
            assert!(pax.starts_with(expected.as_bytes()), "{value}");
            assert_eq!(pax.len().to_string(), expected.split(' ').next().unwrap());
        }
    }

    #[test]
    fn holds_what_ustar_cannot() {
        let mut tree = Tree::new();
        let mut meta =
            Metadata { mode: 0o4755, uid: 3_000_000, gid: 5, mtime: -7, ..Default::default() };
        meta.xattrs.insert(b"security.capability"[..].into(), b"\x01\0\n="[..].into());
        let long = [&[b'n'; 250][..], b"/\xff"].concat();
        let inode = Inode { meta, kind: Kind::bytes(&b"x"[..]), part: 1 };
        let id = tree.insert(&long, inode).unwrap();
        tree.link(id, b"other").unwrap();
        let mut bytes = Vec::new();
        write(&tree, &|_| vec![("LINUXKIT.source", "s".to_owned())], &mut bytes).unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let entries = read_entries(&mut &bytes[..]).unwrap();
        let file = entries.iter().find(|e| e.path == long).unwrap();
        assert_eq!((file.mode, file.uid, file.mtime), (0o4755, 3_000_000, -7));
        assert_eq!(file.xattrs, [(b"security.capability".to_vec(), b"\x01\0\n=".to_vec())]);
        assert_eq!(entries.last().unwrap().kind, EntryKind::HardLink(long));
    }
}
