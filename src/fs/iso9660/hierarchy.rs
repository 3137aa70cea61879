//! Folders and their records as one of the two namespaces has them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::record::{self, LIMIT};
use super::rock::{self, Area, System};
use super::{SECTOR, name};
use crate::fs::composed::Source;
use crate::fs::target;
use crate::tree::{Id, Kind, Name};

/// The most bytes of one extent: whole sectors below 4 GiB.
pub(super) const PART: u64 = 0xffff_f800;
/// The name of a folder's own record, and of that of its parent.
pub(super) const SELF: &[u8] = &[0];
pub(super) const PARENT: &[u8] = &[1];

/// A folder of the tree, its children by name.
struct Folder {
    id: Id,
    parent: usize,
    children: Vec<(Name, Id, Option<usize>)>,
}

/// All folders of the tree, with what Rock Ridge tells of inodes.
pub(super) struct Hierarchy {
    folders: Vec<Folder>,
    /// By [`Id::index`]: a number in the order of the walk, and the names.
    serials: Vec<u32>,
    links: Vec<u32>,
}

/// A record of a folder.
pub(super) struct Item {
    pub(super) id: Id,
    pub(super) name: Vec<u8>,
    /// The folder that it is of, by index.
    pub(super) folder: Option<usize>,
    pub(super) system: System,
}

/// A folder as a namespace has it.
pub(super) struct Listing {
    pub(super) id: Id,
    pub(super) parent: usize,
    /// What the system uses of the records of itself and of its parent.
    pub(super) own: [System; 2],
    pub(super) items: Vec<Item>,
    /// Bytes of its records, whole sectors.
    pub(super) len: u64,
    /// Where it lies, once that is known.
    pub(super) sector: u32,
}

/// A namespace: all folders by index, and their order in the path table.
pub(super) struct Namespace {
    pub(super) folders: Vec<Listing>,
    pub(super) order: Vec<usize>,
    /// What does not fit behind the records.
    pub(super) area: Area,
}

impl Hierarchy {
    pub(super) fn new(source: &Source<'_>) -> Result<Self> {
        let capacity = source.tree.capacity();
        let mut all =
            Self { folders: Vec::new(), serials: vec![0; capacity], links: vec![0; capacity] };
        let mut by_id: BTreeMap<Id, usize> = BTreeMap::new();
        for (serial, found) in source.tree.walk().filter(|found| !found.link).enumerate() {
            all.serials[found.id.index()] = u32::try_from(serial + 1)?;
            if let Kind::Symlink(target) = &source.tree.get(found.id).kind {
                let path = String::from_utf8_lossy(&found.path);
                target::checked(target)
                    .with_context(|| format!("writing /{path} to an ISO 9660 disc"))?;
            }
            let Some(entries) = source.tree.entries(found.id) else { continue };
            by_id.insert(found.id, all.folders.len());
            all.links[found.id.index()] += 2;
            let children = entries.iter().map(|(name, entry)| (name.clone(), entry.id, None));
            let children = children.collect();
            all.folders.push(Folder { id: found.id, parent: 0, children });
        }
        for index in 0..all.folders.len() {
            for at in 0..all.folders[index].children.len() {
                let id = all.folders[index].children[at].1;
                let child = by_id.get(&id).copied();
                all.folders[index].children[at].2 = child;
                match child {
                    Some(child) => {
                        all.folders[child].parent = index;
                        let own = all.folders[index].id.index();
                        all.links[own] += 1;
                    }
                    None => all.links[id.index()] += 1,
                }
            }
        }
        Ok(all)
    }

    /// Returns all that are no folders, each once, in the order of the walk.
    pub(super) fn files(&self) -> Vec<Id> {
        let children = self.folders.iter().flat_map(|folder| &folder.children);
        let others = children.filter(|child| child.2.is_none()).map(|child| child.1);
        let mut ids: Vec<Id> = others.collect();
        ids.sort_by_key(|id| self.serials[id.index()]);
        ids.dedup();
        ids
    }

    /// Makes one of the namespaces: that of Joliet holds only files and
    /// folders, and nothing of Rock Ridge.
    pub(super) fn namespace(&self, source: &Source<'_>, joliet: bool) -> Result<Namespace> {
        let mut area = Area::default();
        let mut folders = Vec::with_capacity(self.folders.len());
        for index in 0..self.folders.len() {
            folders.push(self.listing(source, index, joliet, &mut area)?);
        }
        let order = order(&folders);
        Ok(Namespace { folders, order, area })
    }

