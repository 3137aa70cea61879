//! moby assembles whole operating systems out of container images.
//!
//! The pipeline, and with it the map of this crate. Each stage is a plain
//! function from one noun to the next; a folder uses only those above it.
//!
//! ```text
//! Manifest ─resolve▶ Lock ─fetch▶ Store ─flatten▶ Image
//!                                                   │ assemble
//!                       Format ◀──write── System ◀──┘
//! ```
//!
//! - [`oci`]: digest, reference, platform, index, manifest, config: no I/O.
//! - [`tree`]: a file system in memory, metadata only.
//! - [`store`]: content by digest on disk, and layers unpacked and indexed.
//! - [`fs`]: file systems on disk: a tree to bytes, and back to look at.
//! - [`disk`]: partition tables and virtual disks: bytes to bytes.
//! - [`boot`]: what firmware starts from: EFI files, boot code, ESP, discs.
//! - [`manifest`]: the YAML, loaded, merged, checked; every value knows its place.
//! - [`source`]: where images come from: the Debian archive and others.
//! - [`inspect`]: what an image is, told by looking, and what differs in two.
//! - [`package`]: folders with a `build.yml`, built into images.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod boot;
pub mod cli;
pub mod disk;
pub mod env;
pub mod error;
pub mod format;
pub mod fs;
pub mod image;
pub mod inspect;
pub mod manifest;
pub mod oci;
pub mod package;
pub mod run;
pub mod source;
pub mod store;
pub mod system;
pub mod tree;
