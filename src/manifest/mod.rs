//! The manifest: LinuxKit's YAML, loaded, merged and checked.
//!
//! Every value that can turn out wrong keeps its [`Place`]; everything that is
//! wrong is told at once, as one [`InvalidManifest`]. What each key means and
//! how it is checked stands once, in the structs here: decoder, JSON schema
//! and dump are made from them (see `part`).
//!
//! Follows LinuxKit 1.8's docs/yaml.md. Moby's own keys: `restart`, `after`
//! and `ready` of services, and `disk`. What images bring along, and what the
//! absence of a key stands for, is left to the assembly.

mod check;
mod disk;
mod dump;
mod emit;
mod image;
mod load;
pub(crate) mod node;
pub(crate) mod part;
mod place;
mod plain;
mod resource;
mod service;
mod suggest;
pub(crate) mod text;
mod yaml;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::oci::{Platform, Reference};
use part::{Decoder, Part, record};

pub use disk::{Data, DataFilesystem, Disk, Root, Sector, Size, Table};
pub use image::{
    CompleteMount, Device, DeviceKind, IdMapping, ImageConfig, Interface, Mount, Namespaces,
    Runtime,
};
pub use load::{load, parse, standard_input};
pub use place::{Invalid, InvalidManifest, Place, Spanned};
pub use resource::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, PageSize, Pids,
    Resources, ThrottleDevice, WeightDevice,
};
pub use service::{Address, Container, Ready, Restart, RestartFigures, Service};
pub use text::{Bind, CAPABILITIES, Capability, Id, Mode, Rlimit, Tmpfs};

use text::words;

record! {
    /// What a system is made of.
    Manifest as "manifest" {
        /// The kernel and what is booted with it.
        kernel: Option<Kernel> = "kernel",
        /// Images that are unpacked into the root file system, in this order.
        init: Vec<Spanned<Reference>> = "init",
        /// Containers that run one after another before the services.
        onboot: Vec<Container> = "onboot",
        /// Containers that run one after another at shutdown.
        onshutdown: Vec<Container> = "onshutdown",
        /// Containers that run as long as the system.
        services: Vec<Service> = "services",
        /// Files that are added to the root file system, after all else.
        files: Vec<File> = "files",
        /// Folders that containers share.
        volumes: Vec<Volume> = "volumes",
        /// What a disk image looks like.
        disk: Option<Disk> = "disk",
        /// Accepted and ignored, as LinuxKit does since Docker Content Trust ended.
        trust: Option<Trust> = "trust",
    }

    /// The kernel and what is booted with it.
    Kernel as "kernel" {
        /// Image that holds the kernel.
        image: Option<Spanned<Reference>> = "image",
        /// The kernel's command line.
        cmdline: Option<Spanned<String>> = "cmdline",
        /// Name of the kernel in the image; `kernel` by default.
        binary: Option<Spanned<String>> = "binary",
        /// Name of the tar file of modules in the image; `kernel.tar` by
        /// default, none if empty or `none`.
        tar: Option<Spanned<String>> = "tar",
        /// Name of the cpio file of CPU microcode in the image; none by default.
        ucode: Option<Spanned<String>> = "ucode",
    }

    /// A file, folder or symbolic link to add: what the first of `directory`,
    /// `symlink`, `contents`, `source`, `metadata` says.
    File as "file" check check::file {
        /// Path in the root file system.
        path: Spanned<String> = "path",
        /// Makes a folder.
        directory: bool = "directory",
        /// Makes a symbolic link to this.
        symlink: Option<Spanned<String>> = "symlink",
        /// The contents themselves.
        contents: Option<String> = "contents",
        /// File of the host that holds the contents; may begin with `~/`.
        source: Option<Spanned<String>> = "source",
        /// Writes this manifest, merged and resolved: `yaml` or `json`.
        metadata: Option<Spanned<Metadata>> = "metadata",
        /// Leaves the file out when its source cannot be read.
        optional: bool = "optional",
        /// Permission bits, octal in quotes; "0600" by default, "0700" for folders.
        mode: Option<Spanned<Mode>> = "mode",
        /// Owner: a number, or the name of a container; root by default.
        uid: Option<Spanned<Id>> = "uid",
        /// Group: a number, or the name of a container; root by default.
        gid: Option<Spanned<Id>> = "gid",
    }