    fn listing(
        &self,
        source: &Source<'_>,
        index: usize,
        joliet: bool,
        area: &mut Area,
    ) -> Result<Listing> {
        let folder = &self.folders[index];
        let held = |id: Id| matches!(source.tree.get(id).kind, Kind::File(_) | Kind::Directory(_));
        let children: Vec<_> =
            folder.children.iter().filter(|child| !joliet || held(child.1)).collect();
        let names: Vec<(&[u8], bool)> =
            children.iter().map(|child| (&*child.0, child.2.is_some())).collect();
        let names = if joliet { name::joliet(&names) } else { name::plain(&names) };
        let mut items = Vec::with_capacity(children.len());
        for ((text, id, folder), name) in children.into_iter().zip(names) {
            let system = if joliet {
                System::default()
            } else {
                let room = LIMIT - record::base_len(&name);
                area.distribute(self.rock(source, *id, Some(text)), room)
            };
            items.push(Item { id: *id, name, folder: *folder, system });
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let own = if joliet {
            Default::default()
        } else {
            let mut first = self.rock(source, folder.id, None);
            if index == 0 {
                let [sp, er] = rock::identity();
                first.insert(0, sp);
                first.push(er);
            }
            let parent = self.rock(source, self.folders[folder.parent].id, None);
            let room = LIMIT - record::base_len(SELF);
            [area.distribute(first, room), area.distribute(parent, room)]
        };
        let len = records_len(source, &own, &items);
        ensure!(u32::try_from(len).is_ok(), "expected a folder of less than 4 GiB");
        Ok(Listing { id: folder.id, parent: folder.parent, own, items, len, sector: 0 })
    }

    fn rock(&self, source: &Source<'_>, id: Id, name: Option<&[u8]>) -> Vec<Vec<u8>> {
        let index = id.index();
        rock::entries(source.tree.get(id), self.serials[index], self.links[index], name)
    }
}

/// Returns how many records a file has: one for each extent.
pub(super) fn parts(len: u64) -> u64 {
    len.div_ceil(PART).max(1)
}

/// Adds up the records of a folder, of which none crosses a sector.
fn records_len(source: &Source<'_>, own: &[System; 2], items: &[Item]) -> u64 {
    let own = own.iter().map(|system| (record::base_len(SELF) + system.len(), 1));
    let others = items
        .iter()
        .map(|item| (record::base_len(&item.name) + item.system.len(), parts(source.len(item.id))));
    let mut at = 0;
    for (len, count) in own.chain(others) {
        let len = len.next_multiple_of(2) as u64;
        for _ in 0..count {
            at = next_place(at, len) + len;
        }
    }
    at.next_multiple_of(SECTOR)
}

/// Returns where a record of `len` bytes can stand from `at` on.
pub(super) fn next_place(at: u64, len: u64) -> u64 {
    if at % SECTOR + len > SECTOR { at.next_multiple_of(SECTOR) } else { at }
}

/// Orders folders as the path table has them: by depth, by parent, by name.
fn order(folders: &[Listing]) -> Vec<usize> {
    let mut order = vec![0];
    let mut at = 0;
    while at < order.len() {
        let below = folders[order[at]].items.iter().filter_map(|item| item.folder);
        order.extend(below);
        at += 1;
    }
    order
}

impl Namespace {
    /// Gives every folder its place from `sector` on; returns the next free
    /// sector.
    pub(super) fn place(&mut self, sector: u64) -> Result<u64> {
        let mut next = sector;
        for index in &self.order {
            let folder = &mut self.folders[*index];
            folder.sector = u32::try_from(next).context("placing folders beyond 8 TiB")?;
            next += folder.len / SECTOR;
        }
        Ok(next)
    }

    /// Makes the path table, numbers with the low byte first or last.
    pub(super) fn path_table(&self, low_first: bool) -> Vec<u8> {
        let mut numbers = vec![0_usize; self.folders.len()];
        let mut names: Vec<&[u8]> = vec![SELF; self.folders.len()];
        for folder in &self.folders {
            for item in &folder.items {
                if let Some(index) = item.folder {
                    names[index] = &item.name;
                }
            }
        }
        let mut out = Vec::new();
        for (number, index) in self.order.iter().enumerate() {
            numbers[*index] = number + 1;
            let folder = &self.folders[*index];
            // More than 65,535 folders have no numbers; nothing that reads
            // Rock Ridge needs them.
            let parent = u16::try_from(numbers[folder.parent]).unwrap_or(u16::MAX);
            let name = names[*index];
            out.extend_from_slice(&[name.len() as u8, 0]);
            if low_first {
                out.extend_from_slice(&folder.sector.to_le_bytes());
                out.extend_from_slice(&parent.to_le_bytes());
            } else {
                out.extend_from_slice(&folder.sector.to_be_bytes());
                out.extend_from_slice(&parent.to_be_bytes());
            }
            out.extend_from_slice(name);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        out
    }
}
