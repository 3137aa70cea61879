//! Reads a volume: of any writer, damaged or not, within limits.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

use super::name::{Short, checksum, spoken};
use super::record::{DIRECTORY, LABEL, LONG, RECORD, UNITS, unix_time};
use super::{Bits, geometry::Geometry};
use crate::fs::extents::Extents;
use crate::tree::{Inode, Kind, Metadata, Tree, join};

/// The most names that are read.
const NAMES_LIMIT: usize = 2_000_000;
/// The deepest folder that is read.
const DEPTH_LIMIT: usize = 128;

/// Reads a volume as a tree: root's, 0755 and 0644.
pub fn open(image: &Extents) -> Result<Tree> {
    let volume = Opened::new(image)?;
    let mut tree = Tree::new();
    // No two files share a cluster, so that all together are no larger.
    let mut left = image.len();
    volume.walk(&mut |found, label| {
        if label {
            return Ok(());
        }
        if !found.is_folder() {
            let rest = left.checked_sub(found.len.into());
            left = rest.context("expected files that fit the volume, got more")?;
        }
        let kind = if found.is_folder() {
            Kind::directory()
        } else {
            Kind::File(volume.contents(&found)?.to_content())
        };
        let mode = if found.is_folder() { 0o755 } else { 0o644 };
        let meta = Metadata::root(mode, found.mtime);
        tree.insert(&found.path, Inode { meta, kind, part: 0 })?;
        Ok(())
    })?;
    Ok(tree)
}

/// Tells the structures of a volume as text.
pub fn dump(image: &Extents) -> Result<String> {
    let volume = Opened::new(image)?;
    let all = &volume.all;
    let mut out = format!(
        "FAT{} sector={} cluster={} reserved={} table={} root={} clusters={} id={:08x} hidden={}\n",
        all.bits.width(),
        all.sector,
        all.cluster_bytes(),
        all.reserved,
        all.table,
        all.root,
        all.clusters,
        volume.id,
        volume.hidden,
    );
    volume.walk(&mut |found, label| {
        let path = String::from_utf8_lossy(&found.path);
        let short = spoken(&found.short);
        let short = String::from_utf8_lossy(&short);
        let kind = if label {
            "label"
        } else if found.is_folder() {
            "folder"
        } else {
            "file"
        };
        writeln!(
            out,
            "{kind} /{path} short={short} cluster={} len={} mtime={}",
            found.cluster, found.len, found.mtime
        )?;
        Ok(())
    })?;
    Ok(out)
}

/// A name met in a folder.
struct Found {
    path: Vec<u8>,
    short: Short,
    attributes: u8,
    cluster: u32,
    len: u32,
    mtime: i64,
}

impl Found {
    fn is_folder(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }
}

struct Opened<'a> {
    image: &'a Extents,
    all: Geometry,
    root_cluster: u32,
    id: u32,
    hidden: u32,
    table: Vec<u8>,
}

impl<'a> Opened<'a> {
    fn new(image: &'a Extents) -> Result<Self> {
        let boot = image.bytes(0, 512).context("reading the boot sector of a FAT volume")?;
        let u16_at = |at: usize| u32::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
        let (sector, cluster) = (u16_at(11), u32::from(boot[13]));
        let sane = matches!(sector, 512 | 1024 | 2048 | 4096) && cluster.is_power_of_two();
        ensure!(sane && boot[16] == 2, "expected a FAT volume, got some other boot sector");
        let wide = u16_at(22) == 0;
        let table = if wide { u32_at(36) } else { u16_at(22) };
        let total = if u16_at(19) == 0 { u32_at(32) } else { u16_at(19) };
        let mut all = Geometry {
            bits: Bits::ThirtyTwo,
            sector,
            cluster,
            reserved: u16_at(14),
            table,
            root: u16_at(17),
            clusters: 0,
        };
        let room = u64::from(total).checked_sub(all.data());
        let room = room.context("expected a FAT volume with room for files")?;
        all.clusters = (room / u64::from(cluster)) as u32;
        all.bits = match u64::from(all.clusters) {
            0..=4084 => Bits::Twelve,
            4085..=65_524 => Bits::Sixteen,
            _ => Bits::ThirtyTwo,
        };
        ensure!((all.bits == Bits::ThirtyTwo) == wide, "expected a FAT volume of one kind");
        let (_, most) = all.bits.clusters();
        ensure!(u64::from(all.clusters) <= most, "expected at most {most} clusters");
        let bytes = u64::from(table) * u64::from(sector);
        let needed = ((u64::from(all.clusters) + 2) * all.bits.width()).div_ceil(8);
        ensure!(bytes >= needed, "expected a table of {needed} bytes, got {bytes}");
        let at = u64::from(all.reserved) * u64::from(sector);
        let table = image.bytes(at, needed as usize);
        let table = table.context("reading the file allocation table")?;
        let root_cluster = if wide { u32_at(44) } else { 0 };
        let id = u32_at(if wide { 67 } else { 39 });
        Ok(Self { image, all, root_cluster, id, hidden: u32_at(28), table })
    }

