//! Lays out a disc: descriptors, path tables, folders, then the files, then
//! what is started but is no file. Contents are only referred to.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::boot::{self, Placed};
use super::descriptor::{self, Places};
use super::hierarchy::{Hierarchy, Listing, Namespace, PARENT, PART, SELF, next_place};
use super::record::{DIRECTORY, MORE, Record};
use super::{BootImage, Options, SECTOR, Volume};
use crate::fs::composed::{Composed, Source};
use crate::fs::extents::Extents;
use crate::oci::Digest;
use crate::tree::{Id, Kind, Tree};

/// The first sector that is no system area.
const FIRST: u64 = 16;
/// What a disc is filled up to where it is a disk too, in bytes.
const WHOLE: u64 = 1 << 20;

struct Layout<'a> {
    source: Source<'a>,
    options: &'a Options,
    primary: Namespace,
    joliet: Option<Namespace>,
    catalog: Option<u32>,
    /// First sectors of the path tables: low byte first and last.
    tables: [[u32; 2]; 2],
    area: u32,
    /// First sector of each file, by [`Id::index`].
    files: Vec<u32>,
    boot: Vec<Range<u64>>,
    appended: Vec<Range<u64>>,
    sectors: u32,
}

/// Lays out a disc that holds a tree and, besides, composed files.
pub fn plan(tree: &Tree, composed: &Composed, options: &Options) -> Result<Volume> {
    ensure!(
        options.volume.is_ascii() && options.volume.len() <= 32,
        "expected a volume name of up to 32 characters of ASCII, got `{}`",
        options.volume
    );
    let mut composed = composed.clone();
    for (path, (index, range)) in &options.within {
        let boot = options.boot.get(*index).context("expected a boot entry of that index")?;
        let BootImage::Appended(image) = &boot.image else {
            anyhow::bail!("expected a file within an appended image, not within a file");
        };
        ensure!(range.start.is_multiple_of(SECTOR), "expected a file on a whole sector");
        composed.insert(path.clone(), image.slice(range.clone())?);
    }
    let source = Source::new(tree, &composed, options.time)?;
    let hierarchy = Hierarchy::new(&source)?;
    let primary = hierarchy.namespace(&source, false)?;
    let joliet = match options.joliet {
        true => Some(hierarchy.namespace(&source, true)?),
        false => None,
    };
    let files = vec![0; source.tree.capacity()];
    let mut layout = Layout {
        source,
        options,
        primary,
        joliet,
        catalog: None,
        tables: [[0; 2]; 2],
        area: 0,
        files,
        boot: Vec::new(),
        appended: Vec::new(),
        sectors: 0,
    };
    let next = layout.place_metadata()?;
    let (held, next) = layout.place_files(&hierarchy.files(), next)?;
    layout.place_boot(next)?;
    layout.write(&held)
}

