//! Puts one tree below a folder of another, folder by folder: no path is looked
//! up but the first.

use anyhow::Result;

use super::{Id, Inode, Kind, LinkHeader, Tree, components, join};

/// A tree on its way into another.
pub(super) struct Graft<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) other: &'a Tree,
    pub(super) part: u32,
    /// What stands for each of the other's inodes.
    pub(super) made: Vec<Option<Id>>,
}

/// A folder of the other tree, and what stands for it.
struct Folder {
    path: Vec<u8>,
    from: Id,
    to: Id,
}

/// A further name of an inode.
struct Link {
    path: Vec<u8>,
    name: Box<[u8]>,
    from: Id,
    dir: Id,
}

impl Graft<'_> {
    pub(super) fn run(mut self, path: &[u8]) -> Result<()> {
        let root = self.other.root();
        let Some((_, first)) =
            self.other.entries(root).and_then(|entries| entries.first_key_value())
        else {
            return Ok(());
        };
        let time = self.other.get(first.id).meta.mtime;
        let to = self.tree.make_parents(&components(path)?, time, self.part)?;
        let mut links = Vec::new();
        let mut waiting = vec![Folder { path: Vec::new(), from: root, to }];
        while let Some(folder) = waiting.pop() {
            self.folder(&folder, &mut waiting, &mut links)?;
        }
        links.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        links.into_iter().try_for_each(|link| self.link(&link))?;
        for (link, header) in &self.other.headers {
            let target = join(path, &header.target);
            let header = LinkHeader { target, ..header.clone() };
            self.tree.headers.insert(join(path, link), header);
        }
        Ok(())
    }

    /// Puts in all of a folder but the links, which follow their primary names.
    fn folder(
        &mut self,
        folder: &Folder,
        waiting: &mut Vec<Folder>,
        links: &mut Vec<Link>,
    ) -> Result<()> {
        let other = self.other;
        for (name, entry) in other.entries(folder.from).into_iter().flatten() {
            let (from, dir) = (entry.id, folder.to);
            if !entry.primary {
                let path = join(&folder.path, name);
                links.push(Link { path, name: name.clone(), from, dir });
                continue;
            }
            let to = self.put(from, dir, name)?;
            if other.is_folder(from) {
                waiting.push(Folder { path: join(&folder.path, name), from, to });
            }
        }
        Ok(())
    }

    fn link(&mut self, link: &Link) -> Result<()> {
        match self.made[link.from.index()] {
            Some(known) => self.tree.link_at(known, link.dir, &link.name),
            // Its primary name was removed: the first other one stands in.
            None => self.put(link.from, link.dir, &link.name).map(drop),
        }
    }

    fn put(&mut self, from: Id, dir: Id, name: &[u8]) -> Result<Id> {
        let inode = self.other.get(from);
        let kind = match &inode.kind {
            Kind::Directory(_) => Kind::directory(),
            other => other.clone(),
        };
        let inode = Inode { meta: inode.meta.clone(), kind, part: self.part };
        let to = match self.other.is_implied(from) {
            true => self.tree.imply_at(dir, name, inode)?,
            false => self.tree.insert_at(dir, name, inode)?,
        };
        self.made[from.index()] = Some(to);
        Ok(to)
    }
}
