//! Walks a tree in one order, the same each time.

use super::{Entry, Id, Kind, Tree, join};

/// A name met on a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// The path from the root, without a slash at either end; empty for the root.
    pub path: Vec<u8>,
    /// The inode.
    pub id: Id,
    /// Whether this inode was met before under another name.
    pub link: bool,
}

/// An iterator over all names of a tree: parents before children, siblings
/// by name; the further names of an inode that has its primary name in the
/// tree come last of all.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    stack: Vec<(Vec<u8>, Id)>,
    links: Vec<(Vec<u8>, Id)>,
    met: Vec<bool>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        let met = vec![false; tree.capacity()];
        Self { tree, stack: vec![(Vec::new(), tree.root())], links: Vec::new(), met }
    }

    fn push_children(&mut self, path: &[u8], id: Id) {
        let Kind::Directory(entries) = &self.tree.get(id).kind else {
            return;
        };
        // A stack gives back the last one first.
        for (name, Entry { id, primary }) in entries.iter().rev() {
            let child = join(path, name);
            if *primary {
                self.stack.push((child, *id));
            } else {
                self.links.push((child, *id));
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        if let Some((path, id)) = self.stack.pop() {
            self.push_children(&path, id);
            self.met[id.index()] = true;
            if self.stack.is_empty() {
                self.links.sort_unstable_by(|a, b| b.cmp(a));
            }
            return Some(Walked { path, id, link: false });
        }
        let (path, id) = self.links.pop()?;
        // A primary name may have been removed: the first other one stands in.
        let link = std::mem::replace(&mut self.met[id.index()], true);
        Some(Walked { path, id, link })
    }
}
