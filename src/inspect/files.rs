//! The files of a tree: found by path, counted, put into a folder on disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

use crate::error::WithHint;
use crate::fs::largest;
use crate::tree::{Id, Kind, Tree, components, join};

/// How many links one path may lead over, as in Linux.
const LINKS_MAX: usize = 40;
/// How many folders are told as the largest.
const LARGEST: usize = 8;

/// What a tree comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Regular files; one of several names counts once.
    pub files: u64,
    /// Folders, without the root.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Devices, pipes and sockets.
    pub nodes: u64,
    /// Further names of files.
    pub names: u64,
    /// What the files hold, in bytes.
    pub bytes: u64,
    /// The largest folders.
    pub largest: Vec<Folder>,
}

/// A folder and all that lies below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Folder {
    /// Its path, without a slash at either end; empty for the root.
    pub path: String,
    /// How many files lie below it.
    pub files: u64,
    /// What these hold, in bytes.
    pub bytes: u64,
}

/// Counts what is in a tree.
pub fn totals(tree: &Tree) -> Totals {
    let mut totals = Totals::default();
    for found in tree.walk() {
        match &tree.get(found.id).kind {
            _ if found.link => totals.names += 1,
            Kind::Directory(_) => totals.folders += u64::from(!found.path.is_empty()),
            Kind::File(content) => {
                totals.files += 1;
                totals.bytes = totals.bytes.saturating_add(content.len());
            }
            Kind::Symlink(_) => totals.links += 1,
            _ => totals.nodes += 1,
        }
    }
    let folder = |folder: crate::fs::Folder| Folder {
        path: String::from_utf8_lossy(&folder.path).into_owned(),
        files: folder.files,
        bytes: folder.bytes,
    };
    totals.largest = largest(tree, LARGEST).into_iter().map(folder).collect();
    totals
}

/// Finds a path as a process in the tree would: links lead on, never out.
/// Gives back the path that it comes to as well.
pub fn resolve(tree: &Tree, path: &[u8]) -> Result<(Vec<u8>, Id)> {
    let missing = |path: &[u8]| anyhow!("no file `/{}` is there", String::from_utf8_lossy(path));
    let mut left: Vec<Vec<u8>> = split(path);
    let (mut at, mut links) = (Vec::new(), 0);
    let mut id = tree.root();
    while let Some(name) = left.pop() {
        if name == b".." {
            let parent = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            at.truncate(parent);
            id = tree.lookup(&at).ok_or_else(|| missing(&at))?;
            continue;
        }
        let inner = join(&at, &name);
        let found = tree.child(id, &name).ok_or_else(|| missing(&inner)).hint(|| {
            let folder = String::from_utf8_lossy(&at);
            format!("list what is there: `moby inspect IMAGE /{folder} --files`")
        })?;
        if let Kind::Symlink(target) = &tree.get(found).kind {
            links += 1;
            ensure!(links <= LINKS_MAX, "expected at most {LINKS_MAX} links on the way");
            if target.starts_with(b"/") {
                (at, id) = (Vec::new(), tree.root());
            }
            left.extend(split(target));
        } else {
            (at, id) = (inner, found);
        }
    }
    Ok((at, id))
}

/// Splits a path into names, the last one first.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty() && *name != b".").rev().map(<[u8]>::to_vec).collect()
}

/// What was put into a folder, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extracted {
    /// Files, folders and links.
    pub made: u64,
    /// Devices, pipes and sockets, which were left out.
    pub left_out: u64,
}

/// Puts what is below a path of a tree into a folder, which must be new or
/// empty: files with their permissions, links as they are. Owners, setuid
/// bits, times and attributes are left behind, and so are devices. As the
/// folder is empty and a tree has no two things of one path, nothing leads
/// over a link.
pub fn extract(tree: &Tree, from: &[u8], to: &Path) -> Result<Extracted> {
    let shown = to.display();
    if to.exists() {
        let empty = fs::read_dir(to).with_context(|| format!("reading {shown}"))?.next().is_none();
        ensure!(empty, "expected {shown} to be empty or not there");
    } else {
        fs::create_dir_all(to).with_context(|| format!("making {shown}"))?;
    }
    let mut done = Extracted::default();
    for found in tree.walk().filter(|found| !found.path.is_empty()) {
        let Some(inner) = below(from, &found.path) else { continue };
        let path = to.join(std::ffi::OsStr::from_bytes(inner));
        let made = put(tree, found.id, &path).with_context(|| format!("making {}", path.display()));
        match made? {
            true => done.made += 1,
            false => done.left_out += 1,
        }
    }
    Ok(done)
}

