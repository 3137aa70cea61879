//! Applies one layer to a tree: what it adds, replaces and removes.
//!
//! Follows OCI Image Format Specification 1.1, "Image Layer Filesystem
//! Changeset": whiteouts, opaque whiteouts, hard links. Links in the folders
//! of an entry's path are followed inside the tree, as a container would see
//! them, never out of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use crate::store::{Entry, EntryKind, Layer};
use crate::tree::{Content, Id, Inode, Kind, LinkHeader, Metadata, Tree, components};

/// Marks the removal of the name behind it.
const WHITEOUT: &[u8] = b".wh.";
/// Marks that a folder hides what lower layers have in it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How many links one path may lead over, as in Linux.
const LINKS_MAX: usize = 40;

/// Applies a layer to a tree. Whiteouts count before the layer's own entries,
/// wherever they stand in it.
pub fn apply(tree: &mut Tree, layer: &Layer) -> Result<()> {
    for entry in layer.entries.iter().filter(|entry| is_whiteout(entry)) {
        whiteout(tree, entry)?;
    }
    let mut met = BTreeSet::new();
    for entry in layer.entries.iter().filter(|entry| !is_whiteout(entry)) {
        // Of two entries of one path LinuxKit takes the first: case 082.
        if met.insert(&entry.path) {
            let shown = || format!("applying entry `{}`", String::from_utf8_lossy(&entry.path));
            add(tree, layer, entry).with_context(shown)?;
        }
    }
    Ok(())
}

fn is_whiteout(entry: &Entry) -> bool {
    let name = entry.path.rsplit(|b| *b == b'/').next();
    name.is_some_and(|name| name.starts_with(WHITEOUT))
}

fn whiteout(tree: &mut Tree, entry: &Entry) -> Result<()> {
    let names = components(&entry.path)?;
    let Some((name, parents)) = names.split_last() else {
        return Ok(());
    };
    let Some(gone) = name.strip_prefix(WHITEOUT) else {
        return Ok(());
    };
    let Some(dir) = find_folder(tree, parents) else {
        return Ok(());
    };
    if *name == OPAQUE {
        tree.clear(dir);
    } else {
        tree.unlink(dir, gone);
    }
    Ok(())
}

fn add(tree: &mut Tree, layer: &Layer, entry: &Entry) -> Result<()> {
    let names = components(&entry.path)?;
    let meta = metadata(entry);
    let Some((name, parents)) = names.split_last() else {
        // The root folder itself: only its metadata can change.
        if entry.kind == EntryKind::Directory {
            tree.insert(b"", Inode { meta, kind: Kind::directory(), part: 0 })?;
        }
        return Ok(());
    };
    let dir = make_folder(tree, parents, entry.mtime)?;
    if let EntryKind::HardLink(target) = &entry.kind {
        link(tree, target, dir, name)?;
        let header = LinkHeader { mode: entry.mode, target: target.clone() };
        tree.set_link_header(entry.path.clone(), header);
        return Ok(());
    }
    let kind = kind(layer, &entry.kind);
    tree.insert_at(dir, name, Inode { meta, kind, part: 0 })?;
    Ok(())
}

fn link(tree: &mut Tree, target: &[u8], dir: Id, name: &[u8]) -> Result<()> {
    let names = components(target)?;
    let shown = || String::from_utf8_lossy(target).into_owned();
    let Some((last, parents)) = names.split_last() else {
        bail!("expected a hard link to a file, got one to the root");
    };
    let found = find_folder(tree, parents).and_then(|dir| tree.child(dir, last));
    let found = found.with_context(|| {
        format!("expected a hard link to an entry before it, got one to `{}`", shown())
    })?;
    tree.link_at(found, dir, name)
}

fn kind(layer: &Layer, kind: &EntryKind) -> Kind {
    match kind {
        EntryKind::Directory | EntryKind::HardLink(_) => Kind::directory(),
        EntryKind::File { offset, len, digest } => Kind::File(Content::Span {
            file: layer.tar.clone(),
            offset: *offset,
            len: *len,
            digest: *digest,
        }),
        EntryKind::Symlink(target) => Kind::Symlink(target.as_slice().into()),
        EntryKind::Char(major, minor) => Kind::Char(*major, *minor),
        EntryKind::Block(major, minor) => Kind::Block(*major, *minor),
        EntryKind::Fifo => Kind::Fifo,
    }
}

fn metadata(entry: &Entry) -> Metadata {
    let pairs = entry.xattrs.iter();
    Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: pairs
            .map(|(name, value)| (name.as_slice().into(), value.as_slice().into()))
            .collect(),
    }
}

/// Finds a folder, following links inside the tree.
pub fn find_folder(tree: &Tree, names: &[&[u8]]) -> Option<Id> {
    walk_names(tree, names).ok().and_then(|(dir, rest)| rest.is_empty().then_some(dir))
}

