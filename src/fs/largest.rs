//! What fills a tree: its largest folders, for the error that an image is too
//! large for its disk.

use std::fmt::Write as _;

use crate::error::WithHint;
use crate::tree::{Id, Kind, Tree};

/// How many folders an error shows.
const SHOWN: usize = 8;

/// A folder and all that lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Path from the root, without a slash at either end; empty for the root.
    pub path: Vec<u8>,
    /// Bytes of all files below it; a file of several names counts once.
    pub bytes: u64,
    /// How many files these are.
    pub files: u64,
}

/// Returns the `n` largest folders of a tree, the largest first. A folder
/// that owes most of its size to a single one below it is left out: that one
/// tells more.
pub fn largest(tree: &Tree, n: usize) -> Vec<Folder> {
    ranked(tree, &|id| own_len(tree, id), n)
}

fn own_len(tree: &Tree, id: Id) -> u64 {
    match &tree.get(id).kind {
        Kind::File(content) => content.len(),
        _ => 0,
    }
}

fn ranked(tree: &Tree, len: &dyn Fn(Id) -> u64, n: usize) -> Vec<Folder> {
    let mut parents: Vec<Option<usize>> = vec![None; tree.capacity()];
    let mut folders: Vec<(Id, Folder)> = Vec::new();
    let mut sizes = vec![(0u64, 0u64); tree.capacity()];
    for found in tree.walk().filter(|found| !found.link) {
        let inode = tree.get(found.id);
        if let Kind::Directory(entries) = &inode.kind {
            for entry in entries.values().filter(|entry| entry.primary) {
                parents[entry.id.index()] = Some(found.id.index());
            }
            folders.push((found.id, Folder { path: found.path, bytes: 0, files: 0 }));
        } else if let Kind::File(_) = &inode.kind {
            sizes[found.id.index()] = (len(found.id), 1);
            let mut at = parents[found.id.index()];
            while let Some(dir) = at {
                sizes[dir].0 += len(found.id);
                sizes[dir].1 += 1;
                at = parents[dir];
            }
        }
    }
    let mut told: Vec<Folder> = Vec::new();
    for (id, mut folder) in folders {
        (folder.bytes, folder.files) = sizes[id.index()];
        let below = tree.entries(id).into_iter().flatten().filter(|(_, entry)| entry.primary);
        let dirs = below.filter(|(_, e)| matches!(tree.get(e.id).kind, Kind::Directory(_)));
        let most = dirs.map(|(_, entry)| sizes[entry.id.index()].0).max().unwrap_or(0);
        if folder.files > 0 && most < folder.bytes.div_ceil(5) * 4 {
            told.push(folder);
        }
    }
    told.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    told.truncate(n);
    told
}

/// Makes the error that an image of `format` needs more bytes than it may
/// have, with a table of what fills it.
pub fn too_large(format: &str, tree: &Tree, needed: u64, size: u64) -> anyhow::Error {
    too_large_by(format, tree, &|id| own_len(tree, id), needed, size)
}

/// Makes the error of [`too_large`] for files whose lengths `len` tells.
pub(crate) fn too_large_by(
    format: &str,
    tree: &Tree,
    len: &dyn Fn(Id) -> u64,
    needed: u64,
    size: u64,
) -> anyhow::Error {
    let mut text = format!(
        "expected {format} to fit in {}, got a tree that needs {}, {} more; its largest folders:",
        shown(size),
        shown(needed),
        shown(needed.saturating_sub(size))
    );
    for folder in ranked(tree, len, SHOWN) {
        let path = String::from_utf8_lossy(&folder.path);
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {:>10}  {:>7} files  /{path}", shown(folder.bytes), folder.files);
    }
    let error = Err::<(), _>(anyhow::anyhow!(text));
    error.hint(|| "give a larger size, or none at all to fit the tree".into()).expect_err("is one")
}

/// A number of bytes for people: exact below 10 KiB, else rounded up.
fn shown(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 10 << shift {
            return format!("{} {unit}", bytes.div_ceil(1 << shift));
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    fn tree(files: &[(&str, usize)]) -> Tree {
        let mut tree = Tree::new();
        for (path, len) in files {
            let kind = Kind::bytes(vec![1; *len]);
            let meta = Metadata::root(0o644, 0);
            tree.insert(path.as_bytes(), Inode { meta, kind, part: 0 }).unwrap();
        }
        tree
    }

    #[test]
    fn tells_the_folders_that_matter() {
        let files = [("usr/lib/a", 900), ("usr/lib/b/c", 300), ("usr/bin/x", 100), ("etc/y", 5)];
        let mut tree = tree(&files);
        let x = tree.lookup(b"usr/bin/x").unwrap();
        tree.link(x, b"etc/x").unwrap();
        let told: Vec<_> = largest(&tree, 3)
            .into_iter()
            .map(|f| (String::from_utf8(f.path).unwrap(), f.bytes, f.files))
            .collect();
        let wanted = [("usr/lib", 1200, 2), ("usr/lib/b", 300, 1), ("usr/bin", 100, 1)];
        assert_eq!(told, wanted.map(|(path, bytes, files)| (path.to_owned(), bytes, files)));
    }

    #[test]
    fn says_by_how_much() {
        let error = too_large("an ext4 file system", &tree(&[("a/b", 20_000)]), 30_000, 12_288);
        let text = error.to_string();
        assert!(text.contains("12 KiB, got a tree that needs 30 KiB, 18 KiB more"), "{text}");
        assert!(text.ends_with("20 KiB        1 files  /a"), "{text}");
        assert!(crate::error::hint(&error).is_some());
    }
}
