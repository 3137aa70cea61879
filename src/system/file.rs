//! The manifest's `files`: put into the root after everything else.
//!
//! Unlike LinuxKit, an entry leaves the folders above it that exist as they
//! are; see its golden cases 070, 072 and 113.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Assembly, generated};
use crate::env;
use crate::manifest::{File, Spanned};
use crate::oci::Reference;
use crate::tree::{Content, Inode, Kind, components};

/// LinuxKit's name for the source of these files.
const SOURCE: &str = "linuxkit.files";

impl Assembly<'_> {
    /// Adds the manifest's files.
    pub(super) fn add_files(&mut self) -> Result<()> {
        let mut made = BTreeSet::new();
        for (index, file) in self.manifest.files.iter().enumerate() {
            self.add_file(index, file, &mut made)
                .with_context(|| format!("{}: adding file {}", file.path.at, file.path))?;
        }
        Ok(())
    }

    fn add_file(&mut self, index: usize, file: &File, made: &mut BTreeSet<Vec<u8>>) -> Result<()> {
        let Some(kind) = self.contents(file)? else {
            return Ok(());
        };
        let part = self.part(SOURCE, format!("files[{index}]"));
        let default = if file.directory { 0o700 } else { 0o600 };
        let mode = file.mode.as_ref().map_or(default, |mode| mode.value.0);
        let mut inode = generated(mode, kind, part);
        inode.meta.uid = self.users.id(file.uid.as_ref())?;
        inode.meta.gid = self.users.id(file.gid.as_ref())?;
        let path = components(file.path.as_bytes())?.join(&b'/');
        self.add_parents(&path, &inode, file.directory, made)?;
        made.insert(path.clone());
        self.tree.insert(&path, inode)?;
        Ok(())
    }

    /// Makes the folders above a file that are missing. Those of a folder are
    /// as open as itself, those of a file open to all.
    fn add_parents(
        &mut self,
        path: &[u8],
        file: &Inode,
        folder: bool,
        made: &mut BTreeSet<Vec<u8>>,
    ) -> Result<()> {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &path[..end];
            if !made.insert(parent.to_vec()) {
                continue;
            }
            let known = self.tree.lookup(parent).map(|id| self.tree.get_mut(id));
            match known {
                Some(known) if matches!(known.kind, Kind::Directory(_)) => known.part = file.part,
                _ => {
                    let mode = if folder { passable(file.meta.mode) } else { 0o755 };
                    let mut inode = generated(mode, Kind::directory(), file.part);
                    (inode.meta.uid, inode.meta.gid) = (file.meta.uid, file.meta.gid);
                    self.tree.insert(parent, inode)?;
                }
            }
        }
        Ok(())
    }

    /// Returns what a file is, or `None` for an optional one without source.
    fn contents(&self, file: &File) -> Result<Option<Kind>> {
        let given = |text: &Option<Spanned<String>>| {
            text.as_ref().map(|text| text.value.clone()).filter(|text| !text.is_empty())
        };
        if file.directory {
            return Ok(Some(Kind::directory()));
        }
        if let Some(target) = given(&file.symlink) {
            return Ok(Some(Kind::Symlink(target.into_bytes().into())));
        }
        if let Some(contents) = &file.contents {
            return Ok(Some(Kind::bytes(contents.as_bytes())));
        }
        if let Some(metadata) = &file.metadata {
            let name = |reference: &Reference| self.name_of(reference);
            let text = self.manifest.metadata(metadata.value, &name);
            return Ok(Some(Kind::bytes(text.into_bytes())));
        }
        let source = given(&file.source).context("expected contents, got none")?;
        self.source(&source, file.optional)
    }

    /// Copies a file of the host into the store, so that what is digested is
    /// what is written even if the file changes meanwhile.
    fn source(&self, source: &str, optional: bool) -> Result<Option<Kind>> {
        let path = match (source.strip_prefix("~/"), env::home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(source),
        };
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let (digest, len) = self
            .inputs
            .store
            .put_from(&mut file)
            .with_context(|| format!("reading {}", path.display()))?;
        let file = self.inputs.store.open_blob(&digest)?.into();
        Ok(Some(Kind::File(Content::Span { file, offset: 0, len, digest })))
    }
}

/// Lets whoever may read a folder pass through it, too.
fn passable(mode: u16) -> u16 {
    [0o700, 0o070, 0o007].into_iter().fold(mode, |mode, who| match mode & who {
        0 => mode,
        _ => mode | (who & 0o111),
    })
}
