//! The order in which an image's inodes stand: directories before what is in
//! them, the entries of one directory next to each other, numbered from 1.

use anyhow::Result;

use crate::tree::{Id, Tree};

/// The inodes of a tree in order.
#[derive(Debug)]
pub(crate) struct Order {
    /// The directories with their parents, parents first; the root is its own.
    pub(crate) directories: Vec<(Id, Id)>,
    /// Each inode once.
    pub(crate) inodes: Vec<Id>,
    /// Each inode's number by its index: its place in `inodes`, from 1.
    pub(crate) numbers: Vec<u32>,
    /// Each inode's link count by its index.
    pub(crate) links: Vec<u32>,
}

impl Order {
    /// Finds the order of a tree.
    pub(crate) fn of(tree: &Tree) -> Result<Self> {
        let none = vec![0; tree.capacity()];
        let mut order = Self {
            directories: Vec::new(),
            inodes: Vec::new(),
            numbers: none.clone(),
            links: none,
        };
        order.number(tree.root())?;
        let mut waiting = vec![(tree.root(), tree.root())];
        while let Some((id, parent)) = waiting.pop() {
            order.directories.push((id, parent));
            // `.` and the name in the parent; each subdirectory adds its `..`.
            order.links[id.index()] += 2;
            let first = waiting.len();
            for entry in tree.entries(id).into_iter().flat_map(|entries| entries.values()) {
                order.number(entry.id)?;
                if tree.entries(entry.id).is_some() {
                    order.links[id.index()] += 1;
                    waiting.push((entry.id, id));
                } else {
                    order.links[entry.id.index()] += 1;
                }
            }
            // The last one is taken first.
            waiting[first..].reverse();
        }
        Ok(order)
    }

    /// Returns the number of inodes.
    pub(crate) fn count(&self) -> u32 {
        self.inodes.len() as u32
    }

    fn number(&mut self, id: Id) -> Result<()> {
        let number = &mut self.numbers[id.index()];
        if *number == 0 {
            self.inodes.push(id);
            *number = u32::try_from(self.inodes.len())?;
        }
        Ok(())
    }
}
