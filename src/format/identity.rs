//! Names a tree by all that is in it, without reading contents: the key of
//! what is made of it, and the seed of its identifiers.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::oci::{Digest, Hasher};
use crate::tree::{Inode, Kind, Tree};

/// Returns a digest of a tree's names, metadata, parts and contents.
pub(super) fn identity(tree: &Tree) -> Result<Digest> {
    let mut hasher = Hasher::new(io::sink());
    let mut first: Vec<Option<u64>> = vec![None; tree.capacity()];
    for (index, found) in (0u64..).zip(tree.walk()) {
        add(&mut hasher, &found.path)?;
        let known = *first[found.id.index()].get_or_insert(index);
        hasher.write_all(&known.to_le_bytes()).context("hashing")?;
        if known == index {
            add_inode(&mut hasher, tree.get(found.id))?;
        }
    }
    Ok(hasher.finish().1)
}

fn add_inode(out: &mut dyn Write, inode: &Inode) -> Result<()> {
    let meta = &inode.meta;
    let fixed = format!("{:o} {} {} {} {}", meta.mode, meta.uid, meta.gid, meta.mtime, inode.part);
    add(out, fixed.as_bytes())?;
    let (kind, value) = match &inode.kind {
        Kind::Directory(_) => ("directory", Vec::new()),
        Kind::File(content) => ("file", content.digest()?.bytes().to_vec()),
        Kind::Symlink(target) => ("link", target.to_vec()),
        Kind::Char(major, minor) => ("char", format!("{major}:{minor}").into_bytes()),
        Kind::Block(major, minor) => ("block", format!("{major}:{minor}").into_bytes()),
        Kind::Fifo => ("fifo", Vec::new()),
        Kind::Socket => ("socket", Vec::new()),
    };
    add(out, kind.as_bytes())?;
    add(out, &value)?;
    add(out, meta.xattrs.len().to_string().as_bytes())?;
    meta.xattrs.iter().try_for_each(|(name, value)| {
        add(out, name)?;
        add(out, value)
    })
}

/// Adds bytes after their length, so that no two lists look the same.
fn add(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes()).context("hashing")?;
    out.write_all(bytes).context("hashing")
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
