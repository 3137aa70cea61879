//! Writes cpio archives entry by entry.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::{HEADER, MAGIC, NAME_MAX, TRAILER, padding};
use crate::fs::target;
use crate::oci::{Digest, Hasher};
use crate::tree::{Content, Id, Kind, Tree};

/// An inode with all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The inode.
    pub id: Id,
    /// Its paths, without a slash at either end; more than one for hard links.
    pub paths: Vec<Vec<u8>>,
}

/// Writes an archive. Inodes are numbered as they come, so that equal items
/// give equal bytes.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    inodes: u32,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inodes: 0 }
    }

    /// Writes an inode under all its names, the contents with the last.
    pub fn append(&mut self, tree: &Tree, item: &Item) -> Result<()> {
        self.entries(tree, item, |out, content| {
            content.copy_to(out)?;
            out.write_all(&[0; 3][..padding(content.len())]).context("padding a cpio entry")
        })
    }

    /// Ends the archive and returns what it was written to.
    pub fn finish(mut self) -> Result<W> {
        let header = Header { links: 1, ..Header::default() };
        header.write(TRAILER, &mut self.out)?;
        Ok(self.out)
    }

    fn entries(
        &mut self,
        tree: &Tree,
        item: &Item,
        mut body: impl FnMut(&mut W, &Content) -> Result<()>,
    ) -> Result<()> {
        let inode = tree.get(item.id);
        self.inodes += 1;
        let folder = matches!(inode.kind, Kind::Directory(_));
        let mut header = Header {
            inode: self.inodes,
            mode: inode.kind.type_bits() | u32::from(inode.meta.mode),
            uid: inode.meta.uid,
            gid: inode.meta.gid,
            links: if folder { 2 } else { u32::try_from(item.paths.len())? },
            // Times that the field cannot hold are brought into its range.
            mtime: inode.meta.mtime.clamp(0, i64::from(u32::MAX)) as u32,
            ..Header::default()
        };
        if let Kind::Char(major, minor) | Kind::Block(major, minor) = inode.kind {
            header.device = (major, minor);
        }
        item.paths.iter().try_for_each(|path| check(path))?;
        let content = match &inode.kind {
            Kind::File(content) => content.clone(),
            Kind::Symlink(target) => {
                let shown = || format!("writing `{}` to cpio", lossy(item));
                Content::Bytes(target::checked(target).with_context(shown)?.into())
            }
            _ => Content::Bytes([].into()),
        };
        // The kernel links files and nodes, but makes each symlink anew.
        let every = matches!(inode.kind, Kind::Symlink(_));
        for (index, path) in item.paths.iter().enumerate() {
            let whole = every || index + 1 == item.paths.len();
            let shown = || format!("writing `{}`", String::from_utf8_lossy(path));
            header.size = if whole { size(path, &content)? } else { 0 };
            header.write(path, &mut self.out).with_context(shown)?;
            if header.size > 0 {
                body(&mut self.out, &content).with_context(shown)?;
            }
        }
        Ok(())
    }
}

/// The first name of an item, for errors.
fn lossy(item: &Item) -> String {
    String::from_utf8_lossy(item.paths.first().map_or(&[], Vec::as_slice)).into_owned()
}

/// Checks a name: one ends archives, and one too long is passed over by the
/// kernel without a word.
fn check(path: &[u8]) -> Result<()> {
    let shown = || String::from_utf8_lossy(path);
    ensure!(path != TRAILER, "cpio cannot hold `{}`: that name ends an archive", shown());
    let most = NAME_MAX as usize - 1;
    ensure!(
        path.len() <= most,
        "cpio cannot hold `{}`: expected a name of at most {most} bytes",
        shown()
    );
    Ok(())
}

fn size(path: &[u8], content: &Content) -> Result<u32> {
    let fits = u32::try_from(content.len()).ok();
    ensure!(
        fits.is_some(),
        "expected a file below 4 GiB, which is all that cpio can hold: `{}` has {} bytes",
        String::from_utf8_lossy(path),
        content.len()
    );
    Ok(fits.unwrap_or_default())
}

/// Names the bytes that an archive of some items would have, without
/// reading any contents.
pub fn key(tree: &Tree, items: &[Item]) -> Result<Digest> {
    let mut writer = Writer::new(Hasher::new(std::io::sink()));
    for item in items {
        writer.entries(tree, item, |out, content| {
            out.write_all(content.digest()?.bytes()).context("hashing")
        })?;
    }
    Ok(writer.finish()?.finish().1)
}

#[derive(Clone, Copy, Debug, Default)]
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
}

impl Header {
    fn write(&self, name: &[u8], out: &mut dyn Write) -> Result<()> {
        // The root has a name here: none would end the archive for some.
        let name = if name.is_empty() { b"." } else { name };
        let mut bytes = Vec::with_capacity(HEADER + name.len() + 4);
        bytes.extend_from_slice(MAGIC);
        let (major, minor) = self.device;
        for field in [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.size,
            0,
            0,
            major,
            minor,
            u32::try_from(name.len() + 1)?,
            0,
        ] {
            write!(bytes, "{field:08x}").context("writing a cpio header")?;
        }
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(&[0; 3][..padding(bytes.len() as u64)]);
        out.write_all(&bytes).context("writing a cpio header")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    #[test]
    fn every_name_of_a_symlink_has_its_target() {
        let mut tree = Tree::new();
        let kind = Kind::Symlink((*b"target").into());
        let inode = Inode { meta: Metadata::root(0o777, 0), kind, part: 0 };
        let id = tree.insert(b"a", inode).unwrap();
        tree.link(id, b"b").unwrap();
        let mut writer = Writer::new(Vec::new());
        writer.append(&tree, &Item { id, paths: vec![b"a".to_vec(), b"b".to_vec()] }).unwrap();
        let bytes = writer.finish().unwrap();
        let targets = bytes.windows(6).filter(|window| window == b"target").count();
        assert_eq!(targets, 2);
        let again = super::super::read(&mut &*bytes, &mut |_, _| unreachable!()).unwrap();
        assert_eq!(again.lookup(b"a"), again.lookup(b"b"));
    }
}
