//! Lays out a volume: names, then clusters, then the bytes of tables and
//! folders; contents are only referred to.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::geometry::{Geometry, Need, choose};
use super::name::{Name, Short, assign};
use super::record::{self, ARCHIVE, DIRECTORY, LABEL, RECORD, Target};
use super::{Bits, Options, Volume};
use crate::fs::composed::{Composed, Source};
use crate::fs::extents::Extents;
use crate::tree::{Id, Kind, Tree, join};

/// The largest folder: 65,536 records.
const FOLDER_LIMIT: u64 = 65_536 * RECORD as u64;

/// A folder with its entries named.
struct Folder {
    id: Id,
    parent: usize,
    entries: Vec<Item>,
    /// Bytes of its records.
    len: u64,
}

struct Item {
    name: Name,
    target: Node,
}

/// Which folder or file an entry is, by index.
#[derive(Clone, Copy)]
enum Node {
    Folder(usize),
    File(usize),
}

struct Stored {
    id: Id,
    path: Vec<u8>,
}

#[derive(Default)]
struct Layout {
    folders: Vec<Folder>,
    files: Vec<Stored>,
}

/// Lays out a volume that holds a tree and, besides, composed files.
pub fn plan(tree: &Tree, composed: &Composed, options: &Options) -> Result<Volume> {
    let source = Source::new(tree, composed, options.time)?;
    let mut layout = Layout::default();
    layout.enter(&source, source.tree.root(), 0, &[])?;
    ensure!(
        options.label.is_ascii() && options.label.len() <= 11,
        "expected a label of up to 11 characters of ASCII, got `{}`",
        options.label
    );
    let need = |cluster: u64, with_root: bool| {
        let folders = layout.folders.iter().skip(usize::from(!with_root)).map(|f| f.len.max(1));
        let files = layout.files.iter().map(|file| source.len(file.id));
        folders.chain(files).map(|len| len.div_ceil(cluster)).sum()
    };
    let root_entries = layout.folders[0].len.div_ceil(RECORD as u64);
    let Some(all) = choose(options, &Need { root_entries, clusters: &need })? else {
        let sector = u64::from(options.sector);
        let needed = need(sector, true) * sector;
        // What FAT can hold where no size is given: 32 bits count the sectors.
        let most = options.size.unwrap_or(u64::from(u32::MAX) * sector);
        return Err(source.too_large("a FAT volume", needed, most));
    };
    write(&source, &layout, &all, options)
}

impl Layout {
    /// Enters a folder and all below it.
    fn enter(&mut self, source: &Source<'_>, id: Id, parent: usize, path: &[u8]) -> Result<usize> {
        let shown = || format!("/{}", String::from_utf8_lossy(path));
        let index = self.folders.len();
        // The root holds the label, any other folder `.` and `..`.
        let fixed = if path.is_empty() { 1 } else { 2 };
        self.folders.push(Folder { id, parent, entries: Vec::new(), len: 0 });
        let entries = source.tree.entries(id).context("expected a folder")?;
        let names: Vec<&[u8]> = entries.keys().map(|name| &**name).collect();
        let names = assign(&names).with_context(|| format!("naming the files of {}", shown()))?;
        let records: usize = names.iter().map(Name::records).sum::<usize>() + fixed;
        let len = records as u64 * RECORD as u64;
        ensure!(
            len <= FOLDER_LIMIT,
            "FAT cannot hold {}: it needs {records} of at most 65536 records",
            shown()
        );
        let mut items = Vec::with_capacity(names.len());
        for ((name, entry), assigned) in entries.iter().zip(names) {
            let child = join(path, name);
            let target = self.node(source, entry.id, index, child)?;
            items.push(Item { name: assigned, target });
        }
        let folder = &mut self.folders[index];
        (folder.entries, folder.len) = (items, len);
        Ok(index)
    }

    fn node(&mut self, source: &Source<'_>, id: Id, dir: usize, path: Vec<u8>) -> Result<Node> {
        let shown = String::from_utf8_lossy(&path);
        let what = match &source.tree.get(id).kind {
            Kind::Directory(_) => {
                return self.enter(source, id, dir, &path).map(Node::Folder);
            }
            Kind::File(_) => {
                let len = source.len(id);
                ensure!(
                    u32::try_from(len).is_ok(),
                    "FAT cannot hold /{shown}: expected less than 4 GiB, got {len} bytes"
                );
                self.files.push(Stored { id, path });
                return Ok(Node::File(self.files.len() - 1));
            }
            Kind::Symlink(_) => "a symbolic link",
            Kind::Char(..) | Kind::Block(..) => "a device",
            Kind::Fifo => "a named pipe",
            Kind::Socket => "a socket",
        };
        bail!("FAT cannot hold /{shown}: it is {what}")
    }
}

/// Clusters given out one after the other.
struct Chains {
    next: u32,
    // First cluster and count of each chain.
    chains: Vec<(u32, u32)>,
}

impl Chains {
    /// Gives out the clusters for `len` bytes; for none there is no cluster.
    fn take(&mut self, len: u64, cluster: u64) -> u32 {
        let count = len.div_ceil(cluster) as u32;
        if count == 0 {
            return 0;
        }
        self.chains.push((self.next, count));
        self.next += count;
        self.next - count
    }
}

