//! What each format holds of a tree: the rest is taken away, so that nothing
//! but what was written down here can be lost.

use crate::tree::{Entry, Id, Inode, Kind, Metadata, Name, Tree};

/// Changes every inode, the root too.
fn each(tree: &mut Tree, change: impl Fn(&mut Inode)) {
    let mut ids: Vec<Id> = tree.walk().map(|found| found.id).collect();
    ids.sort();
    ids.dedup();
    ids.into_iter().for_each(|id| change(tree.get_mut(id)));
}

/// Removes what is not wanted.
fn keep(tree: &mut Tree, wanted: impl Fn(&[u8], &Kind) -> bool) {
    let unwanted = tree.walk().filter(|found| !wanted(&found.path, &tree.get(found.id).kind));
    let paths: Vec<Vec<u8>> = unwanted.map(|found| found.path).collect();
    for path in paths {
        tree.remove(&path).unwrap();
    }
}

/// All of it.
pub(super) fn all(tree: Tree) -> Tree {
    tree
}

/// All but sockets, and but folders that nothing put there.
pub(super) fn tar(mut tree: Tree) -> Tree {
    keep(&mut tree, |_, kind| !matches!(kind, Kind::Socket));
    let folders: Vec<_> = tree.walk().filter(|found| tree.is_implied(found.id)).collect();
    for folder in folders {
        let meta = tree.get(folder.id).meta.clone();
        tree.insert(&folder.path, Inode { meta, kind: Kind::directory(), part: 0 }).unwrap();
    }
    tree
}

/// All but attributes and times before 1970 and after 2106.
pub(super) fn cpio(tree: Tree) -> Tree {
    let mut tree = squashfs(tree);
    each(&mut tree, |inode| inode.meta.xattrs.clear());
    tree
}

/// Times of 32 bits without a sign.
pub(super) fn squashfs(mut tree: Tree) -> Tree {
    each(&mut tree, |inode| inode.meta.mtime = inode.meta.mtime.clamp(0, u32::MAX.into()));
    tree
}

/// Times of 34 bits from 1901 on, and a folder of its own.
pub(super) fn ext4(mut tree: Tree) -> Tree {
    let times = -(1 << 31)..=(1_i64 << 34) - (1 << 31) - 1;
    each(&mut tree, |inode| {
        inode.meta.mtime = inode.meta.mtime.clamp(*times.start(), *times.end());
    });
    tree
}

/// All but attributes; times from 1900 to 2155, a target that begins with
/// several slashes has one, and a device number without a major one is read
/// as a whole one.
pub(in crate::fs) fn iso9660(mut tree: Tree) -> Tree {
    each(&mut tree, |inode| {
        inode.meta.xattrs.clear();
        inode.meta.mtime = inode.meta.mtime.clamp(-2_208_988_800, 5_869_583_999);
        match &mut inode.kind {
            Kind::Symlink(target) => {
                let slashes = target.iter().take_while(|byte| **byte == b'/').count();
                *target = target[slashes.saturating_sub(1)..].into();
            }
            Kind::Char(major @ 0, _) | Kind::Block(major @ 0, _) => *major = 1,
            _ => {}
        }
    });
    tree
}

/// Files and folders with names that Windows takes, all of root's, even times
/// from 1980 to 2107; a file of several names is several files.
pub(super) fn fat(tree: Tree) -> Tree {
    let mut held = Tree::new();
    let root = tree.root();
    // The root folder is nowhere written down.
    copy_fat(&tree, root, &mut held, root);
    held
}

fn copy_fat(from: &Tree, dir: Id, to: &mut Tree, target: Id) {
    let mut met = std::collections::BTreeSet::new();
    let entries: Vec<(Name, Entry)> =
        from.entries(dir).unwrap().iter().map(|(name, entry)| (name.clone(), *entry)).collect();
    for (name, entry) in entries {
        let inode = from.get(entry.id);
        let folder = matches!(inode.kind, Kind::Directory(_));
        let text = std::str::from_utf8(&name).ok().filter(|text| fat_name(text));
        let Some(text) = text.filter(|_| folder || matches!(inode.kind, Kind::File(_))) else {
            continue;
        };
        if !met.insert(text.to_lowercase()) {
            continue;
        }
        let mtime = inode.meta.mtime.clamp(315_532_800, 4_354_819_198) & !1;
        let kind = if folder { Kind::directory() } else { inode.kind.clone() };
        let meta = Metadata::root(if folder { 0o755 } else { 0o644 }, mtime);
        let id = to.insert_at(target, &name, Inode { meta, kind, part: 0 }).unwrap();
        if folder {
            copy_fat(from, entry.id, to, id);
        }
    }
}

fn fat_name(name: &str) -> bool {
    let bad = |c: char| c < ' ' || c == '\x7f' || "\"*/:<>?\\|".contains(c);
    !name.contains(bad) && !name.ends_with(['.', ' ']) && name.encode_utf16().count() <= 255
}
