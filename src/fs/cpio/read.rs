//! Reads cpio archives, one or several behind each other, into a tree.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};

use super::{HEADER, MAGIC, NAME_MAX, TRAILER, padding};
use crate::tree::{Content, Id, Inode, Kind, Metadata, Tree};

/// The most inodes that are read.
const INODES_MAX: usize = 2_000_000;

/// Reads an uncompressed initial root into a tree. `keep` stores the contents
/// of a file, which it is given as a reader and a length.
pub fn read(
    stream: &mut dyn Read,
    keep: &mut dyn FnMut(&mut dyn Read, u64) -> Result<Content>,
) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut links: BTreeMap<(u32, u32, u32), Id> = BTreeMap::new();
    while let Some(header) = Header::read(stream)? {
        let name = header.name(stream)?;
        if name == TRAILER {
            links.clear();
            continue;
        }
        ensure!(tree.capacity() < INODES_MAX, "expected at most {INODES_MAX} inodes, got more");
        let shown = || format!("reading `{}`", String::from_utf8_lossy(&name));
        let kind = header.kind(stream, keep).with_context(shown)?;
        let shared = (header.links > 1 && !matches!(kind, Kind::Directory(_))).then_some((
            header.inode,
            header.device.0,
            header.device.1,
        ));
        if let Some(known) = shared.and_then(|key| links.get(&key).copied()) {
            tree.link(known, &name).with_context(shown)?;
            if header.size > 0 {
                tree.get_mut(known).kind = kind;
            }
            continue;
        }
        let inode = Inode { meta: header.metadata(), kind, part: 0 };
        let id = tree.insert(&name, inode).with_context(shown)?;
        links.extend(shared.map(|key| (key, id)));
    }
    Ok(tree)
}

struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
    special: (u32, u32),
    name_len: u32,
}

impl Header {
    /// Reads the next header; zeros before it are nothing.
    fn read(stream: &mut dyn Read) -> Result<Option<Self>> {
        let mut bytes = [0; HEADER];
        loop {
            match stream.read_exact(&mut bytes[..4]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read.context("reading a cpio header")?,
            }
            if bytes[..4] != [0; 4] {
                break;
            }
        }
        stream.read_exact(&mut bytes[4..]).context("reading a cpio header")?;
        ensure!(bytes.starts_with(MAGIC), "expected a cpio header (070701), got something else");
        let mut fields = [0; 13];
        for (field, digits) in fields.iter_mut().zip(bytes[MAGIC.len()..].chunks(8)) {
            let digits = std::str::from_utf8(digits).context("reading a cpio header")?;
            *field = u32::from_str_radix(digits, 16).context("reading a cpio header")?;
        }
        let [inode, mode, uid, gid, links, mtime, size, d0, d1, s0, s1, name_len, _] = fields;
        Ok(Some(Self {
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            size,
            device: (d0, d1),
            special: (s0, s1),
            name_len,
        }))
    }

    fn name(&self, stream: &mut dyn Read) -> Result<Vec<u8>> {
        ensure!(
            (1..=NAME_MAX).contains(&self.name_len),
            "expected a name of 1 to {NAME_MAX} bytes, got one of {}",
            self.name_len
        );
        let whole = self.name_len as usize + padding(HEADER as u64 + u64::from(self.name_len));
        let mut name = vec![0; whole];
        stream.read_exact(&mut name).context("reading a name")?;
        name.truncate(self.name_len as usize - 1);
        Ok(name)
    }

    fn kind(
        &self,
        stream: &mut dyn Read,
        keep: &mut dyn FnMut(&mut dyn Read, u64) -> Result<Content>,
    ) -> Result<Kind> {
        let len = u64::from(self.size);
        let kind = match self.mode & 0o170_000 {
            0o100_000 => {
                let content = keep(&mut (&mut *stream).take(len), len)?;
                let got = content.len();
                ensure!(got == len, "expected {len} bytes, got {got}");
                Kind::File(content)
            }
            0o120_000 => {
                ensure!(self.size <= NAME_MAX, "expected a target of at most {NAME_MAX} bytes");
                let mut target = vec![0; self.size as usize];
                stream.read_exact(&mut target).context("reading a link's target")?;
                Kind::Symlink(target.into())
            }
            _ if self.size > 0 => bail!("expected no contents but in files and links"),
            0o040_000 => Kind::directory(),
            0o020_000 => Kind::Char(self.special.0, self.special.1),
            0o060_000 => Kind::Block(self.special.0, self.special.1),
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            other => bail!("expected a known file type, got {other:o}"),
        };
        let mut pad = [0; 3];
        stream.read_exact(&mut pad[..padding(len)]).context("reading the padding")?;
        Ok(kind)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            mode: (self.mode & 0o7777) as u16,
            uid: self.uid,
            gid: self.gid,
            mtime: i64::from(self.mtime),
            ..Metadata::default()
        }
    }
}
