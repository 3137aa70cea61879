//! A file system in memory: metadata only, contents by reference.
//!
//! Names are bytes, not text. A hard link is a second name of one inode. The
//! tree knows nothing of layers, whiteouts or on-disk formats; what it holds
//! is always well formed: each folder reachable once, each name plain.

mod content;
mod graft;
mod held;
mod path;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

pub use content::{Content, Reader, holds};
use graft::Graft;
pub use held::{Held, Hold};
pub use path::{components, join, parent_and_name};
pub use walk::{Walk, Walked};

/// The name of a folder's entry.
pub type Name = Box<[u8]>;

/// Names an inode of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    /// Returns the inode's index, dense from 0 (the root) upwards.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Owner, mode, times and extended attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970, which may be negative.
    pub mtime: i64,
    /// Extended attributes by full name, such as `security.capability`.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl Metadata {
    /// Describes something of root's with a mode and a time.
    pub fn root(mode: u16, mtime: i64) -> Self {
        Self { mode, mtime, ..Self::default() }
    }
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder and its entries.
    Directory(BTreeMap<Name, Entry>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major and minor number.
    Char(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Makes an empty folder.
    pub fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }

    /// Makes a regular file of bytes that are at hand.
    pub fn bytes(bytes: impl Into<std::sync::Arc<[u8]>>) -> Self {
        Self::File(Content::Bytes(bytes.into()))
    }

    /// Returns the file type bits of `st_mode`.
    pub fn type_bits(&self) -> u32 {
        match self {
            Self::Directory(_) => 0o040_000,
            Self::File(_) => 0o100_000,
            Self::Symlink(_) => 0o120_000,
            Self::Char(..) => 0o020_000,
            Self::Block(..) => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }
}

/// A name's target. One name of each inode is its primary one, the rest are
/// links to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode.
    pub id: Id,
    /// Whether the inode was made under this name.
    pub primary: bool,
}

/// A file, folder, link or node.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Owner, mode, times, attributes.
    pub meta: Metadata,
    /// What it is, with its entries or contents.
    pub kind: Kind,
    /// Which part of the system it came from: an index that the tree's user
    /// gives a meaning.
    pub part: u32,
}

/// What an archive said of a hard link besides which inode it names. No file
/// system can hold it; archives that are to equal LinuxKit's repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The permission bits in the link's own header.
    pub mode: u16,
    /// The path of the target as it was written.
    pub target: Vec<u8>,
}

