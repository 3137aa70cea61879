//! Named files of a folder or of a tar archive, which need not be trusted.
//!
//! A tar's entries are found once and then read in any order. A compressed
//! one is decompressed into the cache first, into a file without a name. No
//! file is ever written under a name from an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::error::NotFound;
use crate::store::{Store, decompress};
use crate::tree::components;

/// The most entries that an archive of images may have.
const ENTRIES_MAX: usize = 200_000;
/// How many links may lead to one another.
const LINKS_MAX: usize = 8;
/// How many bytes any archive may unpack to, however small.
const UNPACKED_FREE: u64 = 16 << 30;
/// How many times its own size an archive may unpack to beyond that.
const UNPACKED_RATIO: u64 = 50;

/// Files by name.
#[derive(Debug)]
pub(super) enum Files {
    /// Of a folder.
    Folder(PathBuf),
    /// Of a tar archive.
    Archive { path: PathBuf, file: Arc<File>, parts: BTreeMap<String, Part> },
}

/// Where an entry lies.
#[derive(Clone, Debug)]
pub(super) enum Part {
    File { offset: u64, len: u64 },
    Link(String),
}

impl Files {
    /// Opens a folder or an archive, plain or under gzip, zstd or xz.
    pub(super) fn open(path: &Path, store: &Store) -> Result<Self> {
        let opening = || format!("opening {}", path.display());
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path).with_context(opening)?;
        let size = file.metadata().with_context(opening)?.len();
        let mut head = [0; 8];
        let read = file.read_at(&mut head, 0).with_context(opening)?;
        let file = if is_compressed(&head[..read]) {
            let limit = UNPACKED_FREE.saturating_add(size.saturating_mul(UNPACKED_RATIO));
            unpack(file, limit, store).with_context(|| format!("unpacking {}", path.display()))?
        } else {
            file
        };
        let parts = find_parts(&file).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self::Archive { path: path.to_owned(), file: Arc::new(file), parts })
    }

    /// Returns the folder or archive.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive { path, .. } => path,
        }
    }

    /// Opens a file for reading, or says that there is none.
    pub(super) fn file(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let missing = || NotFound { what: name.into(), place: self.path().display().to_string() };
        match self {
            Self::Folder(dir) => {
                let name = plain(name)?;
                match File::open(dir.join(name)) {
                    Ok(file) => Ok(Box::new(file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing().into()),
                    Err(error) => {
                        Err(error).with_context(|| format!("opening {}", self.path().display()))
                    }
                }
            }
            Self::Archive { file, parts, .. } => {
                let mut name = plain(name)?;
                for _ in 0..LINKS_MAX {
                    match parts.get(&name).ok_or_else(missing)? {
                        Part::Link(target) => name = target.clone(),
                        Part::File { offset, len } => {
                            let (file, at, left) = (file.clone(), *offset, *len);
                            return Ok(Box::new(Span { file, at, left }));
                        }
                    }
                }
                Err(missing()).context("following links")
            }
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let reading = || format!("reading {name} of {}", self.path().display());
        let mut bytes = Vec::new();
        let file = self.file(name)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(reading)?;
        ensure!(bytes.len() as u64 <= limit, "{name}: expected at most {limit} bytes");
        Ok(bytes)
    }
}

fn is_compressed(head: &[u8]) -> bool {
    let magics: [&[u8]; 3] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ"];
    magics.iter().any(|magic| head.starts_with(magic))
}

fn unpack(file: File, limit: u64, store: &Store) -> Result<File> {
    let mut out = store.temporary()?.into_file();
    let mut plain = decompress(BufReader::with_capacity(1 << 18, file))?.take(limit);
    io::copy(&mut plain, &mut out)?;
    ensure!(plain.limit() > 0, "expected at most {limit} bytes, got more: is it a bomb?");
    Ok(out)
}

fn find_parts(file: &File) -> Result<BTreeMap<String, Part>> {
    let start = Span { file: Arc::new(file.try_clone()?), at: 0, left: u64::MAX };
    let mut archive = tar::Archive::new(start);
    let mut parts = BTreeMap::new();
    let len = file.metadata()?.len();
    for (count, entry) in archive.entries_with_seek()?.enumerate() {
        ensure!(count < ENTRIES_MAX, "expected at most {ENTRIES_MAX} entries, got more");
        let entry = entry.context("reading it as tar")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let part = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                let end = offset.checked_add(size);
                ensure!(
                    end.is_some_and(|end| end <= len),
                    "entry `{name}`: expected {size} bytes, but the archive is cut"
                );
                Part::File { offset, len: size }
            }
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                let from = if kind == tar::EntryType::Symlink { name.as_str() } else { "" };
                match follow(from, &target) {
                    Some(target) => Part::Link(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        parts.insert(plain(&name)?, part);
    }
    Ok(parts)
}

/// Spells a name without `.` and extra slashes; what leads out is refused.
fn plain(name: &str) -> Result<String> {
    let parts = components(name.as_bytes())?;
    Ok(String::from_utf8_lossy(&parts.join(&b'/')).into_owned())
}

/// Resolves a symbolic link by its text; `None` where it leads out.
fn follow(link: &str, target: &str) -> Option<String> {
    let mut at: Vec<&str> = link.split('/').filter(|part| !part.is_empty()).collect();
    at.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            at.pop()?;
        } else {
            at.push(part);
        }
    }
    Some(at.into_iter().filter(|part| *part != ".").collect::<Vec<_>>().join("/"))
}

/// A stretch of a file, read without moving the file's own position.
#[derive(Clone, Debug)]
struct Span {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Span {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl io::Seek for Span {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let at = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
            io::SeekFrom::End(_) => None,
        };
        self.at = at.ok_or_else(|| io::Error::other("a place outside of the archive"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_links_inside_only() {
        for (link, target, found) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "./c", Some("a/c")),
            ("a", "b", Some("b")),
            ("a", "/etc/passwd", None),
            ("a/b", "../../etc/passwd", None),
        ] {
            assert_eq!(follow(link, target).as_deref(), found, "{link} -> {target}");
        }
    }
}