/// Finds or makes a folder, following links inside the tree. What is no
/// folder gives way to one.
pub fn make_folder(tree: &mut Tree, names: &[&[u8]], mtime: i64) -> Result<Id> {
    let (mut dir, missing) = walk_names(tree, names)?;
    for name in missing {
        let meta = Metadata::root(0o755, mtime);
        dir = tree.imply_at(dir, &name, Inode { meta, kind: Kind::directory(), part: 0 })?;
    }
    Ok(dir)
}

fn folder(tree: &Tree, dir: Id, name: &[u8]) -> Option<Id> {
    tree.child(dir, name).filter(|id| tree.is_folder(*id))
}

/// Follows names as far as there are folders; returns the last folder and
/// the names that are missing below it.
fn walk_names(tree: &Tree, names: &[&[u8]]) -> Result<(Id, Vec<Vec<u8>>)> {
    // Mostly there is no link on the way; `..` is the name of no entry.
    let mut plain = names.iter().copied();
    if let Some(dir) = plain.try_fold(tree.root(), |dir, name| folder(tree, dir, name)) {
        return Ok((dir, Vec::new()));
    }
    let mut links = 0;
    // The names still to go, the next one last, and the folders behind us.
    let mut todo: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
    let mut path = vec![tree.root()];
    while let Some(name) = todo.pop() {
        let dir = *path.last().expect("the root is never popped");
        if name == b".." {
            if path.len() > 1 {
                path.pop();
            }
            continue;
        }
        let child = tree.child(dir, &name);
        match child.map(|id| (id, &tree.get(id).kind)) {
            Some((id, Kind::Directory(_))) => path.push(id),
            Some((_, Kind::Symlink(target))) => {
                links += 1;
                ensure!(
                    links <= LINKS_MAX,
                    "expected at most {LINKS_MAX} links in a path, got more"
                );
                if target.starts_with(b"/") {
                    path.truncate(1);
                }
                let plain = target.split(|b| *b == b'/').filter(|n| !n.is_empty() && *n != b".");
                todo.extend(plain.rev().map(<[u8]>::to_vec));
            }
            _ => {
                todo.push(name);
                todo.reverse();
                // A missing folder has nothing above it to go back to.
                todo.retain(|name| name != b"..");
                return Ok((dir, todo));
            }
        }
    }
    Ok((*path.last().expect("the root is never popped"), Vec::new()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::Digest;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let path = path.as_bytes().to_vec();
        Entry { path, kind, mode: 0o755, uid: 0, gid: 0, mtime: 1, xattrs: Vec::new() }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { offset: 0, len: 0, digest: Digest::of(b"") })
    }

    fn dir(path: &str) -> Entry {
        entry(path, EntryKind::Directory)
    }

    fn symlink(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::Symlink(target.into()))
    }

    fn hard(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::HardLink(target.into()))
    }

    fn flat(layers: &[Vec<Entry>]) -> Result<Vec<String>> {
        let tar = Arc::new(tempfile::tempfile()?);
        let mut tree = Tree::new();
        for entries in layers {
            apply(&mut tree, &Layer { entries: entries.clone(), tar: tar.clone(), diff_id: None })?;
        }
        let shown = |w: crate::tree::Walked| String::from_utf8_lossy(&w.path).into_owned();
        Ok(tree.walk().skip(1).map(shown).collect())
    }

    #[test]
    fn applies_whiteouts() {
        for (name, upper, expected) in [
            ("a file", vec![file("d/.wh.x")], vec!["d", "d/y"]),
            ("a folder", vec![file(".wh.d")], vec![]),
            (
                "opaque, behind its entry",
                vec![file("d/n"), file("d/.wh..wh..opq")],
                vec!["d", "d/n"],
            ),
            ("removed and made again", vec![file(".wh.d"), dir("d")], vec!["d"]),
            ("what is not there", vec![file("e/.wh.x")], vec!["d", "d/x", "d/y"]),
            ("a file for a folder", vec![file("d")], vec!["d"]),
            ("a folder over itself", vec![dir("d")], vec!["d", "d/x", "d/y"]),
        ] {
            let lower = vec![dir("d"), file("d/x"), file("d/y")];
            assert_eq!(flat(&[lower, upper]).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn follows_links_inside_only() {
        let lower = vec![dir("usr/bin"), symlink("bin", "usr/bin"), symlink("up", "../../etc")];
        let upper = vec![file("bin/sh"), file("up/passwd")];
        let all = flat(&[lower, upper]).unwrap();
        assert_eq!(all, ["bin", "etc", "etc/passwd", "up", "usr", "usr/bin", "usr/bin/sh"]);
        let ring = vec![symlink("a", "b"), symlink("b", "a"), file("a/x")];
        assert!(flat(&[ring]).is_err());
    }

    #[test]
    fn keeps_a_hard_link_whose_other_name_is_replaced() {
        let lower = vec![file("a"), hard("b", "a")];
        assert_eq!(flat(&[lower, vec![file("a")]]).unwrap(), ["a", "b"]);
        for bad in ["nowhere", "", "d"] {
            assert!(flat(&[vec![dir("d"), hard("x", bad)]]).is_err(), "{bad}");
        }
    }
}
