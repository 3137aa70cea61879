//! Reads a disc by its Rock Ridge, or, where it has none, by its plain names:
//! of any writer, damaged or not, within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

use super::SECTOR;
use super::descriptor::{PRIMARY, STANDARD};
use super::record::{DIRECTORY, MORE, seconds};
use crate::fs::extents::Extents;
use crate::tree::{Id, Inode, Kind, Metadata, Tree, join};

/// The most names that are read.
const NAMES_LIMIT: usize = 4_000_000;
/// The largest folder in bytes.
const FOLDER_LIMIT: u64 = 256 << 20;
/// The deepest folder.
const DEPTH_LIMIT: usize = 256;
/// The most continuations of one record.
const CHAIN_LIMIT: usize = 64;
/// The most descriptors.
const DESCRIPTORS_LIMIT: u64 = 64;

/// Reads a disc as a tree.
pub fn open(image: &Extents) -> Result<Tree> {
    let disc = Disc::new(image)?;
    let mut tree = Tree::new();
    let meta = disc.own()?.metadata();
    tree.insert(b"", Inode { meta, kind: Kind::directory(), part: 0 })?;
    let mut serials: BTreeMap<u32, Id> = BTreeMap::new();
    disc.walk(&mut |path, found| {
        let several = found.serial.filter(|_| found.links > 1 && !found.is_folder());
        if let Some(known) = several.and_then(|serial| serials.get(&serial)) {
            return tree.link(*known, path);
        }
        let inode = Inode { meta: found.metadata(), kind: disc.kind(found)?, part: 0 };
        let id = tree.insert(path, inode)?;
        serials.extend(several.map(|serial| (serial, id)));
        Ok(())
    })?;
    Ok(tree)
}

/// Tells the structures of a disc as text.
pub fn dump(image: &Extents) -> Result<String> {
    let disc = Disc::new(image)?;
    let mut out = String::new();
    for sector in 16..16 + DESCRIPTORS_LIMIT {
        let bytes = image.bytes(sector * SECTOR, SECTOR as usize)?;
        let text = |range: std::ops::Range<usize>| {
            let bytes: Vec<u8> = bytes[range].iter().copied().filter(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).trim_end().to_owned()
        };
        match bytes[0] {
            0 => writeln!(out, "{sector} boot {} catalog={}", text(7..39), le32(&bytes, 71))?,
            255 => writeln!(out, "{sector} last")?,
            kind => writeln!(
                out,
                "{sector} volume type={kind} name={} sectors={} tables={}",
                text(40..72),
                le32(&bytes, 80),
                le32(&bytes, 140)
            )?,
        }
        if bytes[0] == 255 {
            break;
        }
    }
    disc.walk(&mut |path, found| {
        let meta = found.metadata();
        let places: Vec<String> =
            found.parts.iter().map(|(sector, len)| format!("{sector}+{len}")).collect();
        writeln!(
            out,
            "/{} plain={} at={} mode={:o} links={} {}:{} mtime={}{}",
            String::from_utf8_lossy(path),
            String::from_utf8_lossy(&found.plain),
            places.join(","),
            found.mode.unwrap_or(0),
            found.links,
            meta.uid,
            meta.gid,
            meta.mtime,
            if found.target.is_empty() {
                String::new()
            } else {
                format!(" -> {}", String::from_utf8_lossy(&found.target))
            }
        )?;
        Ok(())
    })?;
    Ok(out)
}

/// What the records of a name tell.
#[derive(Default)]
struct Found {
    plain: Vec<u8>,
    name: Vec<u8>,
    flags: u8,
    mtime: i64,
    /// Sector and bytes of each extent.
    parts: Vec<(u32, u32)>,
    mode: Option<u32>,
    links: u32,
    uid: u32,
    gid: u32,
    serial: Option<u32>,
    device: (u32, u32),
    target: Vec<u8>,
    /// Whether a component of the target goes on.
    target_open: bool,
}

impl Found {
    fn is_folder(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    fn metadata(&self) -> Metadata {
        let assumed = if self.is_folder() { 0o755 } else { 0o644 };
        Metadata {
            mode: (self.mode.unwrap_or(assumed) & 0o7777) as u16,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: BTreeMap::new(),
        }
    }
}

struct Disc<'a> {
    image: &'a Extents,
    root: (u32, u32),
    /// Bytes to skip in each record's system use; `None` without Rock Ridge.
    skip: Option<usize>,
}

