//! What the guest should have listed.

use std::collections::BTreeMap;

use moby::tree::{Id, Kind, Tree};

use crate::Image;
use crate::listed::{List, Seen};

/// Compares a list with a tree, name by name.
pub(crate) fn compare(image: &Image, list: &List, tree: &Tree, log: &str) {
    let mut found = list.clone();
    if image.kind == "ext4" && tree.lookup(b"lost+found").is_none() {
        found.remove(&b"lost+found"[..]).expect("ext4 has it");
        found.get_mut(&b""[..]).unwrap().links -= 1;
    }
    let mut expected = expected(tree);
    groups(&mut found);
    groups(&mut expected);
    for seen in found.values_mut() {
        mask(image, seen);
    }
    for (path, seen) in &mut expected {
        mask(image, seen);
        let shown = path.escape_ascii();
        let found = found.remove(path);
        let found = found.unwrap_or_else(|| panic!("{}: no {shown}: {log}", image.name));
        assert_eq!(found, *seen, "{}: {shown}", image.name);
    }
    let more: Vec<String> = found.keys().map(|path| path.escape_ascii().to_string()).collect();
    assert!(more.is_empty(), "{}: {more:?}", image.name);
}

fn expected(tree: &Tree) -> List {
    let mut links: BTreeMap<Id, u64> = BTreeMap::new();
    for found in tree.walk() {
        *links.entry(found.id).or_default() += 1;
        if let Some(entries) = tree.entries(found.id) {
            let folders = entries.values().filter(|entry| tree.is_folder(entry.id)).count();
            links.insert(found.id, 2 + folders as u64);
        }
    }
    let seen = |id: Id| {
        let inode = tree.get(id);
        let meta = &inode.meta;
        let mut seen = Seen {
            mode: inode.kind.type_bits() | u32::from(meta.mode),
            owner: (meta.uid, meta.gid),
            mtime: meta.mtime,
            links: links[&id],
            inode: id.index() as u64,
            ..Seen::default()
        };
        match &inode.kind {
            Kind::File(content) => {
                seen.len = content.len();
                seen.contents = Some(content.digest().expect("contents").hex());
            }
            Kind::Symlink(target) => seen.target = Some(target.to_vec()),
            Kind::Char(major, minor) | Kind::Block(major, minor) => seen.device = (*major, *minor),
            _ => {}
        }
        let ordinary = matches!(inode.kind, Kind::File(_) | Kind::Directory(_));
        let shown = |name: &[u8]| ordinary || !name.starts_with(b"user.");
        let xattrs = meta.xattrs.iter().filter(|(name, _)| shown(name));
        seen.xattrs = xattrs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        seen
    };
    tree.walk().map(|found| (found.path, seen(found.id))).collect()
}

/// Numbers inodes by the order of their first names.
fn groups(list: &mut List) {
    let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
    for seen in list.values_mut() {
        let next = numbers.len() as u64;
        seen.inode = *numbers.entry(seen.inode).or_insert(next);
    }
}

/// Takes away what a file system does not show.
fn mask(image: &Image, seen: &mut Seen) {
    let shows = image.shows;
    seen.mtime = (shows.time)(seen.mtime);
    if seen.contents.is_none() {
        seen.len = 0;
    }
    if !shows.owners {
        (seen.mode, seen.owner) = (seen.mode & 0o170_000, (0, 0));
    }
    if !shows.links {
        seen.inode = 0;
    }
    if !shows.links && !shows.owners {
        seen.links = 0;
    }
    if !shows.xattrs {
        seen.xattrs.clear();
    }
}