/// Returns a path as seen from a folder; what is named itself keeps its name.
pub fn below<'a>(folder: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if folder.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(folder)?;
    match rest.first() {
        None => path.rsplit(|byte| *byte == b'/').next(),
        Some(b'/') => {
            let name = folder.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            Some(&path[folder.len() - name.len()..])
        }
        Some(_) => None,
    }
}

fn put(tree: &Tree, id: Id, path: &Path) -> Result<bool> {
    let inode = tree.get(id);
    let mode = u32::from(inode.meta.mode) & 0o777;
    match &inode.kind {
        // What is to be in it has to get there.
        Kind::Directory(_) => DirBuilder::new().mode(mode | 0o700).create(path)?,
        Kind::File(content) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            copy(content, file, mode)?;
        }
        Kind::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), path)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn copy(content: &crate::tree::Content, file: File, mode: u32) -> Result<()> {
    let mut out = BufWriter::with_capacity(256 << 10, file);
    content.copy_to(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.set_permissions(Permissions::from_mode(mode))?)
}

/// Writes what a file holds.
pub fn cat(tree: &Tree, id: Id, out: &mut dyn Write) -> Result<()> {
    match &tree.get(id).kind {
        Kind::File(content) => content.copy_to(out),
        other => bail!("expected a file, got a {}", super::compare::word(other)),
    }
}

/// Turns what a person wrote into a path of a tree.
pub fn path(text: &str) -> Result<Vec<u8>> {
    Ok(components(text.as_bytes())?.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let link = |target: &[u8]| Kind::Symlink(target.into());
        let all = [
            ("usr/bin/sh", Kind::bytes(&b"shell"[..])),
            ("bin", link(b"usr/bin")),
            ("etc/out", link(b"../../../usr/bin/sh")),
            ("etc/loop", link(b"loop")),
            ("etc/up", link(b"/bin/../bin/sh")),
            ("dev/null", Kind::Char(1, 3)),
        ];
        for (path, kind) in all {
            let inode = Inode { meta: Metadata::root(0o4750, 0), kind, part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        }
        tree
    }

    #[test]
    fn follows_links_inside_the_tree() {
        let tree = tree();
        let wanted = tree.lookup(b"usr/bin/sh").unwrap();
        for path in ["usr/bin/sh", "/bin/sh", "etc/out", "etc/up", "etc/../bin/./sh"] {
            let (found, id) = resolve(&tree, path.as_bytes()).unwrap();
            assert_eq!((id, found.as_slice()), (wanted, &b"usr/bin/sh"[..]), "{path}");
        }
        for path in ["etc/loop", "none", "usr/bin/sh/x"] {
            assert!(resolve(&tree, path.as_bytes()).is_err(), "{path}");
        }
        assert_eq!(resolve(&tree, b"/").unwrap().1, tree.root());
    }

    #[test]
    fn puts_files_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("all");
        let done = extract(&tree(), b"", &to).unwrap();
        assert_eq!(done, Extracted { made: 9, left_out: 1 });
        assert_eq!(fs::read(to.join("usr/bin/sh")).unwrap(), b"shell");
        let mode = fs::metadata(to.join("usr/bin/sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        assert_eq!(fs::read_link(to.join("bin")).unwrap(), Path::new("usr/bin"));
        assert!(extract(&tree(), b"", &to).is_err());
        let to = folder.path().join("part");
        extract(&tree(), b"usr/bin", &to).unwrap();
        assert_eq!(fs::read(to.join("bin/sh")).unwrap(), b"shell");
    }

    #[test]
    fn counts() {
        let mut tree = tree();
        let id = tree.lookup(b"usr/bin/sh").unwrap();
        tree.link(id, b"usr/bin/ash").unwrap();
        let totals = totals(&tree);
        let counts = (totals.files, totals.folders, totals.links, totals.nodes, totals.names);
        assert_eq!(counts, (1, 4, 4, 1, 1));
        assert_eq!((totals.bytes, totals.largest[0].path.as_str()), (5, "usr/bin"));
    }
}
