//! The distinct contents of a tree, ready to be packed: files of equal digest
//! count once, and what belongs to one part of the system stays together, so
//! that a part that did not change is packed the same way again and can be
//! taken from the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::oci::{Digest, Hasher};
use crate::store::Store;
use crate::tree::{Content, Id, Kind, Tree};

/// Smaller groups are packed again rather than kept, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

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
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut groups: BTreeMap<u32, Vec<(Id, Digest)>> = BTreeMap::new();
        for found in tree.walk().filter(|found| !found.link) {
            let inode = tree.get(found.id);
            if let Kind::File(content) = &inode.kind
                && !content.is_empty()
            {
                groups.entry(inode.part).or_default().push((found.id, content.digest()));
            }
        }
        let by_inode = vec![None; tree.capacity()];
        let mut all = Self { groups: Vec::new(), by_inode };
        let mut known = BTreeMap::new();
        for files in groups.into_values() {
            all.group(tree, files, &mut known);
        }
        all
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

    /// Writes this group's pack to `out` and returns its index: made by
    /// `make`, or taken from the store where a pack of these contents with
    /// these settings was kept. `kind` names the maker, with a version.
    pub(crate) fn pack<I: Serialize + DeserializeOwned>(
        &self,
        store: Option<&Store>,
        (kind, settings): (&str, &str),
        out: &mut dyn Write,
        make: impl FnOnce(&Self, &mut dyn Write) -> Result<I> + Send,
    ) -> Result<I> {
        let Some(store) = store.filter(|_| self.bytes() >= WORTH_KEEPING) else {
            return make(self, out);
        };
        let file = store.derived_in_parallel(kind, &self.key(settings), |kept| {
            let index = make(self, &mut &mut *kept)?;
            let index = postcard::to_stdvec(&index).context("encoding a pack's index")?;
            kept.write_all(&index).context("writing a pack's index")?;
            let len = index.len() as u64;
            kept.write_all(&len.to_le_bytes()).context("writing a pack's index")
        })?;
        unpack(file, out).with_context(|| format!("reading a pack of kind {kind} in the store"))
    }
}

/// Copies a kept pack's body to `out` and returns its index.
fn unpack<I: DeserializeOwned>(mut file: File, out: &mut dyn Write) -> Result<I> {
    let len = file.seek(SeekFrom::End(0))?;
    ensure!(len >= 8, "expected a pack with an index, got {len} bytes");
    let mut index_len = [0; 8];
    file.read_exact_at(&mut index_len, len - 8)?;
    let index_len = u64::from_le_bytes(index_len);
    let body = (len - 8).checked_sub(index_len).context("expected the index within the pack")?;
    let mut index = vec![0; usize::try_from(index_len)?];
    file.read_exact_at(&mut index, body)?;
    let index = postcard::from_bytes(&index).context("decoding a pack's index")?;
    file.rewind()?;
    let mut body = file.take(body);
    let mut buf = vec![0; 1 << 20];
    loop {
        let n = body.read(&mut buf)?;
        if n == 0 {
            return Ok(index);
        }
        out.write_all(&buf[..n]).context("writing packed contents")?;
    }
}
