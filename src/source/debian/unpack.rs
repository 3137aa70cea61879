//! A .deb becomes a layer: an uncompressed tar of what is kept of it.
//!
//! Maintainer scripts are never run and not kept: no users are made, no
//! alternatives set, no caches filled; configuration files are files like all
//! others. In place of dpkg's database each package leaves its control file
//! at `var/lib/dpkg/status.d/NAME`, where scanners look for it. Paths below
//! `bin`, `lib`, `lib64`, `sbin` move below `usr`, as dpkg does on a merged
//! system.
//!
//! Follows deb(5) and ar(5) in its common form. The archive is hostile: every
//! length is checked, and it unpacks to a bounded size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::control::Paragraphs;
use super::filter::Filter;
use super::relation::is_name;
use crate::tree::components;

/// How many bytes any member may unpack to, however small.
const UNPACKED_FREE: u64 = 256 << 20;
/// How many times its own size a member may unpack to beyond that.
const UNPACKED_RATIO: u64 = 100;
/// The most entries of one package, and the longest control file.
const ENTRIES_MAX: u64 = 500_000;
const CONTROL_MAX: u64 = 1 << 20;
/// Memory that unpacking xz may take: `xz -9` asks for 65 MiB.
const XZ_MEMORY: u64 = 160 << 20;

/// Writes the layer of a .deb file.
pub fn write_layer(deb: &File, filter: &Filter, out: &mut dyn Write) -> Result<()> {
    let members = members(deb)?;
    let find = |prefix: &str| {
        let found = members.iter().find(|member| member.name.starts_with(prefix));
        found.with_context(|| format!("expected a member `{prefix}*`, found none"))
    };
    let version = open(deb, find("debian-binary")?)?;
    let mut text = String::new();
    version.take(16).read_to_string(&mut text).context("reading its format version")?;
    ensure!(text.starts_with("2."), "expected format 2.x, got `{}`", text.trim());
    let (control, time) =
        read_control(open(deb, find("control.tar")?)?).context("reading control.tar")?;
    let mut layer = LayerWriter::new(out, filter);
    layer.copy(open(deb, find("data.tar")?)?).context("reading data.tar")?;
    layer.finish(&control, time)
}

/// A member of the outer archive.
#[derive(Debug)]
struct Member {
    name: String,
    offset: u64,
    len: u64,
}

fn members(deb: &File) -> Result<Vec<Member>> {
    let size = deb.metadata().context("reading its size")?.len();
    let read = |offset: u64, buf: &mut [u8]| deb.read_exact_at(buf, offset);
    let mut magic = [0; 8];
    read(0, &mut magic).context("reading the archive's first bytes")?;
    ensure!(magic == *b"!<arch>\n", "expected an ar archive, found none");
    let (mut members, mut at) = (Vec::new(), 8u64);
    // Three members are usual; others may follow and are left alone.
    while at < size && members.len() < 16 {
        let mut header = [0; 60];
        read(at, &mut header).with_context(|| format!("reading the member at {at}"))?;
        ensure!(&header[58..] == b"`\n", "expected a member at {at}, found none");
        let text = |range| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        let name = text(0..16).trim_end_matches('/').to_owned();
        let len: u64 = text(48..58).parse().with_context(|| format!("member `{name}`: size"))?;
        let offset = at + 60;
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let end = end.with_context(|| format!("member `{name}` is cut off"))?;
        members.push(Member { name, offset, len });
        at = end + (len & 1);
    }
    Ok(members)
}