/// A file system: the root folder and all below it.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// Folders that nothing put there: they are only in some path.
    implied: BTreeSet<Id>,
    /// By the path of the link.
    headers: BTreeMap<Vec<u8>, LinkHeader>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// Makes a tree of an empty root folder, mode 0755, time 0.
    pub fn new() -> Self {
        let root = Inode { meta: Metadata::root(0o755, 0), kind: Kind::directory(), part: 0 };
        Self { inodes: vec![root], implied: BTreeSet::new(), headers: BTreeMap::new() }
    }

    /// Returns the root folder.
    pub fn root(&self) -> Id {
        Id(0)
    }

    /// Returns one more than the largest [`Id::index`] of the tree.
    pub fn capacity(&self) -> usize {
        self.inodes.len()
    }

    /// Returns an inode.
    pub fn get(&self, id: Id) -> &Inode {
        &self.inodes[id.index()]
    }

    /// Returns an inode for changing. A folder's entries are changed by the
    /// tree's own functions.
    pub fn get_mut(&mut self, id: Id) -> &mut Inode {
        &mut self.inodes[id.index()]
    }

    /// Returns the entries of a folder, or `None` where `id` is none.
    pub fn entries(&self, id: Id) -> Option<&BTreeMap<Name, Entry>> {
        match &self.get(id).kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns a folder's entry by name.
    pub fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.entries(dir)?.get(name).map(|entry| entry.id)
    }

    /// Finds a path without following any link. Slashes at either end and
    /// `.` are nothing; a path with `..` finds nothing.
    pub fn lookup(&self, path: &[u8]) -> Option<Id> {
        let names = components(path).ok()?;
        names.into_iter().try_fold(self.root(), |dir, name| self.child(dir, name))
    }

    /// Puts an inode at a path, in place of what is there. A folder put onto
    /// a folder keeps the entries and takes the new metadata. Missing parents
    /// are made as root's, mode 0755, with the inode's own time and part.
    pub fn insert(&mut self, path: &[u8], inode: Inode) -> Result<Id> {
        let (parents, name) = parent_and_name(path)?;
        let Some(name) = name else {
            return self.replace_root(inode);
        };
        let dir = self.make_parents(&parents, inode.meta.mtime, inode.part)?;
        self.insert_at(dir, name, inode)
    }

    /// Puts an inode into a folder, as [`Tree::insert`] does.
    pub fn insert_at(&mut self, dir: Id, name: &[u8], inode: Inode) -> Result<Id> {
        if let (Some(old), Kind::Directory(_)) = (self.child(dir, name), &inode.kind)
            && let Kind::Directory(_) = self.get(old).kind
        {
            let known = self.get_mut(old);
            known.meta = inode.meta;
            known.part = inode.part;
            self.implied.remove(&old);
            return Ok(old);
        }
        self.unlink(dir, name);
        let id = self.allocate(inode)?;
        self.enter(dir, name, Entry { id, primary: true })?;
        Ok(id)
    }

    /// Makes a folder that is only in some path, or leaves one that is there
    /// as it is.
    pub fn imply_at(&mut self, dir: Id, name: &[u8], inode: Inode) -> Result<Id> {
        match self.child(dir, name) {
            Some(known) if self.is_folder(known) => Ok(known),
            _ => {
                let id = self.insert_at(dir, name, inode)?;
                self.implied.insert(id);
                Ok(id)
            }
        }
    }

    /// Says whether a folder is only in some path.
    pub fn is_implied(&self, id: Id) -> bool {
        self.implied.contains(&id)
    }

    /// Keeps what an archive said of the hard link at a path.
    pub fn set_link_header(&mut self, path: Vec<u8>, header: LinkHeader) {
        self.headers.insert(path, header);
    }

    /// Returns what an archive said of the hard link at a path.
    pub fn link_header(&self, path: &[u8]) -> Option<&LinkHeader> {
        self.headers.get(path)
    }

    /// Returns all that archives said of hard links, by the link's path.
    pub fn link_headers(&self) -> &BTreeMap<Vec<u8>, LinkHeader> {
        &self.headers
    }

    /// Gives an inode another name, in place of what is there.
    pub fn link(&mut self, target: Id, path: &[u8]) -> Result<()> {
        let (parents, name) = parent_and_name(path)?;
        let Some(name) = name else {
            bail!("expected a name for a hard link, got the root folder");
        };
        let (mtime, part) = (self.get(target).meta.mtime, self.get(target).part);
        let dir = self.make_parents(&parents, mtime, part)?;
        self.link_at(target, dir, name)
    }

    /// Gives an inode another name in a folder.
    pub fn link_at(&mut self, target: Id, dir: Id, name: &[u8]) -> Result<()> {
        let folder = matches!(self.get(target).kind, Kind::Directory(_));
        ensure!(!folder, "expected a hard link to a file, got one to a folder");
        if self.child(dir, name) == Some(target) {
            return Ok(());
        }
        self.unlink(dir, name);
        self.enter(dir, name, Entry { id: target, primary: false })
    }

    /// Removes a path and all below it; says whether there was anything.
    pub fn remove(&mut self, path: &[u8]) -> Result<bool> {
        let (parents, name) = parent_and_name(path)?;
        let dir = parents.into_iter().try_fold(self.root(), |dir, name| self.child(dir, name));
        match (dir, name) {
            (Some(dir), Some(name)) => Ok(self.unlink(dir, name)),
            _ => Ok(false),
        }
    }

    /// Removes one entry of a folder; says whether there was one.
    pub fn unlink(&mut self, dir: Id, name: &[u8]) -> bool {
        match &mut self.get_mut(dir).kind {
            Kind::Directory(entries) => entries.remove(name).is_some(),
            _ => false,
        }
    }

    /// Removes all entries of a folder.
    pub fn clear(&mut self, dir: Id) {
        if let Kind::Directory(entries) = &mut self.get_mut(dir).kind {
            entries.clear();
        }
    }

    /// Moves all entries of a folder into another. Folders of one name become
    /// one; of other things, what `to` has stays.
    pub fn move_entries(&mut self, from: Id, to: Id) -> Result<()> {
        let moved = match &mut self.get_mut(from).kind {
            Kind::Directory(entries) => std::mem::take(entries),
            _ => bail!("expected a folder to move entries from"),
        };
        for (name, entry) in moved {
            match self.child(to, &name) {
                None => self.enter(to, &name, entry)?,
                Some(known) if self.is_folder(known) && self.is_folder(entry.id) => {
                    self.move_entries(entry.id, known)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Says whether an inode is a folder.
    pub fn is_folder(&self, id: Id) -> bool {
        matches!(self.get(id).kind, Kind::Directory(_))
    }

    /// Puts all that is below another tree's root below a path of this one,
    /// as if inserted one by one, hard links included, each as of `part`.
    pub fn graft(&mut self, path: &[u8], other: &Tree, part: u32) -> Result<()> {
        Graft { tree: self, other, part, made: vec![None; other.capacity()] }.run(path)
    }

    /// Walks all names, parents before children, siblings by name, except
    /// that a link follows its primary name.
    pub fn walk(&self) -> Walk<'_> {
        Walk::new(self)
    }

    fn replace_root(&mut self, inode: Inode) -> Result<Id> {
        ensure!(
            matches!(inode.kind, Kind::Directory(_)),
            "expected the root to be a folder, got something else"
        );
        let root = self.get_mut(Id(0));
        root.meta = inode.meta;
        root.part = inode.part;
        Ok(Id(0))
    }

    fn make_parents(&mut self, parents: &[&[u8]], mtime: i64, part: u32) -> Result<Id> {
        let mut dir = self.root();
        for name in parents {
            let meta = Metadata::root(0o755, mtime);
            dir = self.imply_at(dir, name, Inode { meta, kind: Kind::directory(), part })?;
        }
        Ok(dir)
    }

    fn allocate(&mut self, inode: Inode) -> Result<Id> {
        let id = u32::try_from(self.inodes.len())?;
        self.inodes.push(inode);
        Ok(Id(id))
    }

    fn enter(&mut self, dir: Id, name: &[u8], entry: Entry) -> Result<()> {
        ensure!(
            !name.is_empty() && name.len() <= path::NAME_MAX,
            "expected a name of 1 to {} bytes, got one of {}",
            path::NAME_MAX,
            name.len()
        );
        match &mut self.get_mut(dir).kind {
            Kind::Directory(entries) => {
                entries.insert(name.into(), entry);
                Ok(())
            }
            _ => bail!("expected a folder to hold `{}`", String::from_utf8_lossy(name)),
        }
    }
}

#[cfg(test)]
mod tests;
