//! An image's structures as text.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::extract::chunk_len;
use super::format::{CHUNKED, COMPRESSED_COMPACT, COMPRESSED_FULL, FLAT_INLINE, FLAT_PLAIN};
use super::image::{Image, Inode};
use super::map;
use super::reader::{target, type_of};
use crate::fs::device;

/// Describes the superblock and every inode by name of the EROFS image in
/// `len` bytes of a file from `offset` on.
pub fn dump(file: Arc<File>, offset: u64, len: u64) -> Result<String> {
    let image = Image::open(file, offset, len).context("opening an erofs image")?;
    let mut text = String::new();
    superblock(&image, &mut text)?;
    image.walk(&mut |path, found| inode(&image, path, found, &mut text))?;
    Ok(text)
}

fn superblock(image: &Image, text: &mut String) -> Result<()> {
    let sb = &image.superblock;
    writeln!(
        text,
        "erofs compat {:#x} incompat {:#x} algorithms {:#x} time {} inodes {} blocks {}",
        sb.compat, sb.incompat, sb.algorithms, sb.time as i64, sb.inodes, sb.blocks
    )?;
    let volume = sb.volume.split(|b| *b == 0).next().unwrap_or_default().escape_ascii();
    writeln!(
        text,
        "  meta at block {} xattrs at block {} root #{} uuid {} volume {volume}",
        sb.meta_block,
        sb.xattr_block,
        sb.root,
        hex::encode(sb.uuid)
    )?;
    Ok(())
}

fn inode(image: &Image, path: &[u8], inode: &Inode, text: &mut String) -> Result<()> {
    let form = if inode.extended { "extended" } else { "compact" };
    write!(text, "/{} #{} ({}) {form} ", path.escape_ascii(), inode.nid, inode.number)?;
    write!(text, "{:04o} {}:{} {} ", inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime)?;
    write!(text, "links {} ", inode.links)?;
    match type_of(inode) {
        0o040_000 => write!(text, "directory {}", place(image, inode)?)?,
        0o100_000 => write!(text, "file {}", place(image, inode)?)?,
        0o120_000 => write!(text, "symlink {}", target(image, inode)?.escape_ascii())?,
        0o020_000 => write!(text, "char {:?}", device::decode(inode.place))?,
        0o060_000 => write!(text, "block {:?}", device::decode(inode.place))?,
        0o010_000 => write!(text, "fifo")?,
        other => write!(text, "type {other:#o}")?,
    }
    for (name, value) in image.xattrs(inode)? {
        write!(text, " {}={}", name.escape_ascii(), value.escape_ascii())?;
    }
    writeln!(text)?;
    Ok(())
}

fn place(image: &Image, inode: &Inode) -> Result<String> {
    let size = inode.size;
    Ok(match inode.layout {
        FLAT_PLAIN => format!("size {size} plain at block {}", inode.place),
        FLAT_INLINE => format!("size {size} inline, plain at block {}", inode.place),
        COMPRESSED_FULL | COMPRESSED_COMPACT => {
            let (algorithm, runs) = map::runs(image, inode)?;
            let mut text = format!("size {size} algorithm {algorithm}:");
            for run in runs {
                let mark = if run.raw { "=" } else { "" };
                write!(text, " {mark}{} in {}+{}", run.len, run.block, run.blocks)?;
            }
            text
        }
        CHUNKED => format!("size {size} chunks of {}", chunk_len(inode)),
        other => format!("size {size} layout {other}"),
    })
}