impl<'a> Disc<'a> {
    fn new(image: &'a Extents) -> Result<Self> {
        let primary = image.bytes(16 * SECTOR, SECTOR as usize)?;
        ensure!(
            primary[0] == PRIMARY && primary[1..6] == *STANDARD,
            "expected a primary volume descriptor of ISO 9660"
        );
        ensure!(
            primary[128..130] == [0, 8],
            "expected blocks of 2048 bytes, got {}",
            u16::from_le_bytes([primary[128], primary[129]])
        );
        let root = (le32(&primary, 158), le32(&primary, 166));
        let mut disc = Self { image, root, skip: None };
        let own = disc.image.bytes(u64::from(root.0) * SECTOR, SECTOR as usize)?;
        let system = system_use(&own)?;
        if system.len() >= 7 && system[..6] == *b"SP\x07\x01\xbe\xef" {
            disc.skip = Some(usize::from(system[6]));
        }
        Ok(disc)
    }

    /// Reads the root folder's record of itself.
    fn own(&self) -> Result<Found> {
        let bytes = self.image.bytes(u64::from(self.root.0) * SECTOR, SECTOR as usize)?;
        let record = bytes.get(..usize::from(bytes[0])).context("expected a record")?;
        self.record(record).context("reading the root folder's record")
    }

