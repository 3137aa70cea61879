//! The data partition, which outlives the root: an ext4 file system of what
//! the system has below /var, which PID 1 mounts there and lets grow to the
//! end of its disk.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use moby_bundle::path;

use super::Output;
use super::able;
use super::identity::identity;
use crate::disk::{Guid, gpt};
use crate::error::WithHint;
use crate::fs::{Extents, ext4};
use crate::manifest;
use crate::oci::Hasher;
use crate::store::Store;
use crate::system::System;
use crate::tree::{Id, Inode, Kind, Tree};

/// Where the data is mounted.
const PLACE: &[u8] = b"var";
/// Label of the file system, where the manifest has none.
const LABEL: &str = "data";
/// Free space of a file system that nobody gave a size, in bytes.
const FREE: u64 = 64 << 20;
/// The size of disk for which a file system that grows is made, in bytes: its
/// journal and the density of its inodes go by it.
const GROWN: u64 = 1 << 30;

/// File systems of a given size below this one have a journal of that length,
/// the shortest there is, in bytes.
const SMALL: u64 = 64 << 20;
const SHORT: u64 = 4 << 20;

/// A system whose disk has a data partition: without the data, and these.
#[derive(Debug)]
pub(super) struct Data {
    /// The system without what lies below /var.
    pub(super) system: System,
    tree: Tree,
    asked: manifest::Data,
}

impl Data {
    /// Takes the data out of a system, `None` where its disk has none.
    pub(super) fn of(system: &System) -> Result<Option<Self>> {
        let Some(asked) = system.disk.as_ref().and_then(|disk| disk.data.clone()) else {
            return Ok(None);
        };
        able::data(system)?;
        let (rest, tree) = split(&system.tree).context("taking out what lies below /var")?;
        Ok(Some(Self { system: System { tree: rest, ..system.clone() }, tree, asked }))
    }

    /// Makes the partition.
    pub(super) fn partition(&self, disk: Guid, store: &Store) -> Result<gpt::Partition> {
        let id = Guid::derive(&disk.bytes(), "data");
        let image = self.image(id, store).context("writing the data partition")?;
        let mut partition = gpt::Partition::new(gpt::VAR, "data", image);
        partition.id = Some(id);
        Ok(partition)
    }

    fn image(&self, id: Guid, store: &Store) -> Result<Extents> {
        let label = self.asked.label.as_ref().map_or(LABEL, |label| &label.value);
        let size = self.asked.size.as_ref().map(|size| size.value.0);
        let options = ext4::Options {
            size,
            slack: Some(FREE),
            grown: self.grows().then_some(GROWN),
            // That of a disk to come would not fit.
            journal: size.filter(|size| *size < SMALL).map(|_| SHORT),
            label: label.to_owned(),
            uuid: Guid::derive(&id.bytes(), "ext4").bytes(),
            ..ext4::Options::default()
        };
        let mut key = Hasher::new(io::sink());
        let said = format!("{id} {size:?} {} {label}", self.grows());
        key.write_all(identity(&self.tree)?.bytes()).context("hashing")?;
        key.write_all(said.as_bytes()).context("hashing")?;
        let file = store.derived_in_parallel("data-ext4-1", &key.finish().1, |out| {
            ext4::write(&self.tree, &options, out)
        })?;
        Extents::of_file(&Arc::new(file))
    }

    fn grows(&self) -> bool {
        self.asked.grow.unwrap_or(true)
    }

    /// Returns the kernel arguments by which PID 1 knows the partition.
    pub(super) fn arguments(&self, partuuid: &str, gpt: bool) -> String {
        let mut words = format!("{}=PARTUUID={partuuid}", path::ARG_DATA);
        if self.grows() {
            words.push(' ');
            words.push_str(path::ARG_GROW);
            // Should the power fail while the first table is rewritten, the
            // kernel takes the second one.
            words.push_str(if gpt { " gpt" } else { "" });
        }
        words
    }
}

/// Refuses a system with data where there is no disk for it.
pub(super) fn refuse(system: &System, output: &Output<'_>) -> Result<()> {
    if system.disk.as_ref().is_none_or(|disk| disk.data.is_none()) {
        return Ok(());
    }
    let format = output.format;
    Err(anyhow!("expected a format with a disk for `data` below `disk:`, got {format}"))
        .hint(|| "name one, such as `--format raw` or qcow2, or leave `data` out".into())
}

/// Splits a tree into what lies below /var and the rest, which keeps an empty
/// folder in its place.
fn split(tree: &Tree) -> Result<(Tree, Tree)> {
    let (mut rest, mut below) = (tree.clone(), Tree::new());
    match tree.lookup(PLACE) {
        Some(id) if tree.is_folder(id) => {
            rest.clear(id);
            below.insert(b"", empty(tree.get(id)))?;
        }
        _ => {
            let mut folder = tree.get(tree.root()).clone();
            (folder.kind, folder.meta.mode) = (Kind::directory(), 0o755);
            rest.insert(PLACE, folder.clone())?;
            below.insert(b"", folder)?;
        }
    }
    let mut moved: Vec<Option<Id>> = vec![None; tree.capacity()];
    let mut kept: Vec<Option<Id>> = vec![None; tree.capacity()];
    let prefix = [PLACE, b"/"].concat();
    for found in tree.walk() {
        let at = found.id.index();
        if let Some(path) = found.path.strip_prefix(&prefix[..]) {
            match moved[at] {
                Some(id) => below.link(id, path)?,
                None => moved[at] = Some(below.insert(path, empty(tree.get(found.id)))?),
            }
        } else if found.link && moved[at].is_some() {
            // Its first name went with the data.
            match kept[at] {
                Some(id) => rest.link(id, &found.path)?,
                None => kept[at] = Some(rest.insert(&found.path, tree.get(found.id).clone())?),
            }
        }
    }
    Ok((rest, below))
}

/// Copies an inode, a folder without what is in it.
fn empty(inode: &Inode) -> Inode {
    match inode.kind {
        Kind::Directory(_) => Inode { kind: Kind::directory(), ..inode.clone() },
        _ => inode.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Metadata;

    fn file(text: &str) -> Inode {
        Inode { meta: Metadata::root(0o644, 0), kind: Kind::bytes(text.as_bytes()), part: 0 }
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let shown = |found: crate::tree::Walked| {
            let path = String::from_utf8_lossy(&found.path).into_owned();
            if found.link { format!("{path}=") } else { path }
        };
        tree.walk().map(shown).collect()
    }

    #[test]
    fn takes_var_out_with_its_links() {
        let mut tree = Tree::new();
        tree.insert(b"etc/x", file("x")).unwrap();
        let a = tree.insert(b"var/lib/a", file("a")).unwrap();
        tree.link(a, b"var/lib/b").unwrap();
        tree.link(a, b"zone").unwrap();
        tree.link(a, b"zone2").unwrap();
        let (rest, below) = split(&tree).unwrap();
        assert_eq!(paths(&below), ["", "lib", "lib/a", "lib/b="]);
        assert_eq!(paths(&rest), ["", "etc", "etc/x", "var", "zone", "zone2="]);
        let (rest, below) = split(&Tree::new()).unwrap();
        assert_eq!((paths(&rest), paths(&below)), (vec!["".into(), "var".into()], vec!["".into()]));
    }
}