fn write(
    source: &Source<'_>,
    layout: &Layout,
    all: &Geometry,
    options: &Options,
) -> Result<Volume> {
    let fixed_root = all.bits != Bits::ThirtyTwo;
    let mut chains = Chains { next: 2, chains: Vec::new() };
    let bytes = all.cluster_bytes();
    let folders: Vec<u32> = (layout.folders.iter().enumerate())
        .map(|(index, folder)| match index {
            0 if fixed_root => 0,
            _ => chains.take(folder.len.max(1), bytes),
        })
        .collect();
    let files: Vec<u32> =
        layout.files.iter().map(|file| chains.take(source.len(file.id), bytes)).collect();
    let mut image = Extents::zeros(all.total() * u64::from(all.sector));
    if let Some(size) = options.size {
        image.grow(size);
    }
    put_reserved(&mut image, all, options, chains.next - 2);
    let table: std::sync::Arc<[u8]> = table(all, &chains.chains).into();
    for copy in 0..2 {
        let sector = u64::from(all.reserved) + copy * u64::from(all.table);
        image.put_bytes(sector * u64::from(all.sector), table.clone());
    }
    for (index, folder) in layout.folders.iter().enumerate() {
        let at = match folders[index] {
            0 => (all.data() - u64::from(all.root_sectors())) * u64::from(all.sector),
            cluster => all.offset(cluster),
        };
        image.put_bytes(at, records(source, layout, index, folder, options, (&folders, &files)));
    }
    let mut places = BTreeMap::new();
    for (file, cluster) in layout.files.iter().zip(&files).filter(|(_, cluster)| **cluster != 0) {
        let at = all.offset(*cluster);
        image.put(at, &source.contents(file.id));
        places.insert(file.path.clone(), (at, source.len(file.id)));
    }
    Ok(Volume { image, sector: all.sector, bits: all.bits, files: places })
}

fn put_reserved(image: &mut Extents, all: &Geometry, options: &Options, used: u32) {
    let boot = record::boot_sector(all, options);
    image.put_bytes(0, boot.clone());
    if all.bits == Bits::ThirtyTwo {
        let info = record::info_sector(all, used);
        let sector = u64::from(all.sector);
        image.put_bytes(sector, info.clone());
        image.put_bytes(6 * sector, boot);
        image.put_bytes(7 * sector, info);
    }
}

/// Makes the file allocation table: chains of clusters in a row.
fn table(all: &Geometry, chains: &[(u32, u32)]) -> Vec<u8> {
    let mut out = vec![0; all.table as usize * all.sector as usize];
    let end = all.bits.end_of_chain();
    put_entry(&mut out, all.bits, 0, (end & !0xff) | 0xf8);
    put_entry(&mut out, all.bits, 1, end);
    for (first, count) in chains {
        for cluster in *first..first + count - 1 {
            put_entry(&mut out, all.bits, cluster, cluster + 1);
        }
        put_entry(&mut out, all.bits, first + count - 1, end);
    }
    out
}

fn put_entry(table: &mut [u8], bits: Bits, cluster: u32, value: u32) {
    let index = cluster as usize;
    match bits {
        Bits::Twelve => {
            let at = index + index / 2;
            let (low, high) = (value as u8, (value >> 8) as u8);
            if index.is_multiple_of(2) {
                table[at] = low;
                table[at + 1] |= high;
            } else {
                table[at] |= low << 4;
                table[at + 1] = (value >> 4) as u8;
            }
        }
        Bits::Sixteen => {
            table[2 * index..2 * index + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        Bits::ThirtyTwo => table[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes()),
    }
}

/// Makes the records of a folder.
fn records(
    source: &Source<'_>,
    layout: &Layout,
    index: usize,
    folder: &Folder,
    options: &Options,
    (folders, files): (&[u32], &[u32]),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(folder.len as usize);
    let time = |id: Id| source.tree.get(id).meta.mtime;
    let mtime = time(folder.id);
    if index == 0 {
        let target = Target { attributes: LABEL, cluster: 0, len: 0, mtime: options.time };
        out.extend_from_slice(&record::short(&record::label(options), target));
    } else {
        // The parent is called 0 where it is the root, of FAT32 too.
        let parent = if folder.parent == 0 { 0 } else { folders[folder.parent] };
        for (name, cluster) in [(&b"."[..], folders[index]), (b"..", parent)] {
            let mut short: Short = [b' '; 11];
            short[..name.len()].copy_from_slice(name);
            let target = Target { attributes: DIRECTORY, cluster, len: 0, mtime };
            out.extend_from_slice(&record::short(&short, target));
        }
    }
    for item in &folder.entries {
        let target = match item.target {
            Node::Folder(n) => {
                let mtime = time(layout.folders[n].id);
                Target { attributes: DIRECTORY, cluster: folders[n], len: 0, mtime }
            }
            Node::File(n) => {
                let id = layout.files[n].id;
                let len = source.len(id) as u32;
                Target { attributes: ARCHIVE, cluster: files[n], len, mtime: time(id) }
            }
        };
        record::push(&mut out, &item.name, target);
    }
    out
}