/// Opens a member for reading, decompressed as its name says.
fn open<'a>(deb: &'a File, member: &Member) -> Result<Box<dyn Read + 'a>> {
    let raw = Section { file: deb, at: member.offset, left: member.len };
    let raw = BufReader::with_capacity(1 << 17, raw);
    let limit = UNPACKED_FREE.saturating_add(member.len.saturating_mul(UNPACKED_RATIO));
    let plain: Box<dyn BufRead + 'a> = Box::new(raw);
    let ending = member.name.split_once(".tar").map_or("", |(_, ending)| ending);
    let plain: Box<dyn Read + 'a> = match ending {
        "" => Box::new(plain),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(plain)),
        ".xz" => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0);
            Box::new(liblzma::bufread::XzDecoder::new_stream(plain, decoder.context("xz")?))
        }
        ".zst" => Box::new(zstd::Decoder::with_buffer(plain).context("starting zstd")?),
        other => bail!("expected gz, xz or zst, got member `{}` ({other})", member.name),
    };
    Ok(Box::new(Limited { from: plain, left: limit }))
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Fails, instead of ending, once more is read than was allowed.
struct Limited<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        let left = self.left.checked_sub(n as u64);
        self.left = left.ok_or_else(|| {
            io::Error::other("expected a smaller member, got far more than its size: is it a bomb?")
        })?;
        Ok(n)
    }
}

/// Returns the text and the time of the control file.
fn read_control(member: Box<dyn Read + '_>) -> Result<(Vec<u8>, u64)> {
    let mut archive = tar::Archive::new(member);
    for (count, entry) in (0..).zip(archive.entries()?) {
        let entry = entry?;
        ensure!(count < 1000, "expected at most 1000 entries, got more");
        if components(&entry.path_bytes())? != [b"control"] {
            continue;
        }
        let mut text = Vec::new();
        let time = entry.header().mtime().unwrap_or(0);
        entry.take(CONTROL_MAX + 1).read_to_end(&mut text)?;
        ensure!(text.len() as u64 <= CONTROL_MAX, "expected a control file of at most 1 MiB");
        return Ok((text, time));
    }
    bail!("expected a file `control`, found none")
}

/// Writes entries as a layer: owners by number, no names of users, folders
/// only where something of theirs is kept.
struct LayerWriter<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    filter: &'a Filter,
    /// Folders that were seen and not yet written.
    waiting: BTreeMap<Vec<u8>, tar::Header>,
    written: BTreeSet<Vec<u8>>,
}

impl<'a> LayerWriter<'a> {
    fn new(out: &'a mut dyn Write, filter: &'a Filter) -> Self {
        let tar = tar::Builder::new(out);
        Self { tar, filter, waiting: BTreeMap::new(), written: BTreeSet::new() }
    }

    fn copy(&mut self, member: Box<dyn Read + '_>) -> Result<()> {
        let mut archive = tar::Archive::new(member);
        for (count, entry) in (0..).zip(archive.entries()?) {
            let mut entry = entry?;
            ensure!(count < ENTRIES_MAX, "expected at most {ENTRIES_MAX} entries, got more");
            let raw = entry.path_bytes().into_owned();
            let name = String::from_utf8_lossy(&raw).into_owned();
            self.copy_entry(&raw, &mut entry).with_context(|| format!("entry `{name}`"))?;
        }
        Ok(())
    }