impl Layout<'_> {
    fn place_metadata(&mut self) -> Result<u64> {
        let boots = u64::from(!self.options.boot.is_empty());
        let mut next = FIRST + 2 + boots + u64::from(self.joliet.is_some());
        if boots == 1 {
            self.catalog = Some(next as u32);
            next += 1;
        }
        let mut tables = [[0; 2]; 2];
        for (namespace, places) in self.namespaces().zip(&mut tables) {
            let sectors = (namespace.path_table(true).len() as u64).div_ceil(SECTOR);
            *places = [next as u32, (next + sectors) as u32];
            next += 2 * sectors;
        }
        self.tables = tables;
        next = self.primary.place(next)?;
        self.area = u32::try_from(next)?;
        next += self.primary.area.sectors();
        match &mut self.joliet {
            Some(joliet) => joliet.place(next),
            None => Ok(next),
        }
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.primary].into_iter().chain(&self.joliet)
    }

    /// Gives each file its place, equal ones the same; returns the files that
    /// are to be written.
    fn place_files(&mut self, files: &[Id], first: u64) -> Result<(Vec<Id>, u64)> {
        let apart = self.apart();
        let mut next = first;
        let mut known: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut held = Vec::new();
        for id in files {
            let len = self.source.len(*id);
            if len == 0 || self.within(*id) {
                continue;
            }
            // Whether it can lie there is known once all have their place.
            let mut sector = u32::try_from(next).unwrap_or(u32::MAX);
            let shared = !apart.contains(id) && !self.source.is_composed(*id);
            if let (true, Kind::File(content)) = (shared, &self.source.tree.get(*id).kind) {
                sector = *known.entry(content.digest()?).or_insert(sector);
            }
            self.files[id.index()] = sector;
            if u64::from(sector) < next {
                continue;
            }
            held.push(*id);
            next = next.saturating_add(len.div_ceil(SECTOR));
        }
        let most = u64::from(u32::MAX);
        if next > most {
            let needed = next.saturating_mul(SECTOR);
            return Err(self.source.too_large("an ISO 9660 disc", needed, most * SECTOR));
        }
        Ok((held, next))
    }

    /// The boot loaders: they are changed where they lie.
    fn apart(&self) -> Vec<Id> {
        let paths = self.options.boot.iter().filter_map(|boot| match &boot.image {
            BootImage::File(path) => Some(path),
            BootImage::Appended(_) => None,
        });
        paths.filter_map(|path| self.source.tree.lookup(path)).collect()
    }

    fn within(&self, id: Id) -> bool {
        let mut paths = self.options.within.keys();
        paths.any(|path| self.source.tree.lookup(path) == Some(id))
    }

    /// Places what is started, and with it the end of the disc.
    fn place_boot(&mut self, first: u64) -> Result<()> {
        let mut next = first;
        for boot in &self.options.boot {
            let (at, len) = match &boot.image {
                BootImage::Appended(image) => {
                    let at = next * SECTOR;
                    next += image.len().div_ceil(SECTOR);
                    (at, image.len())
                }
                BootImage::File(path) => {
                    let id = self.source.tree.lookup(path).with_context(|| {
                        format!("expected the file {} to start", String::from_utf8_lossy(path))
                    })?;
                    (u64::from(self.files[id.index()]) * SECTOR, self.source.len(id))
                }
            };
            self.boot.push(at..at + len);
        }
        for (path, (index, range)) in &self.options.within {
            let id = self.source.tree.lookup(path).context("expected a file placed within")?;
            let at = (self.boot[*index].start + range.start) / SECTOR;
            self.files[id.index()] = u32::try_from(at).context("placing files beyond 8 TiB")?;
        }
        for image in &self.options.appended {
            let at = (next * SECTOR).next_multiple_of(WHOLE);
            next = at / SECTOR + image.len().div_ceil(SECTOR);
            self.appended.push(at..next * SECTOR);
        }
        if self.options.tail > 0 {
            next = (next * SECTOR + self.options.tail).next_multiple_of(WHOLE) / SECTOR;
        }
        self.sectors = u32::try_from(next).context("making a disc of more than 8 TiB")?;
        Ok(())
    }

    fn write(mut self, held: &[Id]) -> Result<Volume> {
        let mut image = Extents::zeros(u64::from(self.sectors) * SECTOR);
        self.write_descriptors(&mut image)?;
        for (namespace, sectors) in self.namespaces().zip(self.tables) {
            for (low_first, sector) in [true, false].into_iter().zip(sectors) {
                image.put_bytes(u64::from(sector) * SECTOR, namespace.path_table(low_first));
            }
            for folder in &namespace.folders {
                let records = self.records(namespace, folder);
                image.put_bytes(u64::from(folder.sector) * SECTOR, records);
            }
        }
        let area = std::mem::take(&mut self.primary.area).encode(self.area);
        image.put_bytes(u64::from(self.area) * SECTOR, area);
        for id in held {
            let at = u64::from(self.files[id.index()]) * SECTOR;
            image.put(at, &self.source.contents(*id));
        }
        for (boot, range) in self.options.boot.iter().zip(&self.boot) {
            match &boot.image {
                BootImage::Appended(appended) => image.put(range.start, appended),
                BootImage::File(_) => {
                    let sector = (range.start / SECTOR) as u32;
                    let table = boot::info_table(&image.slice(range.clone())?, sector)?;
                    image.put_bytes(range.start + 8, table);
                }
            }
        }
        for (appended, range) in self.options.appended.iter().zip(&self.appended) {
            image.put(range.start, appended);
        }
        Ok(Volume { image, boot: self.boot, appended: self.appended })
    }

    fn write_descriptors(&self, image: &mut Extents) -> Result<()> {
        let mut all = Vec::new();
        let places = |namespace: &Namespace, tables: [u32; 2]| Places {
            sectors: self.sectors,
            table_len: namespace.path_table(true).len() as u32,
            tables,
            root: (namespace.folders[0].sector, namespace.folders[0].len as u32),
        };
        all.push(descriptor::volume(self.options, false, &places(&self.primary, self.tables[0])));
        if let Some(catalog) = self.catalog {
            // El Torito asks for it in the second sector.
            all.push(descriptor::boot(catalog));
            let entries: Vec<Placed> = (self.options.boot.iter().zip(&self.boot))
                .map(|(boot, range)| Placed {
                    platform: boot.platform,
                    sector: (range.start / SECTOR) as u32,
                    len: range.end - range.start,
                })
                .collect();
            image.put_bytes(u64::from(catalog) * SECTOR, boot::catalog(&entries)?);
        }
        if let Some(joliet) = &self.joliet {
            all.push(descriptor::volume(self.options, true, &places(joliet, self.tables[1])));
        }
        all.push(descriptor::last());
        image.put_bytes(FIRST * SECTOR, all.concat());
        Ok(())
    }

    /// Makes the records of a folder.
    fn records(&self, namespace: &Namespace, folder: &Listing) -> Vec<u8> {
        let mut out = Vec::with_capacity(folder.len as usize);
        let time = |id: Id| self.source.tree.get(id).meta.mtime;
        let mut push = |record: Record<'_>, system: &[u8]| {
            let bytes = record.encode(system);
            out.resize(next_place(out.len() as u64, bytes.len() as u64) as usize, 0);
            out.extend_from_slice(&bytes);
        };
        let of_folder = |name, listing: &Listing, mtime| {
            let (sector, len) = (listing.sector, listing.len as u32);
            Record { name, sector, len, flags: DIRECTORY, mtime }
        };
        let parent = &namespace.folders[folder.parent];
        push(of_folder(SELF, folder, time(folder.id)), &folder.own[0].encode(self.area));
        push(of_folder(PARENT, parent, time(parent.id)), &folder.own[1].encode(self.area));
        for item in &folder.items {
            let system = item.system.encode(self.area);
            let mtime = time(item.id);
            if let Some(index) = item.folder {
                push(of_folder(&item.name, &namespace.folders[index], mtime), &system);
                continue;
            }
            let (mut left, mut sector) = (self.source.len(item.id), self.files[item.id.index()]);
            loop {
                let len = left.min(PART);
                left -= len;
                let flags = if left > 0 { MORE } else { 0 };
                push(Record { name: &item.name, sector, len: len as u32, flags, mtime }, &system);
                sector += (len / SECTOR) as u32;
                if left == 0 {
                    break;
                }
            }
        }
        out.resize(folder.len as usize, 0);
        out
    }
}
