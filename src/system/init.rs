//! The init images, unpacked one over the other into the root.
//!
//! Two things are joined instead of replaced: Alpine's package database, as
//! LinuxKit does, and folders that are links in one image and folders in
//! another, such as Debian's `lib` and the kernel's `lib/modules`, of which
//! LinuxKit keeps only the last.

use anyhow::{Context, Result};

use super::rootfs::{Resolver, prepare};
use super::{Assembly, regular};
use crate::image::{find_folder, make_folder};
use crate::tree::{Id, Inode, Kind, Metadata, Tree, components};

const APK_DB: &[u8] = b"lib/apk/db/installed";
/// The largest package database that is joined, in bytes.
const APK_DB_MAX: u64 = 64 << 20;
/// LinuxKit's name for the source of the joined database.
const APK_SOURCE: &str = "LINUXKIT.apkinit";

impl Assembly<'_> {
    /// Unpacks the init images into the root.
    pub(super) fn add_init(&mut self) -> Result<()> {
        let (mut packages, mut databases) = (Vec::new(), 0);
        for (index, reference) in self.manifest.init.iter().enumerate() {
            let named = self.image(reference)?;
            let part = self.part(&named.name, format!("init[{index}]"));
            self.inventory.push((String::new(), named));
            overlay(&mut self.tree, &prepare(&named.image.tree, Resolver::Host)?, part)
                .with_context(|| format!("unpacking {} into the root", named.name))?;
            if let Some((_, database)) = regular(&named.image.tree, APK_DB) {
                packages.extend(database.gather(APK_DB_MAX)?);
                packages.extend(b"\n\n");
                databases += 1;
            }
        }
        if databases > 1 {
            let part = self.part(APK_SOURCE, "init".to_owned());
            let meta = Metadata::root(0o644, 0);
            self.tree.insert(APK_DB, Inode { meta, kind: Kind::bytes(packages), part })?;
        }
        Ok(())
    }
}

/// Unpacks an image over the root.
fn overlay(root: &mut Tree, image: &Tree, part: u32) -> Result<()> {
    let mut made: Vec<Option<Id>> = vec![None; image.capacity()];
    for found in image.walk() {
        let names = components(&found.path)?;
        let inode = image.get(found.id);
        let Some((name, parents)) = names.split_last() else {
            continue;
        };
        let dir = make_folder(root, parents, inode.meta.mtime)?;
        if let Some(known) = made[found.id.index()] {
            root.link_at(known, dir, name)?;
            continue;
        }
        let known = root.child(dir, name);
        let kind = match &inode.kind {
            Kind::Directory(_) if is_link_to_folder(root, known, &names) => continue,
            Kind::Directory(_) => Kind::directory(),
            other => other.clone(),
        };
        let inode = Inode { meta: inode.meta.clone(), kind, part };
        let id = match (&inode.kind, known.filter(|id| root.is_folder(*id))) {
            (Kind::Symlink(_), Some(folder)) => replace_folder(root, folder, dir, &names, inode)?,
            _ if image.is_implied(found.id) => root.imply_at(dir, name, inode)?,
            _ => root.insert_at(dir, name, inode)?,
        };
        made[found.id.index()] = Some(id);
    }
    for (link, header) in image.link_headers() {
        root.set_link_header(link.clone(), header.clone());
    }
    Ok(())
}

fn is_link_to_folder(root: &Tree, known: Option<Id>, names: &[&[u8]]) -> bool {
    let link = known.is_some_and(|id| matches!(root.get(id).kind, Kind::Symlink(_)));
    link && find_folder(root, names).is_some()
}

/// Puts a link in the place of a folder, whose entries go where it leads.
fn replace_folder(
    root: &mut Tree,
    folder: Id,
    dir: Id,
    names: &[&[u8]],
    link: Inode,
) -> Result<Id> {
    let name = names.last().context("expected a name")?;
    let mtime = link.meta.mtime;
    let id = root.insert_at(dir, name, link)?;
    let target = make_folder(root, names, mtime)?;
    root.move_entries(folder, target)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, Kind)]) -> Tree {
        let mut tree = Tree::new();
        for (path, kind) in entries {
            let inode = Inode { meta: Metadata::root(0o755, 1), kind: kind.clone(), part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        }
        tree
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.walk().skip(1).map(|w| String::from_utf8_lossy(&w.path).into_owned()).collect()
    }

    #[test]
    fn joins_folders_and_links_to_folders() {
        let file = || Kind::bytes(&b"x"[..]);
        let link = || Kind::Symlink(b"usr/lib"[..].into());
        let kernel = tree(&[("lib/modules/a.ko", file())]);
        let merged = tree(&[("lib", link()), ("usr/lib/libc.so", file())]);
        let expected =
            ["lib", "usr", "usr/lib", "usr/lib/libc.so", "usr/lib/modules", "usr/lib/modules/a.ko"];
        for images in [[&kernel, &merged], [&merged, &kernel]] {
            let mut root = Tree::new();
            for image in images {
                overlay(&mut root, image, 1).unwrap();
            }
            assert_eq!(paths(&root), expected);
        }
    }
}
