//! The distinct contents of a tree, ready to be packed: files of equal digest
//! count once, and what belongs to one part of the system stays together, so
//! that a part that did not change is packed the same way again and can be
//! taken from the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Extents, Piece};
use crate::oci::{Digest, Hasher};
use crate::store::Store;
use crate::tree::{Content, Id, Kind, Tree};

/// Smaller groups are packed again, in memory, rather than kept, in bytes.
const WORTH_KEEPING: u64 = 256 << 10;

/// Contents that belong together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The contents, none of them empty, none twice.
    pub(crate) contents: Vec<Content>,
    digests: Vec<Digest>,
}

/// Where a file's contents are: a group, and an index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the group.
    pub(crate) group: usize,
    /// Index within the group.
    pub(crate) index: usize,
}

/// The distinct contents of a tree.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The groups, by part.
    pub(crate) groups: Vec<Group>,
    by_inode: Vec<Option<Place>>,
}

impl Contents {
    /// Finds the distinct contents of a tree, in the order of its walk.
    pub(crate) fn of(tree: &Tree) -> Result<Self> {
        let mut groups: BTreeMap<u32, Vec<(Id, Digest)>> = BTreeMap::new();
        for found in tree.walk().filter(|found| !found.link) {
            let inode = tree.get(found.id);
            if let Kind::File(content) = &inode.kind
                && !content.is_empty()
            {
                groups.entry(inode.part).or_default().push((found.id, content.digest()?));
            }
        }
        let by_inode = vec![None; tree.capacity()];
        let mut all = Self { groups: Vec::new(), by_inode };
        let mut known = BTreeMap::new();
        for files in groups.into_values() {
            all.group(tree, files, &mut known);
        }
        Ok(all)
    }

    fn group(
        &mut self,
        tree: &Tree,
        files: Vec<(Id, Digest)>,
        known: &mut BTreeMap<Digest, Place>,
    ) {
        let mut group = Group::default();
        for (id, digest) in files {
            let next = Place { group: self.groups.len(), index: group.contents.len() };
            let place = *known.entry(digest).or_insert(next);
            if place == next
                && let Kind::File(content) = &tree.get(id).kind
            {
                group.contents.push(content.clone());
                group.digests.push(digest);
            }
            self.by_inode[id.index()] = Some(place);
        }
        self.groups.push(group);
    }

    /// Returns where a file's contents are; `None` where it is empty.
    pub(crate) fn place(&self, id: Id) -> Option<Place> {
        self.by_inode[id.index()]
    }
}

impl Group {
    fn bytes(&self) -> u64 {
        self.contents.iter().map(Content::len).sum()
    }

    /// Names all that a pack of this group depends on.
    fn key(&self, settings: &str) -> Digest {
        let mut hasher = Hasher::new(io::sink());
        let fed = self.digests.iter().try_for_each(|digest| hasher.write_all(digest.bytes()));
        fed.and_then(|()| hasher.write_all(settings.as_bytes())).expect("a sink takes all");
        hasher.finish().1
    }

    /// Returns this group's pack and its index: made by `make`, or found in
    /// the store where a pack of these contents with these settings was kept.
    /// `kind` names the maker, with a version.
    pub(crate) fn pack<I: Serialize + DeserializeOwned>(
        &self,
        store: Option<&Store>,
        (kind, settings): (&str, &str),
        make: impl FnOnce(&Self, &mut dyn Write) -> Result<I> + Send,
    ) -> Result<(I, Extents)> {
        if self.bytes() < WORTH_KEEPING {
            let mut body = Vec::new();
            let index = make(self, &mut body)?;
            return Ok((index, Extents::of_bytes(body)));
        }
        let Some(store) = store else {
            return self.pack_apart(make);
        };
        let file = store.derived_in_parallel(kind, &self.key(settings), |kept| {
            let index = make(self, &mut &mut *kept)?;
            let index = postcard::to_stdvec(&index).context("encoding a pack's index")?;
            kept.write_all(&index).context("writing a pack's index")?;
            let len = index.len() as u64;
            kept.write_all(&len.to_le_bytes()).context("writing a pack's index")
        })?;
        kept(file).with_context(|| format!("reading a pack of kind {kind} in the store"))
    }

    /// Packs into a file without a name.
    fn pack_apart<I>(
        &self,
        make: impl FnOnce(&Self, &mut dyn Write) -> Result<I>,
    ) -> Result<(I, Extents)> {
        let file = tempfile::tempfile().context("making a file for packed contents")?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        let index = make(self, &mut out)?;
        out.flush().context("writing packed contents")?;
        drop(out);
        Ok((index, Extents::of_file(&Arc::new(file))?))
    }
}

/// Returns a kept pack's index, and its body where it is.
fn kept<I: DeserializeOwned>(file: File) -> Result<(I, Extents)> {
    let len = file.metadata()?.len();
    ensure!(len >= 8, "expected a pack with an index, got {len} bytes");
    let mut index_len = [0; 8];
    file.read_exact_at(&mut index_len, len - 8)?;
    let index_len = u64::from_le_bytes(index_len);
    let end = (len - 8).checked_sub(index_len).context("expected the index within the pack")?;
    let mut index = vec![0; usize::try_from(index_len)?];
    file.read_exact_at(&mut index, end)?;
    let index = postcard::from_bytes(&index).context("decoding a pack's index")?;
    let mut body = Extents::default();
    body.put_piece(0, end, &Piece::Span { file: Arc::new(file), from: 0 });
    Ok((index, body))
}
