//! An image's structures as text.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::format::{DATA_PLAIN, NONE_32, NONE_64};
use super::image::Image;
use super::record::{Body, Record};
use crate::fs::device;

/// Describes the superblock, every inode by name, and the tables of the
/// squashfs image in `len` bytes of a file from `offset` on.
pub fn dump(file: Arc<File>, offset: u64, len: u64) -> Result<String> {
    let image = Image::open(file, offset, len).context("opening a squashfs image")?;
    let mut text = String::new();
    superblock(&image, &mut text)?;
    image.walk(&mut |path, record| inode(path, record, &mut text))?;
    for (number, (start, size)) in image.fragments.iter().enumerate() {
        writeln!(text, "fragment {number}: at {start} size {}", stored(*size))?;
    }
    for number in 0..image.xattrs.1.len() {
        writeln!(text, "xattrs {number}:")?;
        for (name, value) in image.xattr_set(number as u32)? {
            writeln!(text, "  {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
    }
    Ok(text)
}

fn superblock(image: &Image, text: &mut String) -> Result<()> {
    let sb = &image.superblock;
    writeln!(
        text,
        "squashfs compressor {} block {} flags {:#x} time {} inodes {} fragments {} bytes {}",
        sb.compressor, sb.block_size, sb.flags, sb.time, sb.inodes, sb.fragments, sb.bytes_used
    )?;
    let tables = [
        ("inodes", sb.inode_table),
        ("directories", sb.directory_table),
        ("fragments", sb.fragment_table),
        ("export", sb.export_table),
        ("ids", sb.id_table),
        ("xattrs", sb.xattr_table),
    ];
    for (name, at) in tables {
        match at {
            NONE_64 => writeln!(text, "  {name}: none")?,
            at => writeln!(text, "  {name}: at {at}")?,
        }
    }
    writeln!(text, "  owners: {:?}", image.ids)?;
    Ok(())
}

fn inode(path: &[u8], record: &Record, text: &mut String) -> Result<()> {
    let Record { mode, uid, gid, mtime, number, links, .. } = record;
    let form = if record.extended { "extended" } else { "basic" };
    write!(text, "/{} #{number} {form} {mode:04o} {uid}:{gid} {mtime} ", path.escape_ascii())?;
    write!(text, "links {links} ")?;
    match &record.body {
        Body::Directory { start, size, parent, index } => write!(
            text,
            "directory at {}+{} size {size} parent #{parent} index {index}",
            start.block, start.offset
        )?,
        Body::File(blocks) => {
            write!(text, "file size {} sparse {}", blocks.len, blocks.sparse)?;
            if !blocks.sizes.is_empty() {
                let sizes: Vec<_> = blocks.sizes.iter().map(|size| stored(*size)).collect();
                write!(text, " at {} blocks {}", blocks.start, sizes.join(" "))?;
            }
            if let Some((fragment, offset)) = blocks.fragment {
                write!(text, " fragment {fragment}+{offset}")?;
            }
        }
        Body::Symlink(target) => write!(text, "symlink {}", target.escape_ascii())?,
        Body::Block(encoded) => write!(text, "block {:?}", device::decode(*encoded))?,
        Body::Char(encoded) => write!(text, "char {:?}", device::decode(*encoded))?,
        Body::Fifo => write!(text, "fifo")?,
        Body::Socket => write!(text, "socket")?,
    }
    if record.xattrs != NONE_32 {
        write!(text, " xattrs {}", record.xattrs)?;
    }
    writeln!(text)?;
    Ok(())
}

/// Shows a stored size; `=` marks what is not compressed.
fn stored(size: u32) -> String {
    let mark = if size & DATA_PLAIN == 0 { "" } else { "=" };
    format!("{mark}{}", size & !DATA_PLAIN)
}