    fn walk(&self, visit: &mut dyn FnMut(&[u8], &Found) -> Result<()>) -> Result<()> {
        let mut folders = vec![(Vec::new(), self.root.0, u64::from(self.root.1), 0)];
        let mut met = BTreeSet::new();
        let mut names = 0;
        while let Some((path, sector, len, depth)) = folders.pop() {
            let shown = || format!("reading the folder /{}", String::from_utf8_lossy(&path));
            ensure!(depth < DEPTH_LIMIT, "expected at most {DEPTH_LIMIT} folders in each other");
            ensure!(met.insert(sector), "expected a folder once, got sector {sector} again");
            let mut below = Vec::new();
            for found in self.folder(sector, len).with_context(shown)? {
                names += 1;
                ensure!(names <= NAMES_LIMIT, "expected at most {NAMES_LIMIT} names");
                let child = join(&path, &found.name);
                visit(&child, &found)
                    .with_context(|| format!("reading /{}", String::from_utf8_lossy(&child)))?;
                if found.is_folder() {
                    let (sector, len) = found.parts[0];
                    below.push((child, sector, u64::from(len), depth + 1));
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn folder(&self, sector: u32, len: u64) -> Result<Vec<Found>> {
        ensure!(len <= FOLDER_LIMIT, "expected a folder of at most {FOLDER_LIMIT} bytes");
        let bytes = self.image.bytes(u64::from(sector) * SECTOR, len as usize)?;
        let mut all: Vec<Found> = Vec::new();
        let mut more = false;
        let mut at = 0;
        while at < bytes.len() {
            let len = usize::from(bytes[at]);
            if len == 0 {
                at = (at + 1).next_multiple_of(SECTOR as usize);
                continue;
            }
            let record = bytes.get(at..at + len).context("expected a record within its folder")?;
            at += len;
            let found = self.record(record)?;
            if matches!(found.plain[..], [0 | 1]) {
                continue;
            }
            let goes_on = found.flags & MORE != 0;
            match all.last_mut() {
                Some(last) if more && last.plain == found.plain => last.parts.extend(found.parts),
                _ => all.push(found),
            }
            more = goes_on;
        }
        // What a name cannot be is not worth an error.
        all.retain(|found| !matches!(&found.name[..], b"" | b"." | b".."));
        all.retain(|found| found.name.len() <= 255 && !found.name.contains(&b'/'));
        Ok(all)
    }

    fn record(&self, record: &[u8]) -> Result<Found> {
        ensure!(record.len() >= 34, "expected a record of at least 34 bytes");
        let name_len = usize::from(record[32]);
        let plain = record.get(33..33 + name_len).context("expected a name within its record")?;
        let mut found = Found {
            plain: plain.to_vec(),
            flags: record[25],
            mtime: seconds(&record[18..25]),
            parts: vec![(le32(record, 2), le32(record, 10))],
            links: 1,
            ..Found::default()
        };
        match self.skip {
            Some(skip) => self.rock(&mut found, system_use(record)?.get(skip..).unwrap_or(&[]))?,
            None => found.name = spoken(plain),
        }
        if found.name.is_empty() {
            found.name = spoken(plain);
        }
        Ok(found)
    }

    /// Reads the entries of Rock Ridge and those that they lead to.
    fn rock(&self, found: &mut Found, system: &[u8]) -> Result<()> {
        let mut next = self.entries(found, system)?;
        let mut count = 0;
        while let Some((sector, at, len)) = next {
            count += 1;
            ensure!(count <= CHAIN_LIMIT, "expected at most {CHAIN_LIMIT} continuations");
            ensure!(u64::from(len) <= SECTOR, "expected a continuation of at most a sector");
            let from = u64::from(sector) * SECTOR + u64::from(at);
            let bytes = self.image.bytes(from, len as usize)?;
            next = self.entries(found, &bytes)?;
        }
        Ok(())
    }

    fn entries(&self, found: &mut Found, mut bytes: &[u8]) -> Result<Option<(u32, u32, u32)>> {
        let mut next = None;
        while let [a, b, len, _, ..] = *bytes {
            let len = usize::from(len);
            if len < 4 || len > bytes.len() {
                break;
            }
            let body = &bytes[4..len];
            bytes = &bytes[len..];
            match (&[a, b], body.len()) {
                (b"CE", 24..) => next = Some((le32(body, 0), le32(body, 8), le32(body, 16))),
                (b"PX", 32..) => {
                    found.mode = Some(le32(body, 0));
                    found.links = le32(body, 8);
                    (found.uid, found.gid) = (le32(body, 16), le32(body, 24));
                    found.serial = (body.len() >= 40).then(|| le32(body, 32));
                }
                (b"PN", 16..) => found.device = (le32(body, 0), le32(body, 8)),
                (b"NM", 1..) if body[0] & 6 == 0 => found.name.extend_from_slice(&body[1..]),
                (b"SL", 1..) => components(found, &body[1..]),
                (b"TF", 1..) => time_of(found, body),
                (b"ST", _) => break,
                _ => {}
            }
        }
        Ok(next)
    }

    fn kind(&self, found: &Found) -> Result<Kind> {
        if found.is_folder() {
            return Ok(Kind::directory());
        }
        let (major, minor) = found.device;
        // The other way to write a device: both in one number.
        let device = if major == 0 { (minor >> 8, minor & 0xff) } else { (major, minor) };
        Ok(match found.mode.unwrap_or(0) & 0o170_000 {
            0o120_000 => Kind::Symlink(found.target.clone().into()),
            0o020_000 => Kind::Char(device.0, device.1),
            0o060_000 => Kind::Block(device.0, device.1),
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            0 | 0o100_000 => Kind::File(self.contents(found)?.to_content()),
            other => bail!("expected a kind of file, got {other:o}"),
        })
    }

    fn contents(&self, found: &Found) -> Result<Extents> {
        let mut all = Extents::default();
        for (sector, len) in &found.parts {
            let at = u64::from(*sector) * SECTOR;
            if *len > 0 {
                all.push(&self.image.slice(at..at + u64::from(*len))?);
            }
        }
        Ok(all)
    }
}

/// Appends the components of a link's target.
fn components(found: &mut Found, mut bytes: &[u8]) {
    while let [flags, len, ..] = *bytes {
        let Some(text) = bytes.get(2..2 + usize::from(len)) else { return };
        bytes = &bytes[2 + usize::from(len)..];
        let target = &mut found.target;
        let slash = !target.is_empty() && !found.target_open && target.as_slice() != b"/";
        if slash {
            target.push(b'/');
        }
        found.target_open = flags & 1 != 0;
        match flags & !1 {
            2 => target.push(b'.'),
            4 => target.extend_from_slice(b".."),
            8 => target.push(b'/'),
            _ => target.extend_from_slice(text),
        }
    }
}

/// Reads the time of modification, the second where there is one of creation.
fn time_of(found: &mut Found, body: &[u8]) {
    let (flags, times) = (body[0], &body[1..]);
    let index = usize::from(flags & 1);
    let long = flags & 0x80 != 0;
    if flags & 2 != 0
        && !long
        && let Some(time) = times.get(7 * index..7 * index + 7)
    {
        found.mtime = seconds(time);
    }
}

/// Returns the bytes of a record behind its name.
fn system_use(record: &[u8]) -> Result<&[u8]> {
    let (len, name) = (usize::from(record[0]), usize::from(record[32]));
    let from = super::record::base_len(&record[33..33 + name.min(record.len() - 33)]);
    if from >= len { Ok(&[]) } else { record.get(from..len).context("expected a whole record") }
}

/// Returns a plain name as people say it.
fn spoken(plain: &[u8]) -> Vec<u8> {
    let end = plain.iter().position(|byte| *byte == b';').unwrap_or(plain.len());
    plain[..end].strip_suffix(b".").unwrap_or(&plain[..end]).to_ascii_lowercase()
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
