//! The system that a manifest comes to: one tree, a kernel, a command line.
//!
//! [`assemble`] reads as the recipe; each line of it is a file of this
//! folder. Nothing here fetches: the images are flattened already.
//!
//! Follows LinuxKit 1.8's docs/yaml.md, and its recorded output for what the
//! documentation leaves open.

mod bundle;
mod config;
mod file;
mod init;
mod kernel;
mod layered;
mod names;
mod rootfs;
mod sbom;
mod spec;
mod users;
mod volume;

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::env::EPOCH;
use crate::image::Image;
use crate::manifest::{Disk, Manifest, Spanned};
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::store::Store;
use crate::tree::{Content, Inode, Kind, Metadata, Tree};
use users::Users;

pub use kernel::Kernel;
pub use names::{name, references};
pub use sbom::Sbom;

/// Where a part of the tree came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The image by its full name, or a word of LinuxKit's for what is none.
    pub source: String,
    /// The manifest's entry, such as `services[0]`.
    pub location: String,
}

/// A whole operating system, ready to be written in any format.
#[derive(Clone, Debug)]
pub struct System {
    /// The root file system. What is needed to boot it lies below `boot` as
    /// well, which formats that boot it otherwise leave out.
    pub tree: Tree,
    /// What the inodes' `part` means; the first one stands for nothing.
    pub parts: Vec<Part>,
    /// The kernel with its command line and microcode.
    pub kernel: Option<Kernel>,
    /// What it runs on.
    pub platform: Platform,
    /// What a disk image of it looks like.
    pub disk: Option<Disk>,
}

/// An image that a manifest names, flattened.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its full name, as it stands in records.
    pub name: String,
    /// Its files and config.
    pub image: Image,
    /// The store's blobs that state what is in it: in-toto, about SPDX.
    pub statements: Vec<Digest>,
}

/// All that assembling needs besides the manifest.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Every image that the manifest names, OCI volumes aside.
    pub images: &'a BTreeMap<Reference, Named>,
    /// The indexes or manifests of the OCI volumes' images.
    pub layouts: &'a BTreeMap<String, Descriptor>,
    /// The store that holds the images.
    pub store: &'a Store,
    /// The platform that the system is for.
    pub platform: &'a Platform,
    /// Takes the kernel out of the wrapping that unpacks it at boot.
    pub decompress_kernel: bool,
    /// The bill of materials to add, if any.
    pub sbom: Option<&'a Sbom>,
}

/// Assembles a system.
pub fn assemble(manifest: &Manifest, inputs: &Inputs<'_>) -> Result<System> {
    manifest.check_access()?;
    let mut assembly = Assembly::new(manifest, inputs);
    assembly.add_kernel()?;
    assembly.add_init()?;
    assembly.add_volumes()?;
    assembly.add_containers()?;
    assembly.add_files()?;
    assembly.add_sbom()?;
    Ok(System {
        tree: assembly.tree,
        parts: assembly.parts,
        kernel: assembly.kernel,
        platform: inputs.platform.clone(),
        disk: manifest.disk.clone(),
    })
}

/// A system in the making.
struct Assembly<'a> {
    manifest: &'a Manifest,
    inputs: &'a Inputs<'a>,
    users: Users,
    tree: Tree,
    parts: Vec<Part>,
    kernel: Option<Kernel>,
    /// Where each image's files lie in the tree, by its first user.
    stored: BTreeMap<String, String>,
    /// Every image whose files are in the tree, and where.
    inventory: Vec<(String, &'a Named)>,
}

impl<'a> Assembly<'a> {
    fn new(manifest: &'a Manifest, inputs: &'a Inputs<'a>) -> Self {
        Self {
            manifest,
            inputs,
            users: Users::of(manifest),
            tree: Tree::new(),
            parts: vec![Part::default()],
            kernel: None,
            stored: BTreeMap::new(),
            inventory: Vec::new(),
        }
    }

    /// Returns the image of a reference.
    fn image(&self, reference: &Spanned<Reference>) -> Result<&'a Named> {
        let found = self.inputs.images.get(&reference.value);
        found.with_context(|| format!("expected image {} to be fetched", reference.value))
    }

    /// Returns the full name of an image, as it stands in records.
    fn name_of(&self, reference: &Reference) -> String {
        let named = self.inputs.images.get(reference).map(|named| named.name.clone());
        named.unwrap_or_else(|| reference.to_string())
    }

    /// Returns the number of a part.
    fn part(&mut self, source: &str, location: String) -> u32 {
        let part = Part { source: source.to_owned(), location };
        let known = self.parts.iter().position(|known| *known == part);
        let index = known.unwrap_or_else(|| {
            self.parts.push(part);
            self.parts.len() - 1
        });
        u32::try_from(index).expect("a manifest has fewer than 2^32 entries")
    }

    /// Makes a folder and those above it, mode 0755, all as of one part.
    fn add_folders(&mut self, path: &str, part: u32) -> Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let inode = generated(0o755, Kind::directory(), part);
            self.tree.insert(&path.as_bytes()[..end], inode)?;
        }
        Ok(())
    }

    /// Adds a file that moby makes itself.
    fn add_bytes(&mut self, path: &str, bytes: Vec<u8>, part: u32) -> Result<()> {
        self.tree.insert(path.as_bytes(), generated(0o644, Kind::bytes(bytes), part))?;
        Ok(())
    }
}

/// Describes something of root's with the time of all that is generated.
fn generated(mode: u16, kind: Kind, part: u32) -> Inode {
    Inode { meta: Metadata::root(mode, EPOCH), kind, part }
}

/// Returns the contents of a regular file of a tree.
fn regular<'t>(tree: &'t Tree, path: &[u8]) -> Option<(&'t Metadata, &'t Content)> {
    let inode = tree.get(tree.lookup(path)?);
    match &inode.kind {
        Kind::File(content) => Some((&inode.meta, content)),
        _ => None,
    }
}