    fn copy_entry<R: Read>(&mut self, raw: &[u8], entry: &mut tar::Entry<'_, R>) -> Result<()> {
        use tar::EntryType as T;
        let kind = entry.header().entry_type();
        let Some(path) = merged(raw, kind == T::Directory)? else {
            return Ok(());
        };
        let kept = self.filter.keeps(&path);
        let mut header = plain_header(entry.header(), kind)?;
        if kind == T::Directory {
            self.waiting.insert(path.clone(), header);
            return if kept { self.write_folder(&path) } else { Ok(()) };
        }
        if !kept {
            return Ok(());
        }
        self.write_parents(&path)?;
        let as_path = Path::new(std::ffi::OsStr::from_bytes(&path));
        match kind {
            T::Regular | T::Continuous => {
                header.set_entry_type(T::Regular);
                header.set_size(entry.size());
                let size = entry.size();
                let mut counted = Counted { from: entry, count: 0 };
                self.tar.append_data(&mut header, as_path, &mut counted)?;
                ensure!(counted.count == size, "expected {size} bytes, got {}", counted.count);
            }
            T::Symlink => {
                let target = entry.link_name_bytes().context("expected a target, found none")?;
                let target = Path::new(std::ffi::OsStr::from_bytes(&target)).to_owned();
                self.tar.append_link(&mut header, as_path, &target)?;
            }
            T::Link => {
                let target = entry.link_name_bytes().context("expected a target, found none")?;
                let target = merged(&target, false)?.context("expected a link to a file")?;
                let text = String::from_utf8_lossy(&target).into_owned();
                ensure!(
                    self.written.contains(&target),
                    "is another name of `{text}`, which is not kept: keep that one too"
                );
                let target = Path::new(std::ffi::OsStr::from_bytes(&target)).to_owned();
                self.tar.append_link(&mut header, as_path, &target)?;
            }
            T::Char | T::Block | T::Fifo => {
                if kind != T::Fifo {
                    let part = |number: io::Result<Option<u32>>| number.map(|n| n.unwrap_or(0));
                    header.set_device_major(part(entry.header().device_major())?)?;
                    header.set_device_minor(part(entry.header().device_minor())?)?;
                }
                self.tar.append_data(&mut header, as_path, io::empty())?;
            }
            other => {
                bail!("expected a known kind of entry, got type {:?}", other.as_byte() as char)
            }
        }
        self.written.insert(path);
        Ok(())
    }

    fn write_parents(&mut self, path: &[u8]) -> Result<()> {
        let ends: Vec<usize> = (0..path.len()).filter(|at| path[*at] == b'/').collect();
        ends.into_iter().try_for_each(|end| self.write_folder(&path[..end]))
    }

    fn write_folder(&mut self, path: &[u8]) -> Result<()> {
        let Some(mut header) = self.waiting.remove(path) else {
            return Ok(());
        };
        self.write_parents(path)?;
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        self.tar.append_data(&mut header, path, io::empty()).context("writing a folder")
    }

    /// Adds the package's control file and ends the layer.
    fn finish(mut self, control: &[u8], time: u64) -> Result<()> {
        let paragraph = Paragraphs::new(control).next(|name| name == "package");
        let paragraph = paragraph.context("reading the control file")?.unwrap_or_default();
        let name = paragraph.need("package")?;
        ensure!(is_name(name), "expected a package name, got `{name}`");
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(control.len() as u64);
        let path = format!("var/lib/dpkg/status.d/{name}");
        self.tar.append_data(&mut header, path, control).context("writing the control file")?;
        self.tar.finish().context("ending the layer")
    }
}

/// Returns the path on a merged system, or `None` for what every system has.
fn merged(raw: &[u8], folder: bool) -> Result<Option<Vec<u8>>> {
    let names = components(raw)?;
    let moved = matches!(
        names.first(),
        Some(&(b"bin" | b"lib" | b"lib32" | b"lib64" | b"libx32" | b"sbin"))
    );
    Ok(match (names.len(), moved) {
        (0, _) => None,
        // The folder would take the place of the link to usr/.
        (1, true) if folder => None,
        (1, true) => Some(names.join(&b'/')),
        (_, true) => Some([&b"usr/"[..], &names.join(&b'/')].concat()),
        _ => Some(names.join(&b'/')),
    })
}

fn plain_header(from: &tar::Header, kind: tar::EntryType) -> Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(from.mode().context("reading its mode")? & 0o7777);
    // A blank field is root's, and of 1970.
    header.set_uid(from.uid().unwrap_or(0));
    header.set_gid(from.gid().unwrap_or(0));
    header.set_mtime(from.mtime().unwrap_or(0));
    header.set_size(0);
    Ok(header)
}

struct Counted<R> {
    from: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.count += n as u64;
        Ok(n)
    }
}
