//! Names a tree by all that is in it, without reading contents: the key of
//! what is made of it, and the seed of its identifiers.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::oci::{Digest, Hasher};
use crate::tree::{Inode, Kind, Tree};

/// How much is gathered before it is hashed, in bytes.
const GATHERED: usize = 64 << 10;

/// Returns a digest of a tree's names, metadata, parts and contents.
pub(super) fn identity(tree: &Tree) -> Result<Digest> {
    let mut hasher = Hasher::new(io::sink());
    let mut bytes = Vec::with_capacity(GATHERED * 2);
    let mut first: Vec<Option<u64>> = vec![None; tree.capacity()];
    for (index, found) in (0u64..).zip(tree.walk()) {
        add(&mut bytes, &found.path);
        let known = *first[found.id.index()].get_or_insert(index);
        bytes.extend(known.to_le_bytes());
        if known == index {
            add_inode(&mut bytes, tree.get(found.id))?;
        }
        if bytes.len() >= GATHERED {
            hasher.write_all(&bytes).context("hashing")?;
            bytes.clear();
        }
    }
    hasher.write_all(&bytes).context("hashing")?;
    Ok(hasher.finish().1)
}

fn add_inode(bytes: &mut Vec<u8>, inode: &Inode) -> Result<()> {
    let meta = &inode.meta;
    bytes.extend(meta.mode.to_le_bytes());
    bytes.extend([meta.uid, meta.gid, inode.part].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(meta.mtime.to_le_bytes());
    bytes.extend(inode.kind.type_bits().to_le_bytes());
    match &inode.kind {
        Kind::File(content) => add(bytes, content.digest()?.bytes()),
        Kind::Symlink(target) => add(bytes, target),
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            bytes.extend([major, minor].iter().flat_map(|number| number.to_le_bytes()));
        }
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => {}
    }
    bytes.extend((meta.xattrs.len() as u64).to_le_bytes());
    for (name, value) in &meta.xattrs {
        add(bytes, name);
        add(bytes, value);
    }
    Ok(())
}

/// Adds bytes after their length, so that no two lists look the same.
fn add(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Metadata;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let meta = Metadata::root(0o644, 7);
        tree.insert(b"a", Inode { meta, kind: Kind::bytes(&b"x"[..]), part: 1 }).unwrap();
        tree
    }

    #[test]
    fn differs_by_all_that_is_in_it() {
        let plain = identity(&tree()).unwrap();
        assert_eq!(identity(&tree()).unwrap(), plain);
        let changes: [fn(&mut Inode); 6] = [
            |inode| inode.meta.mode = 0o600,
            |inode| inode.meta.gid = 1,
            |inode| inode.meta.mtime = 8,
            |inode| inode.part = 2,
            |inode| inode.kind = Kind::bytes(&b"y"[..]),
            |inode| drop(inode.meta.xattrs.insert((*b"user.a").into(), (*b"b").into())),
        ];
        for change in changes {
            let mut changed = tree();
            let id = changed.lookup(b"a").unwrap();
            change(changed.get_mut(id));
            assert_ne!(identity(&changed).unwrap(), plain);
        }
        let mut linked = tree();
        let id = linked.lookup(b"a").unwrap();
        linked.link(id, b"b").unwrap();
        assert_ne!(identity(&linked).unwrap(), plain);
    }
}