    /// Calls `visit` with each name, parents first; its second argument says
    /// that the name is the volume's label.
    fn walk(&self, visit: &mut dyn FnMut(Found, bool) -> Result<()>) -> Result<()> {
        let mut folders = vec![(Vec::new(), self.root_cluster, 0)];
        let mut met = BTreeSet::new();
        let mut names = 0;
        while let Some((path, cluster, depth)) = folders.pop() {
            ensure!(depth < DEPTH_LIMIT, "expected at most {DEPTH_LIMIT} folders in each other");
            ensure!(met.insert(cluster), "expected a folder once, got cluster {cluster} again");
            let mut below = Vec::new();
            for found in self.folder(cluster, &path)? {
                names += 1;
                ensure!(names <= NAMES_LIMIT, "expected at most {NAMES_LIMIT} names");
                let label = found.attributes & LABEL != 0;
                if found.is_folder() && !label {
                    below.push((found.path.clone(), found.cluster, depth + 1));
                }
                visit(found, label)?;
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn folder(&self, cluster: u32, path: &[u8]) -> Result<Vec<Found>> {
        let bytes = if cluster == 0 {
            let sectors = self.all.data() - u64::from(self.all.root_sectors());
            let at = sectors * u64::from(self.all.sector);
            self.image.bytes(at, self.all.root as usize * RECORD)
        } else {
            let image = self.chain(cluster, 65_536 * RECORD as u64)?;
            image.bytes(0, image.len() as usize)
        };
        let bytes = bytes
            .with_context(|| format!("reading the folder /{}", String::from_utf8_lossy(path)))?;
        Ok(parse(&bytes, path))
    }

    /// Gathers a chain of clusters, which may have no more than `limit` bytes.
    fn chain(&self, first: u32, limit: u64) -> Result<Extents> {
        let mut all = Extents::default();
        let (mut cluster, bytes) = (first, self.all.cluster_bytes());
        while (2..self.all.clusters + 2).contains(&cluster) {
            ensure!(all.len() < limit.next_multiple_of(bytes), "expected a chain that ends");
            let next = self.entry(cluster);
            let at = self.all.offset(cluster);
            all.push(&self.image.slice(at..at + bytes)?);
            if next >= self.all.bits.end_of_chain() & !7 {
                return Ok(all);
            }
            cluster = next;
        }
        bail!("expected a cluster below {}, got {cluster}", self.all.clusters + 2)
    }

    fn entry(&self, cluster: u32) -> u32 {
        let index = cluster as usize;
        let u16_at =
            |at: usize| u32::from(u16::from_le_bytes([self.table[at], self.table[at + 1]]));
        match self.all.bits {
            Bits::Twelve => {
                let both = u16_at(index + index / 2);
                if index.is_multiple_of(2) { both & 0xfff } else { both >> 4 }
            }
            Bits::Sixteen => u16_at(2 * index),
            Bits::ThirtyTwo => (u16_at(4 * index) | u16_at(4 * index + 2) << 16) & 0x0fff_ffff,
        }
    }

    fn contents(&self, found: &Found) -> Result<Extents> {
        let (len, shown) = (u64::from(found.len), || String::from_utf8_lossy(&found.path));
        if len == 0 {
            return Ok(Extents::default());
        }
        let all = self.chain(found.cluster, len);
        let all = all.with_context(|| format!("reading /{}", shown()))?;
        all.slice(0..len).with_context(|| format!("reading /{}", shown()))
    }
}

/// Reads the records of a folder, without `.` and `..`.
fn parse(bytes: &[u8], path: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    let mut sum = 0;
    for record in bytes.chunks_exact(RECORD) {
        match (record[0], record[11]) {
            (0, _) => break,
            (0xe5, _) => long.clear(),
            (_, LONG) => {
                if record[0] & 0x40 != 0 {
                    long.clear();
                }
                let units =
                    UNITS.iter().map(|at| u16::from_le_bytes([record[*at], record[at + 1]]));
                long.splice(0..0, units.take_while(|unit| *unit != 0 && *unit != 0xffff));
                sum = record[13];
            }
            _ => {
                let short: Short = record[..11].try_into().expect("a record has 32 bytes");
                let matches = checksum(&short) == sum && !long.is_empty();
                let name = if matches {
                    String::from_utf16_lossy(&long).into_bytes()
                } else {
                    spoken(&short)
                };
                long.clear();
                let plain = !matches!(&name[..], b"" | b"." | b"..")
                    && !name.contains(&b'/')
                    && !name.contains(&0);
                if plain {
                    found.push(entry(record, join(path, &name), short));
                }
            }
        }
    }
    found
}

fn entry(record: &[u8], path: Vec<u8>, short: Short) -> Found {
    let u16_at = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let u32_at = |low: usize, high: usize| u32::from(u16_at(low)) | u32::from(u16_at(high)) << 16;
    Found {
        path,
        short,
        attributes: record[11],
        cluster: u32_at(26, 20),
        len: u32_at(28, 30),
        mtime: unix_time(u16_at(24), u16_at(22)),
    }
}