    /// A folder that containers share, named in their `binds` or `mounts`.
    Volume as "volume" check check::volume {
        /// Name: lower-case letters, digits, `_` and `-`.
        name: Spanned<String> = "name",
        /// Image that fills the volume; an empty one by default.
        image: Option<Spanned<Reference>> = "image",
        /// Forbids containers to write to it.
        readonly: Option<bool> = "readonly",
        /// How the image fills it: `filesystem` (the default) or `oci`, a layout.
        format: Option<Spanned<VolumeFormat>> = "format",
        /// Platforms of the image to take, for `oci`; all by default.
        platforms: Option<Vec<Spanned<Platform>>> = "platforms",
    }

    /// Accepted and ignored.
    Trust as "trust" {
        /// Images that had to be signed.
        image: Option<Vec<String>> = "image",
        /// Organisations whose images had to be signed.
        org: Option<Vec<String>> = "org",
    }
}

words! {
    /// How an image fills a volume.
    VolumeFormat {
        /// With its files.
        Filesystem = "filesystem",
        /// With itself, as an OCI image layout.
        Oci = "oci",
    }

    /// A form that the manifest can be written into the image in.
    Metadata {
        /// As YAML.
        Yaml = "yaml",
        /// As JSON.
        Json = "json",
    }
}

impl Volume {
    /// Returns the image that the volume holds whole, as a layout.
    pub fn layout(&self) -> Option<&Spanned<Reference>> {
        self.image.as_ref().filter(|_| self.is_layout())
    }

    /// Returns the image whose files fill the volume.
    pub fn files(&self) -> Option<&Spanned<Reference>> {
        self.image.as_ref().filter(|_| !self.is_layout())
    }

    fn is_layout(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format.value == VolumeFormat::Oci)
    }
}

impl Manifest {
    /// Finds a volume by its name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name.value == name)
    }

    /// Tells everything that would write to a read-only volume.
    ///
    /// Apart from [`load()`], because such a manifest is well formed: LinuxKit
    /// prints it, and refuses only to build it.
    pub fn check_access(&self) -> Result<(), InvalidManifest> {
        place::finish(Some(()), check::access(self))
    }

    /// Returns the containers of all sections: onboot, onshutdown, services.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        let services = self.services.iter().map(|service| &service.container);
        self.onboot.iter().chain(&self.onshutdown).chain(services)
    }
}

/// Reads the text of an image's label `org.mobyproject.config`, YAML or JSON.
///
/// `origin` is what errors call it, such as the image's name. An empty label
/// is none.
pub fn parse_label(text: &str, origin: &str) -> Result<ImageConfig, InvalidManifest> {
    if text.is_empty() {
        return Ok(ImageConfig::default());
    }
    read(text, origin)
}

/// Reads a document of another kind than a manifest, such as a package's
/// `build.yml`, with everything that is wrong in it.
pub(crate) fn read<T: Part>(text: &str, name: &str) -> Result<T, InvalidManifest> {
    let source = place::Source { name: name.into(), folder: None, text: text.into() };
    let (value, problems) = decode(Arc::new(source));
    place::finish(value, problems)
}

/// Returns the JSON schema (2020-12) of manifests.
pub fn schema() -> Value {
    let mut shared = Map::new();
    Manifest::schema(&mut shared);
    let root = shared.remove("manifest").and_then(|root| root.as_object().cloned());
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!(SCHEMA_DIALECT));
    schema.insert("title".into(), json!("moby manifest"));
    schema.extend(root.unwrap_or_default());
    schema.insert("$defs".into(), shared.into());
    schema.into()
}

/// Names the dialect of the schema: an identifier, which nobody fetches.
const SCHEMA_DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Reads one document as a type, with everything that is wrong in it.
pub(crate) fn decode<T: Part>(source: Arc<place::Source>) -> (Option<T>, Vec<Invalid>) {
    let (node, problems) = yaml::parse(&source);
    let mut decoder = Decoder::new(source, problems);
    let value = match node {
        Some(node) => T::decode(&node, &mut decoder),
        None if decoder.problems.is_empty() => {
            let at = decoder.place(place::Mark::default());
            decoder.refuse(at.invalid("expected a mapping, got an empty document"))
        }
        None => None,
    };
    let mut problems = decoder.problems;
    problems.sort_by_key(|problem| (problem.at.line(), problem.at.column()));
    (value, problems)
}

#[cfg(test)]
mod tests;
